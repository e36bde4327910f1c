# SPDX-License-Identifier: Apache-2.0
"""Models made wrong on purpose, and what the tests of real inputs share. Standard library only."""

import json
import pathlib
import shutil
import struct
import tempfile

from cli_case import TINY_TRAINING, CliTest, run

PROMPT = ["-p", "a large red circle top left"]
QUICK = ["--steps", "2", "--device", "cpu"]
CALIBRATE = ["--prompts", 1, "--batch", 1, "--steps", 1, "--rows", 32, "--device", "cpu"]
EVALUATE = ["--prompts", 2, "--velocity-prompts", 1, "--calibration-prompts", 1, *QUICK]
WEIGHTS = pathlib.Path("transformer") / "diffusion_pytorch_model.safetensors"


def train(folder):
    """A model of 64 channels, its shape the tests' own."""
    result = run("train-mini", *TINY_TRAINING, "-o", folder)
    assert result.returncode == 0, result.stderr


def copy_of(model, folder):
    shutil.copytree(model, folder)
    return folder


def header_of(file):
    data = bytearray(file.read_bytes())
    size = struct.unpack("<Q", data[:8])[0]
    return data, json.loads(data[8:8 + size]), 8 + size


def set_values(file, name, bits, count=1):
    """Overwrites the first `count` bf16 values of a tensor, or with None all of them."""
    data, header, start = header_of(file)
    begin, end = header[name]["data_offsets"]
    count = (end - begin) // 2 if count is None else count
    data[start + begin:start + begin + 2 * count] = struct.pack("<H", bits) * count
    file.write_bytes(data)


def add_tensor(file, name, shape, values):
    """Appends a bf16 tensor; `values` are floats, rounded towards zero."""
    data, header, start = header_of(file)
    packed = b"".join(struct.pack("<f", value)[2:] for value in values)
    begin = len(data) - start
    header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, begin + len(packed)]}
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[start:] + packed)


def set_all(file, bits):
    for name in header_of(file)[1]:
        if name != "__metadata__":
            set_values(file, name, bits, None)


def edit_json(file, **values):
    content = json.loads(file.read_text())
    content.update(values)
    file.write_text(json.dumps(content))


class ModelTest(CliTest):
    """A healthy model, and copies of it to be made wrong."""

    @classmethod
    def setUpClass(cls):
        holder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(holder.cleanup)
        cls.healthy = pathlib.Path(holder.name) / "mini"
        train(cls.healthy)

    def model(self):
        return copy_of(self.healthy, self.folder / "model")

    def generate(self, model, *arguments, output="a.png", **options):
        return run("generate", *PROMPT, *QUICK, "--model", model, *arguments, "-o",
                   self.folder / output, **options)
