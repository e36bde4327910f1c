# SPDX-License-Identifier: Apache-2.0
"""Calls of a model, kept on the host and taken through its blocks one after the other.

Every block then runs once for each sum that is wanted of it, whatever the model draws, and one block's
sums lie beside the weights.
"""

import contextlib
import random

import torch
from torch.utils import _pytree as pytree

from ._error import Error


class _Done(Exception):
    """Ends a call behind the block that was asked for."""


class Captured:
    """Up to ``limit`` calls of a model, at random among those that are seen."""

    def __init__(self, model, lists, limit):
        self.model = model
        # In the order in which they run; a block reads what the one before returned, and the call.
        self.blocks = [(name, block) for name in lists for block in getattr(model, name)]
        if any(block._compiled_call_impl is not None for _, block in self.blocks):
            raise Error("calibrate", "captured=0 for a model that is compiled", "compiled blocks")
        self.calls = []  # arguments and keyword arguments of each
        self.returned = {name: [] for name in lists}  # of each call, by the last block that ran
        self.seen = 0
        self._limit, self._random = limit, random.Random(0)

    def capture(self, run):
        hook = self.model.register_forward_pre_hook(self._see, with_kwargs=True)
        try:
            run()
        finally:
            hook.remove()
        if not self.calls:
            raise Error("calibrate", "a run that calls the model", "one that does not")
        for values in self.returned.values():
            values += [None] * len(self.calls)

    def _see(self, module, args, kwargs):
        self.seen += 1  # reservoir sampling
        place = len(self.calls) if len(self.calls) < self._limit \
            else self._random.randrange(self.seen)
        if place < self._limit:
            self.calls[place:place + 1] = [_to_host((args, kwargs))]

    @torch.no_grad()
    def run(self, index, keep):
        """Calls the block of this index for every call; ``keep``: what it returns is for the next."""
        name, _ = self.blocks[index]
        for call in range(len(self.calls)):
            args, kwargs = _to_device(self.calls[call])
            with self._up_to(index, call) as result, contextlib.suppress(_Done):
                self.model(*args, **kwargs)
            if not result:
                place = index - [other for other, _ in self.blocks].index(name)
                raise Error("calibrate", "calls that run every block; captured=0 repeats run instead",
                            f"one that left out {name}.{place}")
            if keep:
                self.returned[name][call] = _to_host(result[0], self.returned[name][call])

    @contextlib.contextmanager
    def _up_to(self, index, call):
        """The blocks before return what their list's last did; gives what this one returns."""
        result, (_, block) = [], self.blocks[index]
        forward = block.forward

        def and_stop(*args, **kwargs):
            result.append(forward(*args, **kwargs))
            raise _Done

        with contextlib.ExitStack() as stack:
            loaded = {}
            for name, earlier in self.blocks[:index]:
                if name not in loaded:
                    loaded[name] = _returning(_to_device(self.returned[name][call]))
                stack.enter_context(_forward_of(earlier, loaded[name]))
            stack.enter_context(_forward_of(block, and_stop))
            yield result


def _returning(value):
    return lambda *args, **kwargs: value


@contextlib.contextmanager
def _forward_of(module, forward):
    own = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


class _HostTensor:
    """A copy on the host, and the device to load it to."""

    @torch.inference_mode(False)
    @torch.no_grad()
    def __init__(self, source, buffer=None):
        self.device = source.device
        if buffer is None or buffer.shape != source.shape or buffer.dtype != source.dtype:
            buffer = torch.empty_like(source, device="cpu", pin_memory=source.is_cuda)
        self.tensor = buffer.copy_(source, non_blocking=True)

    def load(self):
        return self.tensor.to(self.device, non_blocking=True)


def _to_host(tree, earlier=None):
    """Tensors as _HostTensors, in the memory of the earlier tree where that fits."""
    buffers = iter([leaf.tensor for leaf in pytree.tree_leaves(earlier)
                    if isinstance(leaf, _HostTensor)])
    return pytree.tree_map_only(torch.Tensor, lambda source: _HostTensor(source, next(buffers, None)),
                                tree)


def _to_device(tree):
    return pytree.tree_map_only(_HostTensor, _HostTensor.load, tree)
