# SPDX-License-Identifier: Apache-2.0
"""`rtlynx generate` with the parts of small models: what is checked, shown and counted of them.
Standard library only."""

import json
import os
import struct
import unittest

from cli_case import run
from test_real_models import ModelTest, image_data
from test_terminal import lines_of, screen


def read_tensors(path):
    data = path.read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    return {name: (entry["dtype"], entry["shape"],
                   data[start + entry["data_offsets"][0]:start + entry["data_offsets"][1]])
            for name, entry in header.items()}


def write_tensors(path, tensors, empty=()):
    """`empty`: shapes by name of fp32 tensors without values, behind the others."""
    header, data = {}, b""
    for name, (dtype, shape, values) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    end = len(data)
    for name, (rows, columns) in dict(empty).items():
        begin, end = end, end + 4 * rows * columns
        header[name] = {"dtype": "F32", "shape": [rows, columns], "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
        file.truncate(8 + len(text) + end)


class PartsTest(ModelTest):
    def generate(self, *arguments, **options):
        return super().generate(*arguments, "--prompt-cache", "cache", **options)

    def assert_refused_before_the_work(self, *words):
        self.assert_refused(self.generate(), 1, *words)
        self.assertEqual(self.pictures(), [])
        self.assertEqual(list((self.folder / "cache").glob("*")), [])  # nothing was encoded

    def check_shapes(self, parts):
        for part in parts:
            file = next((self.model / part).glob("*.safetensors"))
            good = file.read_bytes()
            tensors = read_tensors(file)
            # A decoder's head and its eyes are not read.
            name = next(name for name, (_, shape, _) in tensors.items()
                        if len(shape) >= 2 and shape[0] != shape[1]
                        and not name.startswith(("lm_head.", "visual.", "model.visual.")))
            dtype, shape, values = tensors[name]
            wrong = [shape[1], shape[0], *shape[2:]]
            write_tensors(file, tensors | {name: (dtype, wrong, values)})
            with self.subTest(part):
                self.assert_refused_before_the_work(file.name, name, f"[{shape[0]}, {shape[1]}",
                                                    f"got [{wrong[0]}, {wrong[1]}")
            del tensors[name]
            write_tensors(file, tensors)
            with self.subTest(part):
                self.assert_refused_before_the_work(part, name)
            file.write_bytes(good)
        self.assertEqual(self.generate().returncode, 0)


class FluxTest(PartsTest):
    golden = "pipeline_flux_dev"

    def test_a_tensor_of_another_shape_is_refused_before_the_work(self):
        self.check_shapes(["text_encoder", "text_encoder_2", "transformer", "vae"])


class QwenImageTest(PartsTest):
    golden = "pipeline_qwen_image"

    def test_a_tensor_of_another_shape_is_refused_before_the_work(self):
        self.check_shapes(["text_encoder", "transformer", "vae"])

    def test_a_report_tells_the_kinds_of_work_apart(self):
        result = super().generate("--json", "--compare", "-n", "2")
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)
        for key in ("load_seconds", "encode_seconds", "decode_seconds", "seconds_per_step",
                    "seconds_per_step_dense"):
            self.assertGreater(report[key], 0, key)
        self.assertGreater(report["peak_host_memory"], 32 << 20)  # torch alone is more
        self.assertNotIn("peak_device_memory", report)

    def test_very_many_prompts_are_encoded_in_parts(self):
        (self.folder / "prompts.txt").write_text("\n".join(f"cat {i}" for i in range(300)))
        command = ["generate", "--model", self.model, "--device", "cpu", "--size", "8x8", "--steps",
                   "1", "--mode", "dense", "--prompts-file", "prompts.txt"]
        code, text = screen(command, "xterm", self.folder)
        self.assertEqual(code, 0, text)
        self.assertEqual(len(self.pictures()), 300)
        kept = [line for line in lines_of(text) if line.startswith(("loading", "encoding"))]
        self.assertEqual([line.split(" [")[0] for line in kept],
                         ["loading text encoder Qwen2.5-VL", "encoding prompts",
                          "loading transformer", "loading autoencoder",
                          "loading text encoder Qwen2.5-VL", "encoding prompts"])  # beside them
        self.assertIn("256/256", kept[1])
        self.assertIn("44/44", kept[5])
        many = {name: image_data(self.folder / name) for name in self.pictures()}
        (self.folder / "prompts.txt").write_text("cat 298\ncat 299")
        result = run(*command, "--seed", "298", "-o", "last.png", cwd=self.folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertNotIn("loading", result.stderr)  # no terminal, no bars
        for index in range(2):
            self.assertEqual(image_data(self.folder / f"last-{index:04}.png"),
                             many[f"rtlynx-{298 + index:04}.png"])


class ZImageTest(PartsTest):
    golden = "pipeline_z_image"

    def test_a_tensor_of_another_shape_is_refused_before_the_work(self):
        self.check_shapes(["text_encoder", "transformer", "vae"])

    @unittest.skipIf(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") > 100 << 30,
                     "128 GiB may fit here")
    def test_memory_for_a_text_encoder_is_looked_for_before_the_work(self):
        rows = 1 << 31  # 128 GiB, of which the disk holds nothing
        file = self.model / "text_encoder" / "model.safetensors"
        tensors = read_tensors(file)
        name = next(name for name in tensors if name.endswith("embed_tokens.weight"))
        columns = tensors.pop(name)[1][1]
        write_tensors(file, tensors, {name: (rows, columns)})
        config = self.model / "text_encoder" / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"vocab_size": rows}))
        self.assert_refused_before_the_work("text_encoder: required 128.", "GiB of memory")


if __name__ == "__main__":
    unittest.main()
