# SPDX-License-Identifier: Apache-2.0
"""`rtlynx calibrate` and `analyze --prompts-file` with a small model of each family. Standard library
only."""

import array
import json
import math
import struct
import unittest

import small_models
from cli_case import CliTest, run

GOLDENS = small_models.GOLDENS
FAMILIES = ("pipeline_flux_dev", "pipeline_qwen_image", "pipeline_z_image")
REQUEST = json.loads((GOLDENS / "pipeline_request.json").read_text())
SMALL = ["--device", "cpu", "--width", "64", "--height", "64", "--steps", "2"]
# A continuous function of the sums, unlike a low rank, whose directions may be turned.
REFIT = [*SMALL, "--method", "refit"]


def entries_in(data):
    """Where each tensor of a safetensors file lies, and of which type it is."""
    start = 8 + struct.unpack("<Q", data[:8])[0]
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            yield name, entry["dtype"], start + begin, start + end


def tensors_in(path):
    """The values of the bf16 tensors of a safetensors file."""
    data = path.read_bytes()
    tensors = {}
    for name, dtype, begin, end in entries_in(data):
        if dtype == "BF16":
            halves = array.array("H", data[begin:end])
            tensors[name] = [struct.unpack("<f", struct.pack("<I", bits << 16))[0]
                             for bits in halves]
    return tensors


def distance(values, exact):
    """In the norm of `exact`."""
    lost = sum((a - b) ** 2 for a, b in zip(values, exact, strict=True))
    return math.sqrt(lost / sum(value ** 2 for value in exact))


class PromptsFileTest(CliTest):
    def make(self, golden, prompts=None):
        model = self.folder / golden
        if not model.exists():
            small_models.make(golden, model)
        (self.folder / "prompts.txt").write_text("\n".join(prompts or REQUEST["prompts"]),
                                                 encoding="utf-8")
        return model

    def calibrate(self, model, *arguments, options=REFIT):
        return run("calibrate", "--model", model, *options, *arguments, cwd=self.folder)

    def calibrated(self, model, *arguments):
        result = self.calibrate(model, *arguments, "-o", "made.safetensors")
        self.assertEqual(result.returncode, 0, result.stderr)
        return tensors_in(self.folder / "made.safetensors")

    def assert_close(self, made, exact, limit):
        self.assertEqual(made.keys(), exact.keys())
        self.assertGreater(len(exact), 0)
        for name, values in exact.items():
            self.assertLess(distance(made[name], values), limit, name)


class CalibrateTest(PromptsFileTest):
    # The text encoders agree with transformers' to 1e-5, a refit divides by the damping of 0.01 in
    # the directions that hold least, and the file is rounded to bf16.
    ROUNDING = 1e-5 / 0.01 + 2 ** -8

    def test_it_is_as_if_diffusers_had_encoded_the_prompts(self):
        for golden in FAMILIES:
            with self.subTest(golden):
                model = self.make(golden)
                saved = GOLDENS / golden / "embeddings.safetensors"
                # The file has a negative prompt as well: both are guided away from it.
                guided = ["--true-cfg", "2"]
                exact = self.calibrated(model, *guided, "--embeddings", saved)
                negative = ["--negative", REQUEST["negative"]]
                made = self.calibrated(model, *guided, "--prompts-file", "prompts.txt", *negative)
                self.assert_close(made, exact, self.ROUNDING)
                self.make(golden, ["a dog", "Two Foxes, watercolor"])
                other = self.calibrated(model, *guided, "--prompts-file", "prompts.txt", *negative)
                self.assertGreater(max(distance(other[name], exact[name]) for name in exact),
                                   4 * self.ROUNDING)

    def test_the_file_fits_the_model(self):
        model = self.make("pipeline_z_image")
        result = self.calibrate(model, "--prompts-file", "prompts.txt", "--rank", "8", "--json",
                                "-o", "z.safetensors", options=SMALL)
        self.assertEqual(result.returncode, 0, result.stderr)
        for layer in json.loads(result.stdout)["layers"]:
            self.assertLess(layer["error"], layer["error_before"], layer)
        result = run("generate", "--model", model, "--device", "cpu", "--size", "40x24", "--steps",
                     "1", "-p", "a cat", "--compensation", "z.safetensors", cwd=self.folder)
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_what_is_cut_of_a_prompt_is_said(self):
        model = self.make("pipeline_flux_dev", ["a red cat on a window " * 30])
        self.calibrated(model, "--prompts-file", "prompts.txt")
        result = self.calibrate(model, "--prompts-file", "prompts.txt")
        self.assertIn("CLIP reads 75 tokens; the last", result.stderr)

    def test_refusals_come_before_a_prompt_is_encoded(self):
        model = self.make("pipeline_qwen_image")
        encoder = model / "text_encoder" / "model.safetensors"
        data = bytearray(encoder.read_bytes())
        begin = next(begin for name, _, begin, _ in entries_in(data) if "down_proj" in name)
        data[begin:begin + 4] = struct.pack("<f", math.nan)
        encoder.write_bytes(data)
        (self.folder / "lines.jsonl").write_text('{"prompt": "a cat", "seed": 3}')
        (self.folder / "empty.txt").write_text("\n")
        texts = ["--prompts-file", "prompts.txt"]
        self.assert_refused(self.calibrate(model, *texts), 1, "text_encoder", "finite")
        for arguments, code, words in (
                ([*texts, "--true-cfg", "4"], 2, ["negative prompt together"]),
                ([*texts, "--negative", "a dog"], 2, ["negative prompt together"]),
                ([*texts, "--guidance", "3"], 2, ["--guidance: required a model that reads it"]),
                ([*texts, "--embeddings", "e.safetensors"], 2, ["excludes"]),
                ([*texts, "--prompts", "4"], 2, ["excludes"]),
                ([*texts, "-o", "prompts.txt"], 2, ["required another file than those of"]),
                (["--prompts-file", "lines.jsonl"], 2, ["line 1", "a seed as well"]),
                (["--prompts-file", "empty.txt"], 2, ["empty.txt", "got none"]),
                (["--prompts-file", "none.txt"], 1, ["none.txt"]),
                (["--negative", "a dog"], 2, ["--prompts-file"]),
                ([], 2, ["--width: required --prompts-file or --embeddings"])):
            with self.subTest(arguments):
                self.assert_refused(self.calibrate(model, *arguments), code, *words)
        self.assert_refused(self.calibrate(model, *texts, "--rank", "4096", options=SMALL), 2,
                            "rank: required")
        (model / "tokenizer" / "merges.txt").unlink()
        self.assert_refused(self.calibrate(model, *texts), 1, "merges.txt")
        self.assertEqual([name for name in self.files() if name.endswith(".blocks")], [])


class AnalyzeTest(PromptsFileTest):
    def analyze(self, model, *arguments):
        result = run("analyze", "--model", model, *SMALL, *arguments, "--json", cwd=self.folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def test_every_family_is_analyzed(self):
        for golden in FAMILIES:
            with self.subTest(golden):
                model = self.make(golden)
                report = self.analyze(model, "--prompts-file", "prompts.txt", "--true-cfg", "2",
                                      "--negative", REQUEST["negative"])
                exact = self.analyze(model, "--true-cfg", "2", "--embeddings",
                                     GOLDENS / golden / "embeddings.safetensors")
                self.assertGreater(len(exact["layers"]), 0)
                for ours, theirs in zip(report["layers"], exact["layers"], strict=True):
                    self.assertEqual(ours["name"], theirs["name"])
                    self.assertAlmostEqual(ours["distribution"]["kept_energy"],
                                           theirs["distribution"]["kept_energy"], delta=1e-4)

    def test_help_shows_a_first_command_for_each_family(self):
        for command in ("analyze", "calibrate"):
            text = run(command, "--help").stdout
            for model in ("FLUX.1-dev", "Qwen-Image", "Z-Image-Turbo"):
                self.assertIn(f"rtlynx {command} --model {model} --prompts-file", text)


if __name__ == "__main__":
    unittest.main()
