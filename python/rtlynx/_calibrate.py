# SPDX-License-Identifier: Apache-2.0
"""calibrate: makes the compensation of a loaded model from what its layers read."""

import contextlib
import json
import os
import pathlib
import shutil
import sys
import time
import warnings

import torch

from . import _compensation, _sparsify
from ._error import Error

_DAMPING = 0.01  # kDamping of src/compensate/closed_form.h
_METHODS = ("low-rank",)
_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def calibrate(model, run, out, method="low-rank", rank=64, samples=1024, memory="8GiB",
              recipe="auto", exclude=()):
    """Makes a compensation for ``rtlynx.sparsify`` and writes it.

    ``run`` is called once for every pass, dense; a pass sums second moments of as many inputs as fit
    ``memory``. All passes have to draw the same, so seed what run draws. A killed calibration goes on
    from the last finished pass when it is called again.

    Args:
        model: such as ``pipe.transformer``, as loaded, without offloading.
        run: a function without arguments that calls the pipeline, once a prompt.
        out: the file to write.
        method: ``"low-rank"``: the token's norm, and the low rank that the paper trains, in closed
            form. Refit, joint and block transforms: not from Python yet.
        rank: of every layer, up to 128.
        samples: tokens, at random, of every input in every call; None takes all.
        memory: for the sums of a pass, beside the model: bytes, or such as ``"8GiB"``. An input of K
            channels takes 16 K^2 bytes; one at least is summed.
        recipe, exclude: the layers, as for ``rtlynx.sparsify``.

    Returns:
        The ``Compensation``.
    """
    out = _check_out(out)
    if method not in _METHODS:
        raise Error("calibrate", f"method {' or '.join(_METHODS)}", method)
    if not callable(run):
        raise Error("calibrate", "run, a function that calls the pipeline", type(run).__name__)
    if samples is not None and (not isinstance(samples, int) or samples < 1):
        raise Error("calibrate", "samples, a positive number or None", samples)
    _sparsify._check_model(model)
    groups = _sparsify._Plan(model, None, recipe, exclude, None, force=True).groups
    _check_rank(groups, rank)
    passes = _passes(groups, _bytes(memory))
    settings = {"revision": _compensation.weights_revision(model), "method": method, "rank": rank,
                "samples": samples, "passes": [[group.layers for group in part] for part in passes]}
    kept = _Kept(out, settings)
    _say(f"{sum(len(group.layers) for group in groups)} layers, {len(groups)} inputs: "
         f"{len(passes)} passes of run, {kept.count(len(passes))} of them done; sums of up to "
         f"{max(sum(map(_sum_bytes, part)) for part in passes) / 2**30:.1f} GiB at a time")
    begin, done = time.monotonic(), 0
    for index, part in enumerate(passes):
        if kept.has(index):
            continue
        kept.put(index, _solve(_sums(part, run, samples), rank))
        done += 1
        left = (time.monotonic() - begin) / done * (len(passes) - kept.count(len(passes)))
        _progress(index + 1, len(passes), left)
    layers = {}
    for index, part in enumerate(passes):
        tensors = kept.get(index)
        for group in part:
            for name in group.layers:
                layers[name] = _compensation.LayerCompensation(
                    group.layers[0], True, tensors[f"{name}.down"], tensors[f"{name}.up"])
    result = _compensation.Compensation(layers, {}, {
        "base_model": type(model).__name__, "base_revision": settings["revision"],
        "method": method, "transform": "none", "recipe": str(recipe)})
    result.save(out)
    kept.remove()
    return result


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


def _check_rank(groups, rank):
    if not groups:
        raise Error("calibrate", "a recipe that names layers of the model", "none")
    if not isinstance(rank, int):
        raise Error("calibrate", "a rank, a whole number", rank)
    for group in groups:
        for name, linear in zip(group.layers, group.modules):
            most = min(linear.in_features, linear.out_features, _sparsify.MAX_RANK)
            if not 1 <= rank <= most:
                raise Error("calibrate", f"a rank from 1 to {most} for {name}", rank)


def _sum_bytes(group):
    return 16 * group.modules[0].in_features ** 2


def _passes(groups, memory):
    passes, held = [], 0
    for group in groups:
        if not passes or held + _sum_bytes(group) > memory:
            passes.append([])
            held = 0
        passes[-1].append(group)
        held += _sum_bytes(group)
    return passes


class _Sums:
    """Of X^T X and X^T S over tokens, in float64, for S = s x~."""

    def __init__(self, group, samples):
        self.group, self.samples, self.tokens = group, samples, 0
        channels, device = group.modules[0].in_features, group.modules[0].weight.device
        self.xx, self.xs = (torch.zeros(channels, channels, dtype=torch.float64, device=device)
                            for _ in range(2))
        self.generator = torch.Generator().manual_seed(0)

    def see(self, module, arguments):
        with torch.inference_mode(False), torch.no_grad():
            rows = arguments[0].detach().flatten(0, -2)
            if self.samples is not None and len(rows) > self.samples:
                chosen = torch.randperm(len(rows), generator=self.generator)[:self.samples]
                rows = rows[chosen.to(rows.device)]
            kept, scale = torch.ops.rtlynx.sparsify24(rows, True)
            rows, selected = rows.float(), kept.float() * scale.unsqueeze(1)
            self.xx += rows.T @ rows
            self.xs += rows.T @ selected
            self.tokens += len(rows)


@contextlib.contextmanager
def _full_precision():
    # Moments in TF32 are not positive definite.
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _sums(part, run, samples):
    sums = [_Sums(group, samples) for group in part]
    hooks = [each.group.modules[0].register_forward_pre_hook(each.see) for each in sums]
    try:
        with _full_precision():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return sums


def _solve(sums, rank):
    tensors = {}
    for each in sums:
        first = each.group.layers[0]
        if each.tokens < rank:
            raise Error("calibrate", f"at least {rank} tokens, the rank, read by {first}",
                        f"{each.tokens}")
        if not (each.xx.isfinite().all() and each.xs.isfinite().all()):
            raise Error("calibrate", f"finite inputs of {first}", "infinite or NaN ones")
        if each.tokens < len(each.xx):
            warnings.warn(f"rtlynx.calibrate: {first} read {each.tokens} tokens of {len(each.xx)} "
                          "channels: fewer tokens than channels fit themselves. Draw more.",
                          stacklevel=3)
        for name, linear in zip(each.group.layers, each.group.modules):
            down, up = torch.ops.rtlynx.low_rank_on_input(
                each.xx, each.xs, linear.weight.detach().double(), rank, _DAMPING)
            tensors |= {f"{name}.down": down, f"{name}.up": up}
    return {name: tensor.to("cpu", torch.bfloat16).contiguous()
            for name, tensor in tensors.items()}


class _Kept:
    """Finished passes, in a folder beside the file."""

    def __init__(self, out, settings):
        self.folder = out.with_name(out.name + ".passes")
        text, path = json.dumps(settings), self.folder / "settings.json"
        if not path.exists():
            self.folder.mkdir(exist_ok=True)
            path.with_suffix(".part").write_text(text)
            os.replace(path.with_suffix(".part"), path)
        elif path.read_text() != text:
            old = json.loads(path.read_text())
            other = next(key for key in settings if old.get(key) != settings[key])
            raise Error("calibrate", f"the {other} of the calibration begun in {self.folder}, or that "
                                     "folder removed", f"another {other}")

    def _path(self, index):
        return self.folder / f"{index:05}.safetensors"

    def has(self, index):
        return self._path(index).exists()

    def count(self, passes):
        return sum(map(self.has, range(passes)))

    def put(self, index, tensors):
        from safetensors.torch import save_file
        save_file(tensors, self._path(index).with_suffix(".part"))
        os.replace(self._path(index).with_suffix(".part"), self._path(index))

    def get(self, index):
        from safetensors.torch import load_file
        return load_file(self._path(index))

    def remove(self):
        shutil.rmtree(self.folder)


def _say(text):
    print(f"rtlynx.calibrate: {text}", file=sys.stderr)


def _progress(finished, passes, seconds):
    if sys.stderr.isatty():
        _say(f"pass {finished} of {passes}, about {seconds / 60:.0f} min left")
