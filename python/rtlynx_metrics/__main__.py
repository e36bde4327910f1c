# SPDX-License-Identifier: Apache-2.0
"""The command line: arguments, table, exit codes (1 failure, 2 bad usage)."""

import argparse
import contextlib
import json
import os
import pathlib
import sys

import torch

from .errors import MetricsError
from .measure import METRICS, WITHOUT_WEIGHTS, Networks, measure
from .pictures import read_folders

EPILOG = """examples:
  rtlynx generate --mode dense --prompts-file prompts.txt -o dense/x.png
  rtlynx generate --compensation best.safetensors --prompts-file prompts.txt -o sparse/x.png
  rtlynx-metrics dense sparse --reference photos --weights weights -o metrics.json
  rtlynx-metrics dense sparse --metrics clip-score,clip-iqa,lpips --weights weights
  rtlynx-metrics dense sparse --metrics psnr,ssim

weights, put there by you (nothing is downloaded):
  inception-2015-12-05.pt         fid: the TorchScript Inception of stylegan2-ada-pytorch
  checkpoints/alexnet-owt-7be5be79.pth   lpips: torchvision's AlexNet
  clip-vit-large-patch14/         clip-score, clip-iqa: openai/clip-vit-large-patch14, transformers
  ImageReward/ImageReward.pt      image-reward: THUDM/ImageReward,
  ImageReward/med_config.json     with its config and
  bert-base-uncased/              its tokenizer

Intervals are 95 %: bootstrap over pictures; for fid, which resampling would bias, a jackknife over
ten groups. Changes are paired, picture by picture, with the first folder; lpips, psnr and ssim are
distances to its pictures. FID falls with the number of pictures: compare equal numbers only."""

DEFAULT_METRICS = ("fid", "clip-score", "clip-iqa")

# Key, title, format of a value.
COLUMNS = (("fid", "FID", "{:.2f}"), ("clip_score", "CLIP-Score", "{:.2f}"),
           ("clip_iqa", "CLIP-IQA", "{:.4f}"), ("image_reward", "ImageReward", "{:.3f}"),
           ("lpips", "LPIPS", "{:.4f}"), ("psnr", "PSNR", "{:.2f}"), ("ssim", "SSIM", "{:.4f}"))


def metric_list(text):
    names = text.split(",")
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise argparse.ArgumentTypeError(f"required some of {', '.join(METRICS)}, got {unknown[0]}")
    return list(dict.fromkeys(names))


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        prog="rtlynx-metrics", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measures pictures that `rtlynx generate` or rtlynx-evaluate drew: one folder per "
                    "method, the same prompts and seeds in each.")
    parser.add_argument("folders", nargs="+", metavar="FOLDER", type=pathlib.Path,
                        help="the pictures of a method; the first is what others are compared with")
    parser.add_argument("--reference", type=pathlib.Path,
                        help="fid: a folder of the real pictures to compare with")
    parser.add_argument("--metrics", type=metric_list, default=list(DEFAULT_METRICS),
                        metavar="NAMES", help=f"some of {','.join(METRICS)} "
                             f"[{','.join(DEFAULT_METRICS)}]")
    parser.add_argument("--weights", type=pathlib.Path, metavar="FOLDER",
                        help="where the trained networks lie, see below; not for psnr and ssim")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("-o", "--output", type=pathlib.Path, help="write the report as JSON")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parsed = parser.parse_args(arguments)
    if "fid" in parsed.metrics and parsed.reference is None:
        parser.error("--reference: required for fid, got none")
    needy = [name for name in parsed.metrics if name not in WITHOUT_WEIGHTS]
    if needy and parsed.weights is None:
        parser.error(f"--weights: required for {needy[0]}, got none")
    if parsed.output:
        check_output(parser, parsed)
    return parsed


def check_output(parser, parsed):
    """Refuses what could not be written at the end, or would be written over an input."""
    output = parsed.output
    if not output.parent.is_dir():
        parser.error(f"--output: required an existing folder, got {output.parent}")
    if output.is_dir():
        parser.error(f"--output: required a file, got the folder {output}")
    pictures = [*parsed.folders, *([parsed.reference] if parsed.reference else [])]
    is_picture = output.suffix.lower() != ".json" and any(is_inside(output, folder)
                                                          for folder in pictures)
    is_weight = parsed.weights is not None and is_inside(output, parsed.weights)
    if output.exists() and (is_picture or is_weight):
        parser.error(f"--output: required another file than those that are read, got {output}")


def is_inside(path, folder):
    return path.resolve().is_relative_to(folder.resolve())


def choose_device(name):
    if name == "cuda" and not torch.cuda.is_available():
        raise MetricsError("--device cuda: required a GPU that torch sees, found none")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def progress_bar(label, count):
    """A line on stderr; silent unless that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda count=1: None
        return
    from tqdm import tqdm
    with tqdm(desc=label, total=count) as bar:
        yield bar.update


def cell(method, key, form):
    """A value and its interval; nothing where there is none."""
    if key not in method:
        return ""
    low, high = method[f"{key}_interval"]
    return f"{form.format(method[key])} ({form.format(low)} to {form.format(high)})"


def table(report):
    columns = [column for column in COLUMNS
               if any(column[0] in method for method in report["methods"])]
    rows = [["method"] + [title for _, title, _ in columns]]
    for method in report["methods"]:
        for suffix, label in (("", method["name"]), ("_change", "  against the first")):
            cells = [cell(method, key + suffix, form) for key, _, form in columns]
            if not suffix or any(cells):
                rows.append([label, *cells])
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip()
                     for row in rows)


def write_atomically(path, text):
    unfinished = path.with_name(path.name + ".partial")
    unfinished.write_text(text)
    os.replace(unfinished, path)


def run(arguments, networks=None):
    """`networks` replaces those of --weights."""
    networks = networks or Networks(arguments.weights, choose_device(arguments.device))
    report = measure(read_folders(arguments.folders), arguments.metrics, networks,
                     arguments.reference, progress_bar)
    text = json.dumps(report, indent=2, allow_nan=False)
    if arguments.output:
        write_atomically(arguments.output, text + "\n")
    print(text if arguments.json else table(report))


def main(arguments=None, networks=None):
    # Before transformers is imported: it must not look anything up.
    os.environ["HF_HUB_OFFLINE"] = "1"
    parsed = parse_arguments(arguments)
    try:
        run(parsed, networks)
    except MetricsError as error:
        print(f"rtlynx-metrics: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("rtlynx-metrics: interrupted; nothing was written", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
