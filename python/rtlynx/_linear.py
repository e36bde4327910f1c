# SPDX-License-Identifier: Apache-2.0
"""Linears that multiply a 2:4-sparse input, and the input that several of them share."""

import torch
import torch.nn.functional as F
from torch import nn

from . import _e4m3
from ._compensation import InputTransform

# Set on a LynxLinear, all of them; restoring deletes them.
PARAMETERS = ("lynx_down", "lynx_up", "lynx_transform", "lynx_scale", "lynx_permutation")
# The weight in e4m3, the up projection in its unit, and of a group's first layer the unit itself and,
# behind a block transform, the down projections of what is before it; made of what the layer holds,
# never saved.
BUFFERS = ("lynx_codes", "lynx_code_up", "lynx_unit", "lynx_low")
_HOOKS = ("_hf_hook", "_diffusers_hook")  # accelerate's and diffusers'


def has_hook(module):
    """Whether a hook moves or casts this very module around its forward."""
    return any(hasattr(module, name) for name in _HOOKS)


def _version(x):
    # Tracing makes one function of all readers: nothing changes in between that it would not see.
    if torch.compiler.is_compiling() or x.is_inference():
        return None
    return x._version


class InputGroup:
    """Linears that read one input, in the order in which they run.

    The first that is called packs the input, multiplies all weights in one pass and leaves the
    results on the input tensor, where the others find them. So nothing outlives the input, and
    threads do not meet.

    The first member owns what belongs to the input: the stacked down projections and the transform.
    """

    def __init__(self, members, norm=True, slot=0):
        self.members = list(members)
        self.norm = norm
        self.e4m3 = False
        self.gain = 1.0  # of the transform, for e4m3
        self.slot = f"_rtlynx_{slot}"  # on the input; a group too large for one product has several

    def read(self, index, x):
        """The result of one member, which may be there already."""
        memo = getattr(x, self.slot, None)
        if memo is None or memo[0] is not self or memo[1] != _version(x) or not memo[2][index]:
            memo = self._prepare(x)
            setattr(x, self.slot, memo)
        _, _, unread, packed, results = memo
        unread[index] = False
        if results is None:
            result = self._product(packed, [index])[0]
        else:
            result, results[index] = results[index], None
        if True not in unread:
            setattr(x, self.slot, None)
        return result

    def run_alone(self, x, producer="none", up=None, activation="none"):
        """The result of the only member."""
        return self._product(self._pack(x, producer, up), [0], activation)[0]

    def _prepare(self, x):
        packed = self._pack(x)
        everyone = range(len(self.members))
        results = self._product(packed, everyone) if self._weights_are_there(x) else None
        return [self, _version(x), [True for _ in everyone], packed, results]

    def round_to_e4m3(self):
        """Makes the codes of the weights that the members have now."""
        owner = self.members[0]
        unit = _e4m3.unit_of([member.weight.data for member in self.members])
        self.e4m3 = True
        self.gain = _e4m3.gain_of(owner.lynx_transform)
        owner.lynx_unit = torch.tensor(unit, dtype=torch.float32, device=owner.weight.device)
        for member in self.members:
            member.lynx_codes = _e4m3.codes_of(member.weight.data, unit)
            member.lynx_code_up = None if member.lynx_up is None else member.lynx_up.data / unit

    def fold_down(self):
        """Lets the low ranks read what the block transform reads: L_down A^T, as ``pack`` takes it."""
        owner = self.members[0]
        if owner.lynx_transform is not None and owner.lynx_down is not None:
            blocks = InputTransform(owner.lynx_transform.mT)
            owner.lynx_low = blocks.down_before(owner.lynx_down.data)

    def _weights_are_there(self, x):
        if self.e4m3:  # codes stay where their module is
            return all(member.lynx_codes.device == x.device for member in self.members)
        # A prefetched weight reports the GPU before its copy is complete; only its own hook knows.
        return all(not has_hook(member) and member.weight.device == x.device
                   and member.weight.dtype == x.dtype for member in self.members)

    def _pack(self, x, producer="none", up=None):
        owner = self.members[0]
        down, transform, scale, permutation = (
            self._beside(x, getattr(owner, name)) for name in
            ("lynx_low" if owner.lynx_low is not None else "lynx_down",
             "lynx_transform", "lynx_scale", "lynx_permutation"))
        if scale is not None or permutation is not None:
            x, producer, up = _produced(x, producer, up), "none", None
            x = x if scale is None else x * scale
            x = x if permutation is None else x.index_select(-1, permutation)
        # A tensor has the unit: of a number torch.compile would make a graph for each block.
        operand, scale, low = torch.ops.rtlynx.pack(
            x, None, producer, up, None, None, None, None, 1e-6, transform, down, self.norm,
            1.0 if self.e4m3 else None, self.gain)
        if self.e4m3:
            scale = scale * self._beside(x, owner.lynx_unit)
        return operand, scale, low

    def weight_for_z(self, weight):
        """W A^-T [N, K], for a weight that reads the input itself."""
        owner = self.members[0]
        blocks = owner.lynx_transform
        transform = InputTransform(None if blocks is None else blocks.mT, owner.lynx_scale,
                                   owner.lynx_permutation)
        return weight if transform.is_identity() else transform.weight_behind(weight)

    @staticmethod
    def _beside(x, tensor):
        # Offloading layer by layer may have taken the owner away, if it was not called first.
        return tensor if tensor is None or tensor.device == x.device else tensor.to(x.device)

    def _product(self, packed, indices, activation="none"):
        operand, scale, low = packed
        members = [self.members[index] for index in indices]
        weights = [member.lynx_codes if self.e4m3 else member.weight for member in members]
        ups = [member.lynx_code_up if self.e4m3 else member.lynx_up for member in members]
        biases = [member.bias for member in members]
        has_ups = members[0].lynx_up is not None
        rank = members[0].lynx_up.shape[1] if has_ups else 0
        return list(torch.ops.rtlynx.product(
            operand, scale, low, weights,
            ups if has_ups else [], [rank * index for index in indices] if has_ups else [],
            _entries(biases, low), [1] if activation == "gelu" else [], [], []))


def _produced(x, producer, up):
    return F.silu(x) * up if producer == "swiglu" else x


def _entries(biases, like):
    if all(bias is None for bias in biases):
        return []
    return [like.new_empty(0) if bias is None else bias for bias in biases]


class LynxLinear(nn.Linear):
    """``y = s z~ W^T + (z L_down^T) L_up^T + b``: nn.Linear with a 2:4-sparse input.

    Made of an nn.Linear in place: the same object, weight, bias and keys.
    """

    def forward(self, x, producer="none", up=None, activation="none"):
        """``x [..., K]``; the others as in rtlynx.pack and rtlynx.product, for a layer that reads
        its input alone."""
        group = self.lynx_group
        if len(group.members) == 1:
            return group.run_alone(x, producer, up, activation)
        return group.read(self.lynx_index, x)

    def _apply(self, fn, recurse=True):
        # Storage in fp8 (layerwise casting) is for weights; the small rest keeps its type.
        kept = {name: self._parameters.pop(name) for name in PARAMETERS if name in self._parameters}
        buffers = {name: self._buffers.pop(name, None) for name in BUFFERS}
        super()._apply(fn, recurse)
        for name, buffer in buffers.items():
            moved = None if buffer is None else fn(buffer)
            keeps_type = name in ("lynx_codes", "lynx_unit")
            if moved is not None and (keeps_type or moved.dtype.itemsize < 2):
                moved = buffer.to(moved.device)
            self._buffers[name] = moved
        for name, parameter in kept.items():
            if parameter is not None:
                moved = fn(parameter.data)
                if moved.dtype.itemsize < 2:
                    moved = parameter.data.to(moved.device)
                parameter.data = moved
            self._parameters[name] = parameter
        return self

    def _load_from_state_dict(self, state_dict, prefix, *args):
        if any(prefix + name in state_dict for name in PARAMETERS):
            super()._load_from_state_dict(state_dict, prefix, *args)
            self.lynx_group.fold_down()
            return None
        *_, errors = args
        if self.lynx_replaced and prefix + "weight" in state_dict:
            errors.append(f"rtlynx: required a layer with its own weight to load into, got {prefix} "
                          "with one that a compensation put there: rtlynx.restore first")
            return None
        kept = {name: self._parameters.pop(name) for name in PARAMETERS}
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._parameters |= kept
        if self.lynx_group.e4m3:
            self.lynx_group.round_to_e4m3()
        return None

    def extra_repr(self):
        rank = 0 if self.lynx_up is None else self.lynx_up.shape[1]
        codes = ", e4m3" if self.lynx_group.e4m3 else ""
        return f"{super().extra_repr()}, 2:4 sparse input, rank={rank}{codes}"


def make_sparse(linears, norm=True, low_ranks=None, transform=None, slot=0):
    """Turns nn.Linears that read one input into LynxLinears, in the order in which they run.

    ``low_ranks``: of each, ``(down [r, K], up [N, r])``, all of one r; or None.
    ``transform``: an InputTransform or None; the weights have to be those for z already.
    """
    group = InputGroup(linears, norm, slot)
    owned = {"lynx_down": torch.cat([down for down, _ in low_ranks]) if low_ranks else None}
    if transform is not None:
        blocks = transform.blocks
        owned |= {"lynx_scale": transform.scale, "lynx_permutation": transform.permutation,
                  "lynx_transform": None if blocks is None else blocks.mT.contiguous()}
    for index, linear in enumerate(linears):
        linear.__class__ = LynxLinear
        linear.lynx_group = group
        linear.lynx_index = index
        linear.lynx_replaced = False  # whether another weight stands for the layer's own
        linear.lynx_original = None  # that, on the host
        for name in PARAMETERS:
            linear.register_parameter(name, _frozen(owned.get(name) if index == 0 else None))
        linear.lynx_up = _frozen(low_ranks[index][1] if low_ranks else None)
        for name in BUFFERS:
            linear.register_buffer(name, None, persistent=False)
    group.fold_down()


def _frozen(tensor):
    return None if tensor is None else nn.Parameter(tensor, requires_grad=False)


def make_dense(linear):
    """Undoes make_sparse for one layer."""
    for name in PARAMETERS:
        del linear._parameters[name]
    for name in BUFFERS:
        del linear._buffers[name]
        linear._non_persistent_buffers_set.discard(name)
    for name in ("lynx_group", "lynx_index", "lynx_replaced", "lynx_original"):
        delattr(linear, name)
    linear.__class__ = nn.Linear
