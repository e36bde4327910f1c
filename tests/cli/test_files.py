# SPDX-License-Identifier: Apache-2.0
"""Files that broke this program or its neighbours: outputs that are inputs, names, foreign formats,
models of other forms. Each is refused before the work with what it is, or gives the right result."""

import json
import os
import pathlib
import random
import unittest

from cli_case import TINY_TRAINING, png_chunks, run
from tiny_model import (CALIBRATE, EVALUATE, PROMPT, QUICK, WEIGHTS, ModelTest, add_tensor, copy_of,
                        edit_json)


def pixels(path):
    return [body for kind, body in png_chunks(pathlib.Path(path).read_bytes()) if kind == b"IDAT"]


class FileTest(ModelTest):
    def test_an_output_is_never_an_input(self):
        model = self.model()
        evaluation = self.folder / "e.json"
        run("evaluate", *EVALUATE, "--model", model, "--methods", "norm", "-o", evaluation)
        run("calibrate", *CALIBRATE, "--model", model, "--method", "norm", "-o", self.folder / "c")
        os.symlink(evaluation, self.folder / "link.json")
        os.link(self.folder / "c", self.folder / "hard")
        prompts = self.folder / "prompts.png"
        prompts.write_text("a red circle\n")
        before = {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        calibrate = ["calibrate", *CALIBRATE, "--model", model]
        for command in (["report", evaluation, "-o", evaluation],
                        ["report", evaluation, "-o", self.folder / "link.json"],
                        ["report", evaluation, "--analysis", evaluation, "-o", f"{model}/../e.json"],
                        ["generate", "--prompts-file", prompts, "--model", model, "-o", prompts],
                        [*calibrate, "-o", model / WEIGHTS],
                        [*calibrate, "-o", model / "transformer" / "new.safetensors"],
                        [*calibrate, "-o", model / "model_index.json"],
                        [*calibrate, "--moments", model / WEIGHTS, "-o", self.folder / "n"],
                        [*calibrate, "--moments", self.folder / "n", "-o", self.folder / "n"],
                        [*calibrate, "--method", "sgd", "--start", self.folder / "c", "-o",
                         self.folder / "hard"],
                        [*calibrate, "--merge", self.folder / "c", "-o", self.folder / "c"],
                        ["evaluate", *EVALUATE, "--model", model, "--compensation", self.folder / "c",
                         "-o", self.folder / "hard"],
                        ["evaluate", *EVALUATE, "--model", model, "--results", self.folder / "n", "-o",
                         self.folder / "n"],
                        ["analyze", "--prompts", 1, "--model", model, "-o", model / WEIGHTS],
                        ["bench", "--device", "cpu", "--json", self.folder / "n", "--plot",
                         self.folder / "n"],
                        ["train-mini", *TINY_TRAINING, "-o", self.folder / "new", "--checkpoint",
                         self.folder / "new" / "transformer" / "config.json"]):
            result = run(*command)
            self.assertEqual(result.returncode, 2, (command, result.stderr))
        after = {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        self.assertEqual(before.keys(), after.keys())
        self.assertEqual(before, after)

    def test_restart_replaces_results_and_nothing_else(self):
        command = ["evaluate", *EVALUATE[:-4], "--device", "cpu", "--model", self.healthy, "--methods",
                   "norm", "--restart"]
        foreign = self.folder / "diary.txt"
        foreign.write_text("dear diary")
        self.assert_refused(run(*command, "--results", foreign), 2, "--restart", "diary.txt")
        self.assertEqual(foreign.read_text(), "dear diary")
        own = self.folder / "results"
        for steps in (2, 1):
            result = run(*command, "--results", own, "--steps", steps)
            self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(json.loads(own.read_text())["settings"]["steps"], 1)

    def test_training_leaves_a_model_of_another_form_alone(self):
        model = self.model()
        index = model / (str(WEIGHTS) + ".index.json")
        (model / WEIGHTS).rename(model / "transformer" / "one.safetensors")
        names = json.loads(
            (model / "transformer" / "one.safetensors").read_bytes().split(b"}}")[0][8:] + b"}}")
        index.write_text(json.dumps({"weight_map": {name: "one.safetensors" for name in names
                                                    if name != "__metadata__"}}))
        (model / "checkpoint.safetensors").unlink()
        before = {path: path.read_bytes() for path in model.rglob("*") if path.is_file()}
        result = run("train-mini", *TINY_TRAINING, "-o", model)
        self.assert_refused(result, 1, "a checkpoint of the other form")
        self.assertEqual(before,
                         {path: path.read_bytes() for path in model.rglob("*") if path.is_file()})
        self.assertEqual(self.generate(model).returncode, 0)

    def test_training_leaves_a_model_of_another_kind_alone(self):
        model = self.folder / "flux"
        model.mkdir()
        (model / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
        self.assert_refused(run("train-mini", *TINY_TRAINING, "-o", model), 1, "FluxPipeline")
        self.assertEqual(list(model.iterdir()), [model / "model_index.json"])

    def test_what_cannot_be_written_is_refused_before_the_work(self):
        folder, long = self.folder / "dir.png", self.folder / ("n" * 252 + ".png")
        folder.mkdir()
        file = self.folder / "file"
        file.write_text("x")
        cases = [(["generate", *PROMPT, "--model", self.healthy], "-o", ".png"),
                 (["analyze", "--model", self.healthy], "-o", ".json"),
                 (["evaluate", "--model", self.healthy], "-o", ".json"),
                 (["evaluate", "--model", self.healthy], "--results", ".json"),
                 (["calibrate", "--model", self.healthy], "-o", ".st"),
                 (["calibrate", "--model", self.healthy], "--moments", ".st"),
                 (["bench", "--device", "cpu"], "--json", ".json"),
                 (["bench", "--device", "cpu"], "--plot", ".svg")]
        for command, option, _ in cases:
            for path in (folder, long, file / "in.png", self.folder / "none" / "a.png"):
                result = run(*command, option, path, cwd=self.folder)
                self.assertIn(result.returncode, (1, 2), (command, path, result.stderr))
                self.assertTrue(result.stderr, (command, path))
                self.assertEqual(result.stdout, "", (command, path))
        for command, option in ((["analyze", "--model", self.healthy], "--plots"),
                                (["evaluate", "--model", self.healthy], "--pictures"),
                                (["train-mini", *TINY_TRAINING], "-o")):
            self.assert_refused(run(*command, option, file), 2, option, "folder")
        several = self.folder / "s.png"
        (self.folder / "s-0001.png").mkdir()
        self.assert_refused(self.generate(self.healthy, "-n", 2, output=several), 2, "--output")
        self.assertEqual(self.files(), ["dir.png", "file", "s-0001.png"])

    @unittest.skipIf(os.geteuid() == 0, "root writes everywhere")
    def test_a_folder_that_is_read_only_is_refused_before_the_work(self):
        closed = self.folder / "closed"
        closed.mkdir(0o500)
        for command, option in ((["generate", *PROMPT], "-o"), (["train-mini"], "-o")):
            self.assert_refused(run(*command, option, closed / "a.png"), 1, "Permission denied")

    def test_layers_that_do_not_allow_it_are_said_before_the_work(self):
        output = ["-o", self.folder / "c"]
        result = run("calibrate", *CALIBRATE, "--model", self.healthy, "--transform", "128", *output)
        self.assert_refused(result, 2, "transform", "64 channels", "128")
        result = run("calibrate", *CALIBRATE, "--model", self.healthy, "--choose", "error", "--budget",
                     0, *output)
        self.assert_refused(result, 2, "--budget")
        self.assertEqual(self.files(), [])

    def test_names_need_not_be_utf8(self):
        odd = os.fsdecode(b"lat\xe9")
        model = copy_of(self.healthy, self.folder / odd)
        for extra in ([], ["--json"]):
            result = run("generate", *PROMPT, *QUICK, "--model", model, *extra, "-o",
                         self.folder / (odd + ".png"), errors="strict")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn("lat\\\\xe9.png" if extra else "lat\\xe9.png", result.stdout)
        self.assertTrue((self.folder / (odd + ".png")).exists())
        compensation = self.folder / (odd + ".safetensors")
        for extra in ([], ["--json"]):
            result = run("calibrate", *CALIBRATE, "--model", model, "--method", "norm", *extra, "-o",
                         compensation)
            self.assertEqual(result.returncode, 0, result.stderr)
            result = run("info", "--model", model, "--compensation", compensation, *extra)
            self.assertEqual(result.returncode, 0, result.stderr)
            result = run("evaluate", *EVALUATE, "--model", model, "--methods", "dense",
                         "--compensation", compensation, "--pictures", self.folder / (odd + "-p"),
                         *extra, "--restart", "-o", self.folder / (odd + ".json"))
            self.assertEqual(result.returncode, 0, result.stderr)
        result = run("report", self.folder / (odd + ".json"), "--pictures",
                     self.folder / (odd + "-p"), "-o", self.folder / (odd + ".html"))
        self.assertEqual(result.returncode, 0, result.stderr)
        for extra in ([], ["--json"]):
            result = run("train-mini", *TINY_TRAINING, *extra, "-o", model)
            self.assertEqual(result.returncode, 0, result.stderr)


class ForeignFileTest(ModelTest):
    def test_what_is_no_safetensors_is_named(self):
        model = self.model()
        for content, word in ((b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n",
                               "git lfs pull"), (b"<!DOCTYPE html><html>", "web page"),
                              (b"\x80\x02}q\x00.", "pickle"), (b"PK\x03\x04" + bytes(30), "pickle"),
                              (b"GGUF" + bytes(30), "GGUF"), (b"", "empty file")):
            (model / WEIGHTS).write_bytes(content)
            self.assert_refused(self.generate(model), 1, WEIGHTS.name, word)
            self.assert_refused(self.generate(self.healthy, "--compensation", model / WEIGHTS), 1, word)

    def test_a_pointer_in_place_of_json_is_named(self):
        model = self.model()
        (model / "model_index.json").write_text("version https://git-lfs.github.com/spec/v1\n")
        self.assert_refused(self.generate(model), 1, "model_index.json", "git lfs pull")

    def test_variants_and_stale_indexes_are_named(self):
        model = self.model()
        index = model / (str(WEIGHTS) + ".index.json")
        index.write_text('{"weight_map": {"proj_out.bias": "gone.safetensors"}}')
        self.assert_refused(self.generate(model), 1, "stale", index.name)
        index.unlink()
        (model / WEIGHTS).rename(model / "transformer" / "diffusion_pytorch_model.fp16.safetensors")
        self.assert_refused(self.generate(model), 1, "fp16.safetensors", "variant")

    def test_scaled_fp8_is_named(self):
        model = self.model()
        header = (b'{"scaled_fp8":{"dtype":"F8_E4M3","shape":[0],"data_offsets":[0,0]}}')
        (model / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header)
        self.assert_refused(self.generate(model), 1, "scaled FP8", "bf16")

    def test_other_pipelines_say_what_works_with_them(self):
        model = self.model()
        edit_json(model / "model_index.json", _class_name="QwenImagePipeline")
        self.assert_refused(run("analyze", "--prompts", 1, "--steps", 1, "--model", model, "-o",
                                self.folder / "x.json"), 1, "LynxMiniPipeline",
                            "QwenImagePipeline", "rtlynx generate", "--embeddings",
                            "rtlynx.sparsify")
        edit_json(model / "model_index.json", _class_name="OtherPipeline")
        self.assert_refused(self.generate(model), 1, "OtherPipeline", "FluxPipeline",
                            "rtlynx.sparsify")
        self.assert_refused(self.generate(model / "transformer"), 1, "folder above it")
        self.assert_refused(self.generate(self.healthy / WEIGHTS), 1, "a single file")

    def test_null_keeps_the_default(self):
        model = self.model()
        edit_json(model / "scheduler" / "scheduler_config.json", use_karras_sigmas=None,
                  shift_terminal=None, invert_sigmas=None)
        edit_json(model / "transformer" / "config.json", some_new_option=None)
        result = self.generate(model)
        self.assertEqual(result.returncode, 0, result.stderr)
        edit_json(model / "transformer" / "config.json", axes_dims_rope=None)
        # diffusers' own default, which is for heads of 128 channels
        self.assert_refused(self.generate(model), 1, "axes_dims_rope", "[16,56,56]")

    def test_reports_take_null_and_name_what_they_do_not(self):
        evaluation = self.folder / "e.json"
        run("evaluate", *EVALUATE, "--model", self.healthy, "--methods", "norm", "-o", evaluation)
        content = json.loads(evaluation.read_text())
        method = content["methods"][1]
        method["velocity_error"], method["velocity_error_by_step"] = None, [None, None]
        method["velocity_error_interval"] = [None, None]
        evaluation.write_text(json.dumps(content))
        result = run("report", evaluation, "-o", self.folder / "r.html")
        self.assertEqual(result.returncode, 0, result.stderr)
        content["parameters"] = "many"
        evaluation.write_text(json.dumps(content))
        result = run("report", evaluation, "-o", self.folder / "r.html")
        self.assert_refused(result, 1, "e.json", "must be number, but is string")
        self.assertNotIn("json.exception", result.stderr)
        edit_json(evaluation, parameters=1)
        (self.folder / "a.json").write_text('{"model": 3}')
        result = run("report", evaluation, "--analysis", self.folder / "a.json", "-o",
                     self.folder / "r.html")
        self.assert_refused(result, 1, "a.json", "rtlynx analyze")

    def test_guidance_drives_the_embedding_of_a_distilled_model(self):
        model = self.model()
        edit_json(model / "transformer" / "config.json", guidance_embeds=True)
        self.assert_refused(self.generate(model), 1, "guidance_embedder")
        config = json.loads((model / "transformer" / "config.json").read_text())
        hidden = config["num_attention_heads"] * config["attention_head_dim"]
        rng = random.Random(0)  # large, as the model has hardly learnt to look at them
        for layer, shape in (("linear_1", [hidden, 256]), ("linear_2", [hidden, hidden])):
            name = f"time_text_embed.guidance_embedder.{layer}"
            add_tensor(model / WEIGHTS, f"{name}.weight", shape,
                       [rng.gauss(0, 5) for _ in range(shape[0] * shape[1])])
            add_tensor(model / WEIGHTS, f"{name}.bias", [hidden], [0.0] * hidden)
        for guidance in ("1", "4"):
            result = self.generate(model, "--guidance", guidance, output=f"{guidance}.png")
            self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue(pixels(self.folder / "1.png") != pixels(self.folder / "4.png"))


if __name__ == "__main__":
    unittest.main()
