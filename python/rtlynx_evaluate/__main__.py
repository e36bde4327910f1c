# SPDX-License-Identifier: Apache-2.0
"""The command line: arguments, steps, exit codes (1 failure, 2 bad usage)."""

import argparse
import hashlib
import json
import os
import pathlib
import re
import sys

import torch

from rtlynx_metrics import measure, read_folders
from rtlynx_metrics.__main__ import choose_device, metric_list, progress_bar, table
from rtlynx_metrics.errors import MetricsError
from rtlynx_metrics.measure import WITHOUT_WEIGHTS, Networks
from rtlynx_metrics.pictures import SUFFIXES

from . import methods, page, workers
from .painter import Job, Settings, write_atomically
from .prompts import read_prompts, reference_pictures

EPILOG = """examples:
  rtlynx-evaluate FLUX.1-dev meta_data.json out --count 5000 --methods norm,best.safetensors \\
      --call num_inference_steps=50 --call guidance_scale=3.5
  rtlynx-evaluate FLUX.1-dev sDCI.yaml out --count 5000 --methods naive,norm,paper,ours \\
      --calibration-prompts prompts.txt --weights weights --reference sDCI \\
      --metrics fid,clip-score,clip-iqa,lpips,psnr,ssim --workers 8

OUT gets a folder of pictures for each method, scores.json and index.html. Dense is always drawn: the
others are compared with it. The same command goes on after a kill; with other --metrics it adds
scores (image-reward needs an older transformers: run it in an environment of its own).

methods: dense; naive, the two largest of four and nothing else; norm, and the token's norm; paper,
norm and low rank on the paper's layers; ours, joint behind blocks of 64, on all block layers; or files
that rtlynx.calibrate or `rtlynx calibrate` wrote. paper and ours are calibrated first, into OUT.

prompts: MJHQ-30K's meta_data.json, sDCI.yaml, or a prompt a line. Of named prompts --count takes those
of SVDQuant's protocol, whose seeds are a hash of the name as well.

--workers N shares the work among N GPUs of a Ray cluster, or of this machine where none is running
(pip install rtlynx[ray]); all machines need the model, and OUT, at the same paths."""


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        prog="rtlynx-evaluate", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Draws prompts with a diffusers pipeline by several methods and measures the "
                    "pictures.")
    parser.add_argument("model", type=pathlib.Path, help="a folder in diffusers' layout")
    parser.add_argument("prompts", type=pathlib.Path, help="a prompt file, see below")
    parser.add_argument("out", type=pathlib.Path, help="the folder for pictures and scores")
    parser.add_argument("--methods", default=["norm"], type=method_list, metavar="NAMES",
                        help="names and files, see below [norm]")
    parser.add_argument("--count", type=positive, help="how many prompts [all]")
    parser.add_argument("--seeds", type=positive, default=1, help="pictures of a prompt [1]")
    parser.add_argument("--size", type=size, metavar="WxH", help="[the pipeline's]")
    parser.add_argument("--call", type=call_argument, action="append", default=[],
                        metavar="NAME=VALUE", help="an argument of the pipeline; a value in JSON")
    parser.add_argument("--dtype", choices=("auto", "bfloat16", "float16", "float32"),
                        default="auto", help="[bfloat16 on a GPU, float32 on a CPU]")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--force", action="store_true",
                        help="sparse even where dense is faster, or was not measured")
    parser.add_argument("--workers", type=positive, metavar="N", help="GPUs, or CPUs, by Ray")
    calibration = parser.add_argument_group("paper and ours")
    calibration.add_argument("--calibration-prompts", type=pathlib.Path, metavar="FILE")
    calibration.add_argument("--calibration-count", type=positive, metavar="N", default=128,
                             help="prompts of it, at most [128]")
    calibration.add_argument("--rank", type=positive, default=64, help="[64]")
    calibration.add_argument("--memory", default="8GiB", help="as in rtlynx.calibrate [8GiB]")
    scores = parser.add_argument_group("scores")
    scores.add_argument("--metrics", type=metric_list, default=list(WITHOUT_WEIGHTS),
                        metavar="NAMES", help="as of rtlynx-metrics [psnr,ssim]")
    scores.add_argument("--weights", type=pathlib.Path, metavar="FOLDER",
                        help="trained networks, as for rtlynx-metrics")
    scores.add_argument("--reference", type=pathlib.Path, metavar="FOLDER",
                        help="fid: the real pictures, in any depth")
    scores.add_argument("--grid", type=positive, default=24, metavar="N",
                        help="prompts on the page [24]")
    parsed = parser.parse_args(arguments)
    check(parser, parsed)
    return parsed


def method_list(text):
    for name in text.split(","):
        if name not in methods.NAMES and not name.endswith(".safetensors"):
            raise argparse.ArgumentTypeError(
                f"required {', '.join(methods.NAMES)} or a file .safetensors, got {name}")
    return text.split(",")


def positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"required a positive number, got {text}")
    return int(text)


def size(text):
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"required WIDTHxHEIGHT, got {text}")
    return {"width": int(found[1]), "height": int(found[2])}


def call_argument(text):
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"required NAME=VALUE, got {text}")
    if name in ("prompt", "generator", "output_type", "width", "height"):
        raise argparse.ArgumentTypeError(f"required another argument than {name}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def check(parser, parsed):
    """Refuses what could not be finished, before anything is read."""
    if not (parsed.model / "model_index.json").is_file():
        parser.error(f"model: required a folder with a model_index.json, got {parsed.model}")
    if parsed.out.exists() and not parsed.out.is_dir():
        parser.error(f"out: required a folder, got {parsed.out}")
    calibrated = [name for name in parsed.methods if name in methods.CALIBRATIONS]
    if calibrated and parsed.calibration_prompts is None:
        parser.error(f"--calibration-prompts: required for {calibrated[0]}, got none")
    needy = [name for name in parsed.metrics if name not in WITHOUT_WEIGHTS]
    if needy and parsed.weights is None:
        parser.error(f"--weights: required for {needy[0]}, got none")
    if "fid" in parsed.metrics and parsed.reference is None:
        parser.error("--reference: required for fid, got none")


def make_settings(parsed):
    device = choose_device(parsed.device)
    dtype = parsed.dtype
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" else "float32"
    prompts = ()
    if parsed.calibration_prompts is not None:
        found = read_prompts(parsed.calibration_prompts)[:parsed.calibration_count]
        prompts = tuple(prompt.text for prompt in found)
    return Settings(parsed.model.resolve(), parsed.out.resolve(), device, dtype, parsed.force,
                    {**dict(parsed.call), **(parsed.size or {})},
                    {"rank": parsed.rank, "memory": parsed.memory}, prompts)


def what_is_drawn(settings, prompts, parsed):
    """All that pictures depend on but the method; what a folder was begun with."""
    text = json.dumps([[prompt.name, prompt.text] for prompt in prompts])
    return {"model": str(settings.model), "prompts": len(prompts),
            "prompts_file": parsed.prompts.name,
            "prompts_digest": hashlib.sha256(text.encode()).hexdigest(), "seeds": parsed.seeds,
            "dtype": settings.dtype, "call": settings.call}


def open_folder(folder, drawn, method):
    """Makes a method's folder, or refuses one that was begun with something else."""
    wanted = {**drawn, "method": method.digest()}
    path = folder / "settings.json"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_atomically(path, json.dumps(wanted, indent=1) + "\n")
        return
    there = json.loads(path.read_text())
    for key, value in wanted.items():
        if there.get(key) != value:
            raise MetricsError(f"{folder}: required the {key} that it was begun with, "
                               f"{there.get(key)}, or another OUT, got {value}")


def draw_all(pool, settings, drawn, prompts, seeds, chosen):
    for method in chosen:
        if method.is_calibrated() and not method.compensation.is_file():
            print(f"{method.name}: calibrating", file=sys.stderr)
            pool.one("calibrate", method)
        folder = settings.out / method.name
        open_folder(folder, drawn, method)
        jobs = [Job(prompt.text, prompt.seed(number), folder / prompt.file_name(number))
                for prompt in prompts for number in range(seeds)]
        missing = [job for job in jobs if not job.path.exists()]
        print(f"{method.name}: {len(jobs)} pictures, {len(jobs) - len(missing)} of them drawn",
              file=sys.stderr)
        with progress_bar(method.name, len(missing)) as finished:
            workers.draw(pool, method, missing, finished)


def list_files(folder):
    if not folder.is_dir():
        raise MetricsError(f"{folder}: required a folder of pictures, found none")
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def score(pool, settings, drawn, prompts, chosen, parsed):
    """The report, with the scores of earlier runs on the same pictures."""
    reference = None
    if "fid" in parsed.metrics:
        reference = reference_pictures(parsed.reference, prompts, list_files)
    report = measure(
        read_folders([settings.out / method.name for method in chosen]), parsed.metrics, None,
        reference, progress_bar,
        lambda metrics, _: workers.PoolScorer(pool, metrics, parsed.weights))
    path = settings.out / "scores.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    earlier = {}
    if before.get("drawn") == drawn:
        earlier = {entry["name"]: entry for entry in before["methods"]}
        report = {**{key: before[key] for key in ("reference_pictures", "fid_features")
                     if key in before}, **report}
        report["metrics"] = sorted({*before["metrics"], *report["metrics"]})
    report["methods"] = [{**earlier.get(entry["name"], {}), **how_it_ran(settings.out, entry["name"]),
                          **entry} for entry in report["methods"]]
    return {"drawn": drawn, **report}


def how_it_ran(out, name):
    path = out / name / "report.json"
    if not path.exists():
        return {}
    report = json.loads(path.read_text())
    return {"layers": len(report["layers"]), "compensation": report["compensation"],
            "sparse_layers": sum(layer["sparse"] for layer in report["layers"])}


def run(parsed, make_networks=Networks):
    prompts = read_prompts(parsed.prompts, parsed.count)
    settings = make_settings(parsed)
    chosen = methods.read_methods(parsed.methods, settings.out)
    drawn = what_is_drawn(settings, prompts, parsed)
    settings.out.mkdir(parents=True, exist_ok=True)
    pool = workers.make_pool(parsed.workers, settings, make_networks)
    draw_all(pool, settings, drawn, prompts, parsed.seeds, chosen)
    report = score(pool, settings, drawn, prompts, chosen, parsed)
    write_atomically(settings.out / "scores.json", json.dumps(report, indent=1, allow_nan=False)
                     + "\n")
    rows = [(prompt.text, prompt.file_name(0)) for prompt in prompts[:parsed.grid]]
    write_atomically(settings.out / "index.html", page.render(report, rows))
    print(table(report))


def main(arguments=None, make_networks=Networks):
    # Before transformers is imported: it must not look anything up.
    os.environ["HF_HUB_OFFLINE"] = "1"
    parsed = parse_arguments(arguments)
    try:
        run(parsed, make_networks)
    except (MetricsError, OSError, torch.OutOfMemoryError) as error:
        print(f"rtlynx-evaluate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("rtlynx-evaluate: interrupted; the same command goes on", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
