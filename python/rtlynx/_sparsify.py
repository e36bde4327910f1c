# SPDX-License-Identifier: Apache-2.0
"""sparsify, restore, report: the Linears of a loaded model, in place."""

import fnmatch
import math
import sys
import warnings
from dataclasses import dataclass

import torch
from torch import nn

from . import _compensation, _e4m3, _fused, _linear, _lora, _recipes
from ._error import Error
from ._report import GroupReport, LayerReport, Report

MAX_PRODUCTS, MAX_RANK, MAX_LOW_COLUMNS, RANK_MULTIPLE = 4, 128, 256, 16  # rtlynx/limits.h
CHANNEL_MULTIPLE, OUTPUT_MULTIPLE = 16, 8
_H200 = (90, 132, 232448)
_TYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass
class _State:
    """What a sparsified model keeps: ``model._rtlynx``."""

    report: Report


def sparsify(model, compensation=None, recipe="auto", exclude=(), tokens=None, force=False,
             keep_original=True, dtype=None):
    """Makes the inputs of a loaded transformer's Linears 2:4-sparse, in place.

    Args:
        model: such as ``pipe.transformer``, without offloading yet.
        compensation: a file that calibration wrote, a ``Compensation``, or None: each token's norm
            is restored and nothing else.
        recipe: ``"paper"``, the layers of the RT-Lynx paper; ``"all"``, every Linear of the blocks;
            ``"auto"``, the layers of the compensation, without one the paper's; or names, with
            ``*`` for any part.
        exclude: names that stay dense, with ``*`` for any part.
        tokens: of each stream in a call, such as ``{"image": 4096, "text": 512}``, all images of a
            batch together; a number is the image's. By default those of the model's usual size.
            A group of layers is sparse or dense for good, by these.
        force: sparse even where dense is faster, or was not measured.
        keep_original: whether a weight that a compensation replaces stays on the host, for
            ``restore`` and for saving.
        dtype: ``"e4m3"``: kept values and weights are rounded to it, with a scale for each token, and
            multiply on the 8-bit Sparse Tensor Cores of compute capability 9.0. Each layer keeps its
            weight beside the codes. None: in the type of the weights, but for the layers that a
            compensation file says are e4m3.

    Returns:
        A report, printable, of what runs how and why.
    """
    _check_model(model)
    if dtype not in (None, "e4m3"):
        raise Error("sparsify", 'a dtype of "e4m3" or None', dtype)
    if isinstance(compensation, _compensation.Compensation):
        source = str(compensation)
    elif compensation is not None:
        compensation, source = _compensation.read(compensation, model), str(compensation)
    else:
        source = "none but the norm"
    plan = _Plan(model, compensation, recipe, exclude, tokens, force, dtype)
    result = Report(type(model).__name__, str(recipe), source, plan.layer_reports(),
                    plan.group_reports(), plan.notes)
    prepared = [part for group in plan.groups if group.report.sparse
                for part in plan.prepare(group)]
    if any(part.transform is not None or part.e4m3 for part in prepared):
        _lora.extend_peft("sparsify", model)
    for part in prepared:
        part.apply(keep_original)
    _fused.fuse_activations(model)
    model._rtlynx = _State(result)
    if "rtlynx._diffusers" in sys.modules:
        sys.modules["rtlynx._diffusers"].RTLynxQuantizer.attach(model)
    model.fuse_qkv_projections = _refuse_fusing
    if not keep_original and any(linear.lynx_replaced for linear in sparse_linears(model).values()):
        model.save_pretrained = _refuse_saving
    _warn(result, compensation)
    return result


def restore(model):
    """Undoes sparsify, bit for bit."""
    undo(model)
    vars(model).pop("hf_quantizer", None)
    return model


def undo(model):
    """restore, but for the quantizer of a model that was loaded by RTLynxConfig."""
    _state_of(model, "restore")
    linears = sparse_linears(model)
    _refuse_hooks("restore", linears)
    lost = [name for name, linear in linears.items()
            if linear.lynx_replaced and linear.lynx_original is None]
    if lost:
        raise Error("restore", "the weights that sparsify replaced, with keep_original=True",
                    f"{len(lost)} layers sparsified with keep_original=False")
    fused = _lora.fused_layers(model)
    if any(linear.lynx_replaced and name in fused for name, linear in linears.items()):
        raise Error("restore", "a model without fused LoRAs; unfuse_lora first", f"{len(fused)}")
    _fused.unfuse_activations(model)
    for linear in linears.values():
        if linear.lynx_original is not None:
            linear.weight.data = linear.lynx_original.to(linear.weight.device, linear.weight.dtype)
        _linear.make_dense(linear)
    for name in ("_rtlynx", "fuse_qkv_projections", "save_pretrained"):
        vars(model).pop(name, None)
    config = getattr(model, "_internal_dict", {})  # diffusers'
    if "quantization_config" in config:
        model._internal_dict = type(config)({key: value for key, value in config.items()
                                             if key != "quantization_config"})


def report(model):
    """The report of a sparsified model."""
    return _state_of(model, "report").report


def groups_of(model, recipe="all"):
    """The names of the layers that read one input each, of the recipe ``"all"`` or ``"paper"``."""
    groups, _ = _recipes.groups_of(model)
    return [group.layers for group in groups if recipe == "all" or group.in_paper]


def _state_of(model, where):
    state = getattr(model, "_rtlynx", None)
    if state is None:
        raise Error(where, "a model that rtlynx.sparsify made sparse", type(model).__name__)
    return state


def sparse_linears(model):
    return {name: module for name, module in _recipes.linears_of(model).items()
            if isinstance(module, _linear.LynxLinear)}


def own_weights(model, state_dict):
    """The state of the model that was sparsified, out of that of the sparse one."""
    own = {}
    names = {f".{name}" for name in _linear.PARAMETERS}
    for key, value in state_dict.items():
        if not any(key.endswith(name) for name in names):
            own[key] = value
    for name, linear in sparse_linears(model).items():
        if linear.lynx_original is not None:
            own[f"{name}.weight"] = linear.lynx_original
    return own


def _refuse_fusing(*args, **kwargs):
    raise RuntimeError(
        "fuse_qkv_projections: required a model without rtlynx, whose layers already share one pack "
        "and one product, got a sparsified one, in which the fused layers would be dense. "
        "Fuse before rtlynx.sparsify, or not at all.")


def _refuse_saving(*args, **kwargs):
    raise RuntimeError("save_pretrained: required the model's own weights, got weights that a "
                       "compensation put in their place, sparsified with keep_original=False")


def _check_model(model):
    where = "sparsify"
    if not isinstance(model, nn.Module):
        raise Error(where, "a torch.nn.Module such as pipe.transformer", type(model).__name__)
    if getattr(model, "_rtlynx", None) is not None:
        raise Error(where, "a model that is not sparsified yet; rtlynx.restore undoes it",
                    f"a sparsified {type(model).__name__}")
    linears = _recipes.linears_of(model)
    if not linears:
        raise Error(where, "a model with nn.Linear layers", type(model).__name__)
    _refuse_hooks(where, linears)
    for name, linear in linears.items():
        if type(linear.weight).__name__ == "DTensor" or type(linear.weight.data).__name__ == "DTensor":
            raise Error(where, "whole weights (tensor parallelism is not supported)",
                        f"a DTensor in {name}")
    device = next(iter(linears.values())).weight.device
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        raise Error(where, "a GPU of compute capability 8.0 or later",
                    f"{torch.cuda.get_device_name(device)}, "
                    f"{'.'.join(map(str, torch.cuda.get_device_capability(device)))}")


def _refuse_hooks(where, linears):
    hooked = [name for name, linear in linears.items() if _linear.has_hook(linear)]
    if hooked:
        raise Error(where, "a model whose Linears have no offload or casting hooks yet; enable "
                           "those afterwards", f"a hook on {hooked[0]}")


def _device_traits(model):
    device = next(model.parameters()).device
    if device.type != "cuda" and not torch.cuda.is_available():
        return _H200
    properties = torch.cuda.get_device_properties(device if device.type == "cuda" else None)
    shared = getattr(properties, "shared_memory_per_block_optin", _H200[2])
    return properties.major * 10 + properties.minor, properties.multi_processor_count, shared


@dataclass
class _Part:
    """Layers that share one pack and one product, ready to be made sparse."""

    linears: list
    norm: bool
    low_ranks: list | None
    transform: object
    weights: list  # W' or None
    slot: int
    e4m3: bool

    def apply(self, keep_original):
        _linear.make_sparse(self.linears, self.norm, self.low_ranks, self.transform, self.slot)
        for linear, weight in zip(self.linears, self.weights):
            linear.lynx_replaced = weight is not None
            if weight is None:
                continue
            if keep_original:
                linear.lynx_original = linear.weight.data.to("cpu", copy=True)
            linear.weight.data = weight
        if self.e4m3:
            self.linears[0].lynx_group.round_to_e4m3()


class _Plan:
    """Which groups run sparse and why. Changes nothing."""

    def __init__(self, model, compensation, recipe, exclude, tokens, force, dtype):
        self.compensation, self.force, self.dtype = compensation, force, dtype
        self.notes = []
        self._linears = _recipes.linears_of(model)
        self._traits = _device_traits(model)
        candidates, default_tokens = _recipes.groups_of(model)
        self._tokens = _stream_tokens(tokens, default_tokens)
        self._excluded = _matching("exclude", exclude, self._linears)
        wanted = self._wanted(recipe, candidates)
        self._reasons = {}
        self.groups = []
        for candidate in candidates:
            layers = [name for name in candidate.layers if self._is_eligible(name, wanted)]
            if layers:
                group = _recipes.Group(layers, candidate.stream, candidate.in_paper,
                                       [self._linears[name] for name in layers])
                group.report = self._decide(group)
                self.groups.append(group)

    def _wanted(self, recipe, candidates):
        known = {name for group in candidates for name in group.layers}
        if recipe == "auto" and self.compensation is not None:
            missing = sorted(set(self.compensation.layers) - known)
            if missing:
                raise Error("sparsify", "a compensation of the model's block layers", missing[0])
            return set(self.compensation.layers)
        if recipe in ("auto", "paper"):
            return {name for group in candidates if group.in_paper for name in group.layers}
        if recipe == "all":
            return known
        if isinstance(recipe, str):
            raise Error("sparsify", 'a recipe "auto", "paper" or "all", or a list of names', recipe)
        return _matching("recipe", recipe, self._linears) & known

    def _is_eligible(self, name, wanted):
        linear = self._linears[name]
        reason = None
        if name in self._excluded:
            reason = "excluded"
        elif name not in wanted:
            reason = "not in the recipe"
        elif type(linear) is not nn.Linear:
            reason = f"a {type(linear).__name__}, not an nn.Linear"
        elif linear.in_features % CHANNEL_MULTIPLE:
            reason = f"K = {linear.in_features} is not divisible by {CHANNEL_MULTIPLE}"
        elif linear.out_features % OUTPUT_MULTIPLE:
            reason = f"N = {linear.out_features} is not divisible by {OUTPUT_MULTIPLE}"
        elif linear.weight.dtype not in _TYPES:
            reason = f"{linear.weight.dtype} is not float32, float16 or bfloat16"
        self._reasons[name] = reason
        return reason is None

    def _decide(self, group):
        tokens = self._tokens[group.stream]
        outputs = sum(linear.out_features for linear in group.modules)
        channels = group.modules[0].in_features
        rank = max(self._rank(name) for name in group.layers)
        if rank > MAX_RANK:
            raise Error("sparsify", f"a rank of at most {MAX_RANK}", f"{rank} of {group.layers[0]}")
        sparse, dense_us, sparse_us, reason = torch.ops.rtlynx.choose_product(
            tokens, outputs, channels, rank, *self._traits)
        if self.force and not sparse:
            sparse, reason = True, f"forced; {reason}"
        return GroupReport(group.name, sparse, reason, tokens, dense_us,
                           None if math.isnan(sparse_us) else sparse_us)

    def _rank(self, name):
        layer = self.compensation.layers.get(name) if self.compensation else None
        if layer is None or layer.down is None:
            return 0
        return math.ceil(layer.down.shape[0] / RANK_MULTIPLE) * RANK_MULTIPLE

    def layer_reports(self):
        in_group = {name: group for group in self.groups for name in group.layers}
        rows = []
        for name, linear in self._linears.items():
            group = in_group.get(name)
            row = LayerReport(name, False, self._reasons.get(name) or _recipes.why_no_candidate(name),
                              channels=linear.in_features, outputs=linear.out_features)
            if group is not None:
                row.sparse, row.reason = group.report.sparse, group.report.reason
                row.group, row.tokens, row.rank = group.name, group.report.tokens, self._rank(name)
            rows.append(row)
        return rows

    def group_reports(self):
        return [group.report for group in self.groups]

    def prepare(self, group):
        """The group in parts that fit one product each. Makes tensors, changes no layer."""
        rows = {}
        for name, linear in zip(group.layers, group.modules):
            layer = self.compensation.layers.get(name) if self.compensation else None
            e4m3 = self.dtype == "e4m3" or (layer is not None and layer.e4m3)
            if e4m3:
                _e4m3.check_device(linear.weight)
            key = (layer.norm, layer.input, self._rank(name)) if layer else (True, None, 0)
            rows.setdefault((*key, e4m3), []).append((name, linear, layer))
        parts = []
        for (norm, source, rank, e4m3), members in rows.items():
            size = min(MAX_PRODUCTS, MAX_LOW_COLUMNS // rank if rank else MAX_PRODUCTS)
            for first in range(0, len(members), size):
                parts.append(self._part(members[first:first + size], norm, source, rank,
                                        len(parts), e4m3))
        return parts

    def _part(self, members, norm, source, rank, slot, e4m3):
        transform = self.compensation.transforms.get(source) if source is not None else None
        like = members[0][1].weight
        place = lambda tensor: tensor.to(like.device, like.dtype, copy=True)
        low_ranks = [tuple(map(place, _padded(layer, rank))) for _, _, layer in members] \
            if rank else None
        weights = []
        for name, linear, layer in members:
            if layer is not None:
                layer.check(name, linear, transform)
            weights.append(None if layer is None else
                           layer.weight_for(linear.weight.data, transform))
        if e4m3:  # raises for what is not finite, before a layer is changed
            _e4m3.unit_of([linear.weight.data if weight is None else weight
                           for (_, linear, _), weight in zip(members, weights)])
        return _Part([linear for _, linear, _ in members], norm,
                     low_ranks, transform.like(like) if transform is not None else None, weights,
                     slot, e4m3)


def _padded(layer, rank):
    """down [rank, K] and up [N, rank], with zeros behind the layer's own rank."""
    more = rank - layer.down.shape[0]
    return (nn.functional.pad(layer.down, (0, 0, 0, more)), nn.functional.pad(layer.up, (0, more)))


def _stream_tokens(tokens, defaults):
    if tokens is None:
        tokens = {}
    elif isinstance(tokens, int):
        tokens = {"image": tokens}
    unknown = set(tokens) - set(defaults)
    if unknown or not all(isinstance(count, int) and count > 0 for count in tokens.values()):
        raise Error("sparsify", f"tokens of {' and '.join(defaults)}, positive numbers", tokens)
    merged = {**defaults, **tokens}
    return {**merged, "joint": sum(merged.values())}


def _matching(argument, patterns, linears):
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    found = set()
    for pattern in patterns:
        matches = fnmatch.filter(linears, pattern)
        if not matches:
            raise Error("sparsify", f"names of Linears of the model in {argument}", pattern)
        found.update(matches)
    return found


def _warn(result, compensation):
    if compensation is None and result.sparse_layers:
        text = ("no compensation: only each token's norm is restored, and pictures get softer. "
                "rtlynx.calibrate makes a file to pass.")
        result.notes.append(text)
        warnings.warn(f"rtlynx.sparsify: {text}", stacklevel=3)
    if not result.sparse_layers:
        warnings.warn("rtlynx.sparsify: no layer runs sparse; print the report for the reasons",
                      stacklevel=3)
