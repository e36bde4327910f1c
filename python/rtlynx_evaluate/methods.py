# SPDX-License-Identifier: Apache-2.0
"""What a transformer is made into: by names, or by a compensation file."""

import hashlib
import pathlib
from dataclasses import dataclass

from rtlynx_metrics.errors import MetricsError

# Made here before anything is drawn; the rank and what is spent on it are the user's.
CALIBRATIONS = {"paper": dict(method="low-rank", recipe="paper"),
                "ours": dict(method="joint", transform="64", recipe="all")}
NAMES = ("dense", "naive", "norm", *CALIBRATIONS)


@dataclass(frozen=True)
class Method:
    """``compensation``: the file that it needs, of the user's or to be made."""

    name: str
    compensation: pathlib.Path | None = None

    def is_calibrated(self):
        return self.name in CALIBRATIONS

    def digest(self):
        """Of what it draws with, beside the model."""
        if self.compensation is None:
            return self.name
        return hashlib.sha256(self.compensation.read_bytes()).hexdigest()


def read_methods(texts, out):
    """Dense first: everything is compared with it.

    Args:
        texts: names, and compensation files.
        out: the folder in which calibrated ones put their file.
    """
    methods = [Method("dense")]
    for text in texts:
        if text in CALIBRATIONS:
            methods.append(Method(text, out / f"{text}.safetensors"))
        elif text in NAMES:
            methods += [Method(text)] if text != "dense" else []
        else:
            path = pathlib.Path(text)
            if not path.is_file():
                raise MetricsError(f"{path}: required a compensation file, found none")
            if path.stem in NAMES:
                raise MetricsError(f"{path}: required another name than a method's, got {path.stem}")
            methods.append(Method(path.stem, path.resolve()))
    names = [method.name for method in methods]
    for name in names:
        if names.count(name) > 1:
            raise MetricsError(f"methods: required names of their own, got {name} twice")
    return methods


def sparsify(method, model, force, tokens):
    """Makes the dense model what the method says. Returns rtlynx's report, None for dense."""
    import rtlynx
    if method.name == "dense":
        return None
    compensation, recipe = method.compensation, "auto"
    if method.name == "naive":
        groups = rtlynx.groups_of(model, "paper")
        compensation = rtlynx.Compensation(
            {name: rtlynx.LayerCompensation(group[0], norm=False)
             for group in groups for name in group}, metadata={"method": "naive"})
    elif compensation is None:
        recipe = "paper"
    report = rtlynx.sparsify(model, compensation, recipe=recipe, force=force, tokens=tokens)
    if not report.sparse_layers:
        reasons = {layer.reason for layer in report.layers}
        rtlynx.restore(model)
        raise MetricsError(f"{method.name}: required a layer that runs sparse, or --force, got none: "
                           f"{'; '.join(sorted(reasons))}")
    return report
