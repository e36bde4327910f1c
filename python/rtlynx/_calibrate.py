# SPDX-License-Identifier: Apache-2.0
"""calibrate: makes the compensation of a loaded model from what its layers read."""

import contextlib
import json
import os
import pathlib
import shutil
import sys
import time
from dataclasses import dataclass

from . import _blocks, _compensation, _moments, _recipes, _sparsify
from ._error import Error

_TRANSFORMS = ("none", "16", "64", "128")
_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclass
class _Pass:
    """Groups whose sums are taken together: for their transform, or their layers."""

    groups: list
    is_transform: bool
    sums: tuple  # names
    norm: bool
    block: int | None = None  # of the groups, counted through all lists; None: run is repeated

    def bytes(self):
        return sum(_sum_bytes(group, self.sums) for group in self.groups)


def calibrate(model, run, out, method="low-rank", transform="none", rank=64, samples=1024,
              memory="8GiB", captured=256, recipe="auto", exclude=()):
    """Makes a compensation for ``rtlynx.sparsify`` and writes it.

    ``run`` is called once, dense, and calls of the model are kept on the host. They are then taken
    through its blocks one after the other: second moments of what a block reads are summed, and its
    layers solved, before the next. Without captured calls, and for a model of an unknown family, run
    is repeated instead, for as many inputs at a time as fit ``memory``.

    A killed calibration goes on behind what was solved when it is called again. Every call of run has
    to draw the same, so seed what it draws.

    Args:
        model: such as ``pipe.transformer``, as loaded, without offloading.
        run: a function without arguments that calls the pipeline, once a prompt.
        out: the file to write.
        method: ``"low-rank"``: the token's norm, and the low rank that the paper trains, in closed
            form; ``"refit"``: another weight in place of each layer's own; ``"joint"``: both at once,
            the least error. Other weights make the file as large as the layers.
        transform: ``"none"``, or ``"16"``, ``"64"``, ``"128"``: blocks of so many channels, or fewer
            where that does not divide an input's, are transformed before the choice. Needs sums of
            its own first, and other weights while the model runs.
        rank: of every layer, up to 128. Not for ``"refit"``.
        samples: tokens, at random, of every input in every call; None takes all.
        memory: for the sums of a pass, beside the model: bytes, or such as ``"8GiB"``. An input of K
            channels takes 16 K^2 bytes, 24 K^2 for ``"joint"``; one at least is summed. A block whose
            sums do not fit runs again.
        captured: calls of the model to keep at most, at random among those of run; 0 for none. One
            takes what the last block of each list returns, in page-locked memory: 61 MB for FLUX.1 at
            1024 x 1024, about 80 by torch's powers of two. The blocks run outside run: contexts
            such as autocast do not reach them; use 0 there, and for a model that is compiled.
        recipe, exclude: the layers, as for ``rtlynx.sparsify``.

    Returns:
        The ``Compensation``.
    """
    out = _check_out(out)
    transform, memory = str(transform), _bytes(memory)
    _check_choices(run, method, transform, samples, captured)
    _sparsify._check_model(model)
    groups = _sparsify._Plan(model, None, recipe, exclude, None, True, dtype=None).groups
    _check_groups(groups, method, rank)
    lists = _recipes.block_lists(model) if captured else []
    passes = [part for block, of_block in _by_block(model, lists, groups)
              for part in _passes(of_block, memory, method, transform, block)]
    kept = _Kept(out, {
        "revision": _compensation.weights_revision(model), "method": method, "transform": transform,
        "rank": rank, "samples": samples, "captured": captured if lists else 0,
        "passes": [[part.is_transform, [group.layers for group in part.groups]] for part in passes]})
    _say(f"{sum(len(group.layers) for group in groups)} layers, {len(groups)} inputs: "
         f"{'one run, then ' if lists else ''}{len(passes)} passes of {'a block' if lists else 'run'}, "
         f"{kept.count(len(passes))} of them done; sums of up to "
         f"{max(part.bytes() for part in passes) / 2**30:.1f} GiB at a time")
    clock = _Clock(len(passes) - kept.count(len(passes)))

    def take(index, draw):
        part = passes[index]
        kept.put(index, _run_pass(part, draw, samples, method, rank, transform,
                                  {} if part.is_transform else _transforms(passes, kept, part.block)))
        clock.tick()

    left = [index for index in range(len(passes)) if not kept.has(index)]
    if lists and left:
        _take_blocks(_blocks.Captured(model, lists, captured), run, passes, left, clock, take)
    else:
        for index in left:
            take(index, run)
    result = _compensation.Compensation(
        _layers(passes, kept, method), _transforms(passes, kept),
        {"base_model": type(model).__name__, "base_revision": kept.settings["revision"],
         "method": method, "transform": transform if transform == "none" else f"block {transform}",
         "recipe": str(recipe)})
    result.save(out)
    kept.remove()
    return result


def _take_blocks(calls, run, passes, left, clock, take):
    begin = time.monotonic()
    calls.capture(run)
    last = passes[left[-1]].block
    solved_before = last + 1 - len({passes[index].block for index in left})  # they run once more
    share = len(calls.calls) / calls.seen * (len(left) + solved_before) / len(calls.blocks)
    _say(f"{len(calls.calls)} of {calls.seen} calls captured; the blocks run for about "
         f"{(time.monotonic() - begin) * share / 60:.1f} min, beside what solving takes")
    clock.start()
    for block in range(last + 1):
        of_block = [index for index in left if passes[index].block == block]
        for index in of_block:
            take(index, lambda: calls.run(block, keep=block < last and index == of_block[-1]))
        if not of_block:
            calls.run(block, keep=True)
            if not clock.done:
                clock.start()


def _run_pass(part, run, samples, method, rank, transform, transforms):
    sums = [_moments.Sums(group, part.sums, part.norm, samples, transforms.get(group.layers[0]))
            for group in part.groups]
    _moments.collect(sums, run, 1 if part.is_transform or method == "refit" else rank)
    if part.is_transform:
        return _moments.solve_transforms(sums, int(transform))
    return _moments.solve_layers(sums, method, rank, transforms)


def _transforms(passes, kept, block=None):
    """What finished passes found, of one block or all, by input."""
    found = {}
    for index, part in enumerate(passes):
        if part.is_transform and block in (None, part.block):
            for name, blocks in kept.get(index).items():
                found[name.removesuffix(".transform")] = _compensation.InputTransform(blocks)
    return found


def _layers(passes, kept, method):
    layers = {}
    for index, part in enumerate(passes):
        if part.is_transform:
            continue
        tensors = kept.get(index)
        for group in part.groups:
            for name in group.layers:
                layers[name] = _moments.layer_of(name, group.layers[0], method, tensors)
    return layers


def _check_choices(run, method, transform, samples, captured):
    if method not in _moments.METHODS:
        raise Error("calibrate", f"method {', '.join(_moments.METHODS)}", method)
    if transform not in _TRANSFORMS:
        raise Error("calibrate", f"transform {', '.join(_TRANSFORMS)}", transform)
    if not callable(run):
        raise Error("calibrate", "run, a function that calls the pipeline", type(run).__name__)
    if samples is not None and (not isinstance(samples, int) or samples < 1):
        raise Error("calibrate", "samples, a positive number or None", samples)
    if not isinstance(captured, int) or captured < 0:
        raise Error("calibrate", "captured, a number of calls or 0", captured)


def _check_out(out):
    out = pathlib.Path(out)
    if out.is_dir():
        raise Error("calibrate", "out, a file to write", f"the folder {out}")
    if not out.absolute().parent.is_dir():
        raise Error("calibrate", "out in a folder that exists", out)
    return out


def _bytes(memory):
    for unit, size in _UNITS.items():
        if isinstance(memory, str) and memory.endswith(unit):
            with contextlib.suppress(ValueError):
                memory = int(float(memory.removesuffix(unit)) * size)
    if not isinstance(memory, int) or memory < 1:
        raise Error("calibrate", 'memory in bytes, or such as "8GiB"', memory)
    return memory


def _check_groups(groups, method, rank):
    if not groups:
        raise Error("calibrate", "a recipe that names layers of the model", "none")
    if method == "refit":
        return
    if not isinstance(rank, int):
        raise Error("calibrate", "a rank, a whole number", rank)
    for group in groups:
        for name, linear in zip(group.layers, group.modules):
            most = min(linear.in_features, linear.out_features, _sparsify.MAX_RANK)
            if not 1 <= rank <= most:
                raise Error("calibrate", f"a rank from 1 to {most} for {name}", rank)


def _sum_bytes(group, sums):
    return 8 * len(sums) * group.modules[0].in_features ** 2


def _by_block(model, lists, groups):
    """The groups of each block, blocks counted through all lists; without lists all by None."""
    if not lists:
        return [(None, groups)]
    prefixes = [f"{name}.{index}." for name in lists for index in range(len(getattr(model, name)))]
    found = [(block, [group for group in groups if group.layers[0].startswith(prefix)])
             for block, prefix in enumerate(prefixes)]
    return [(block, of_block) for block, of_block in found if of_block]


def _passes(groups, memory, method, transform, block):
    """As many groups a pass as fit: first those that get a transform, for it, then all."""
    sums, norm = _moments.METHODS[method]
    rounds = [(groups, False, sums, norm)]
    if transform != "none":
        transformed = [group for group in groups
                       if _moments.block_for(group.modules[0].in_features, int(transform))]
        rounds.insert(0, (transformed, True, ("xx",), norm))
    passes = []
    for of_round, *options in rounds:
        held, parts = memory, []
        for group in of_round:
            size = _sum_bytes(group, options[1])
            if held + size > memory:
                parts.append(_Pass([], *options, block))
                held = 0
            parts[-1].groups.append(group)
            held += size
        passes += parts
    return passes


class _Kept:
    """Finished passes, in a folder beside the file."""

    def __init__(self, out, settings):
        self.folder, self.settings = out.with_name(out.name + ".passes"), settings
        path = self._settings_path()
        if path.exists() and path.read_text() != json.dumps(settings):
            old = json.loads(path.read_text())
            other = next(key for key in settings if old.get(key) != settings[key])
            raise Error("calibrate", f"the {other} of the calibration begun in {self.folder}, or that "
                                     "folder removed", f"another {other}")

    def _settings_path(self):
        return self.folder / "settings.json"

    def _path(self, index):
        return self.folder / f"{index:05}.safetensors"

    def _begin(self):
        path = self._settings_path()
        if path.exists():
            return
        self.folder.mkdir(exist_ok=True)
        path.with_suffix(".part").write_text(json.dumps(self.settings))
        os.replace(path.with_suffix(".part"), path)

    def has(self, index):
        return self._path(index).exists()

    def count(self, passes):
        return sum(map(self.has, range(passes)))

    def put(self, index, tensors):
        from safetensors.torch import save_file
        self._begin()
        save_file(tensors, self._path(index).with_suffix(".part"))
        os.replace(self._path(index).with_suffix(".part"), self._path(index))

    def get(self, index):
        from safetensors.torch import load_file
        return load_file(self._path(index))

    def remove(self):
        shutil.rmtree(self.folder)


def _say(text):
    print(f"rtlynx.calibrate: {text}", file=sys.stderr)


class _Clock:
    """Says how long the passes that are left will take."""

    def __init__(self, passes):
        self.passes, self.done = passes, 0
        self.start()

    def start(self):
        self.begin = time.monotonic()

    def tick(self):
        self.done += 1
        seconds = (time.monotonic() - self.begin) / self.done * (self.passes - self.done)
        if sys.stderr.isatty():
            _say(f"{self.done} of {self.passes} passes, about {seconds / 60:.0f} min left")
