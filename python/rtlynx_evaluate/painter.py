# SPDX-License-Identifier: Apache-2.0
"""Draws pictures with one pipeline on one device."""

import contextlib
import inspect
import json
import os
import pathlib
import warnings
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image, PngImagePlugin

from rtlynx_metrics.errors import MetricsError, import_extra

from . import methods

_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class Settings:
    """What every worker needs to know."""

    model: pathlib.Path
    out: pathlib.Path
    device: str
    dtype: str
    force: bool = False
    call: dict = field(default_factory=dict)  # of the pipeline
    calibration: dict = field(default_factory=dict)  # of rtlynx.calibrate
    calibration_prompts: tuple = ()

    def tokens(self):
        """Of the image, where its size is said; else the recipe's."""
        if "height" not in self.call:
            return None
        return {"image": (self.call["height"] // 16) * (self.call["width"] // 16)}


@dataclass(frozen=True)
class Job:
    """A picture to draw."""

    prompt: str
    seed: int
    path: pathlib.Path


@contextlib.contextmanager
def _one_error():
    """rtlynx's as one that needs no rtlynx to be read, in another process either."""
    import rtlynx
    try:
        yield
    except rtlynx.Error as error:
        raise MetricsError(str(error)) from error


class Painter:
    """The pipeline is loaded at the first picture, and stays what the last method made it."""

    def __init__(self, settings):
        self._settings = settings
        self._pipe = None
        self._method = None

    def calibrate(self, method):
        """Makes a method's compensation; goes on where a killed one stopped."""
        import rtlynx
        pipe = self._loaded()
        self._become(methods.Method("dense"))

        def run():
            for number, prompt in enumerate(self._settings.calibration_prompts):
                self._picture(prompt, number)

        with _one_error():
            rtlynx.calibrate(pipe.transformer, run, method.compensation,
                             **methods.CALIBRATIONS[method.name], **self._settings.calibration)

    def draw(self, method, jobs):
        """Returns the number of jobs."""
        self._loaded()
        self._become(method)
        for job in jobs:
            _save(self._picture(job.prompt, job.seed), job, method)
        return len(jobs)

    def _loaded(self):
        if self._pipe is None:
            self._pipe = load_pipeline(self._settings)
        return self._pipe

    def _become(self, method):
        import rtlynx
        if method == self._method:
            return
        transformer = self._pipe.transformer
        if hasattr(transformer, "_rtlynx"):
            rtlynx.restore(transformer)
        self._method = None
        with _one_error(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a method draws worse is what is measured
            report = methods.sparsify(method, transformer, self._settings.force,
                                      self._settings.tokens())
        self._method = method
        if method.name != "dense":
            write_atomically(self._settings.out / method.name / "report.json",
                             json.dumps(report.to_dict()) + "\n")

    def _picture(self, prompt, seed):
        """[H, W, 3] from 0 to 1. Noise is drawn on the CPU: the same for every device."""
        with torch.inference_mode():
            picture = self._pipe(prompt=prompt, generator=torch.Generator().manual_seed(seed),
                                 output_type="np", **self._settings.call).images[0]
        if not np.isfinite(picture).all():
            raise MetricsError(f"prompt {prompt[:60]!r}, seed {seed}: required a finite picture, got "
                               "infinite or NaN values")
        return picture


def load_pipeline(settings):
    diffusers = import_extra("diffusers", "evaluate")
    try:
        pipe = diffusers.DiffusionPipeline.from_pretrained(
            settings.model, torch_dtype=_TYPES[settings.dtype], local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise MetricsError(f"{settings.model}: required a pipeline of diffusers, got: "
                           f"{str(error).splitlines()[0]}") from error
    if getattr(pipe, "transformer", None) is None:
        raise MetricsError(f"{settings.model}: required a pipeline with a transformer, got a "
                           f"{type(pipe).__name__}")
    known = inspect.signature(pipe.__call__).parameters
    for name in settings.call:
        if name not in known:
            raise MetricsError(f"--call: required arguments of {type(pipe).__name__}, got {name}")
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(settings.device)


def _save(picture, job, method):
    info = PngImagePlugin.PngInfo()
    info.add_text("rtlynx", json.dumps({"prompt": job.prompt, "seed": job.seed,
                                        "mode": method.name}))
    unfinished = job.path.with_name(job.path.name + ".partial")
    pixels = (picture * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(unfinished, format="png", pnginfo=info)
    os.replace(unfinished, job.path)


def write_atomically(path, text):
    # Workers of several machines may write the same.
    unfinished = path.with_name(f"{path.name}.{os.uname().nodename}-{os.getpid()}.partial")
    unfinished.write_text(text)
    os.replace(unfinished, path)
