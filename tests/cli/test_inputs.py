# SPDX-License-Identifier: Apache-2.0
"""Inputs that broke this program or its neighbours: models, numbers, prompts, names. Each is refused
before the work with what it is, or gives the right result."""

import json
import os
import pathlib
import random
import subprocess
import tempfile
import unittest

from cli_case import BINARY, TINY_TRAINING, CliTest, made_by, png_chunks, run
from tiny_model import (PROMPT, QUICK, WEIGHTS, add_tensor, copy_of, edit_json, set_all, set_values,
                        train)

NAN, HUGE = 0x7FC0, 0x7F7F  # bf16: NaN, and 3.4e38
CALIBRATE = ["--prompts", 1, "--batch", 1, "--steps", 1, "--rows", 32, "--device", "cpu"]
EVALUATE = ["--prompts", 2, "--velocity-prompts", 1, "--calibration-prompts", 1, *QUICK]


def pixels(path):
    return [body for kind, body in png_chunks(pathlib.Path(path).read_bytes()) if kind == b"IDAT"]


class ModelTest(CliTest):
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


class NonFiniteTest(ModelTest):
    def test_a_weight_is_named_by_every_command(self):
        model = self.model()
        set_values(model / WEIGHTS, "proj_out.weight", NAN)
        commands = (["generate", *PROMPT, *QUICK, "--compare", "-o", self.folder / "a.png"],
                    ["calibrate", *CALIBRATE, "-o", self.folder / "c.safetensors"],
                    ["calibrate", *CALIBRATE, "--method", "sgd", "-o", self.folder / "c.safetensors"],
                    ["evaluate", *EVALUATE, "-o", self.folder / "e.json"],
                    ["analyze", "--prompts", 1, *QUICK, "-o", self.folder / "n.json"],
                    ["info"])
        for command in commands:
            result = run(*command, "--model", model)
            self.assert_refused(result, 1, str(WEIGHTS.name), "proj_out.weight", "finite", "NaN")
        self.assertEqual(self.files(), ["model"])

    def test_a_weight_of_the_text_encoder_is_named(self):
        model = self.model()
        set_values(model / "text_encoder" / "model.safetensors", "token_embedding", NAN)
        self.assert_refused(self.generate(model), 1, "text_encoder", "token_embedding", "finite")

    def test_what_overflows_while_it_is_drawn_is_named_by_its_step(self):
        model = self.model()
        set_values(model / WEIGHTS, "proj_out.weight", HUGE, None)
        set_values(model / WEIGHTS, "proj_out.bias", HUGE, None)
        self.assert_refused(self.generate(model), 1, "step 1 of 2", "finite")
        result = run("evaluate", *EVALUATE, "--model", model, "-o", self.folder / "e.json")
        self.assert_refused(result, 1, "step 1 of 2", "finite")
        result = run("calibrate", *CALIBRATE, "--model", model, "-o", self.folder / "c.safetensors")
        self.assert_refused(result, 1, "step 1 of 1", "finite")
        self.assertFalse((self.folder / "a.png").exists())

    def test_a_scheduler_without_finite_levels_is_named(self):
        model = self.model()
        config = model / "scheduler" / "scheduler_config.json"
        edit_json(config, shift_terminal=1.0)
        self.assert_refused(self.generate(model), 1, "scheduler_config.json", "noise levels")
        config.write_text(config.read_text().replace("1.0", "1e999"))
        self.assert_refused(self.generate(model), 1, "scheduler_config.json")

    def test_training_never_keeps_what_is_not_finite(self):
        folder = self.folder / "mini"
        for rate in ("nan", "inf", "-1", "0"):
            result = run("train-mini", *TINY_TRAINING, "--learning-rate", rate, "-o", folder)
            self.assert_refused(result, 2, "--learning-rate", "above 0")
        self.assertEqual(self.files(), [])
        result = run("train-mini", *TINY_TRAINING, "--learning-rate", "1e38", "-o", folder)
        self.assert_refused(result, 1, "finite")
        self.assertFalse((folder / "model_index.json").exists())
        self.assertFalse((folder / "checkpoint.safetensors").exists())

    def test_a_trained_low_rank_is_finite_or_not_written(self):
        result = run("calibrate", *CALIBRATE, "--model", self.healthy, "--method", "sgd",
                     "--train-steps", 5, "--train-batch", 1, "--learning-rate", "1e38", "-o",
                     self.folder / "c.safetensors")
        self.assert_refused(result, 1, "finite")
        self.assertEqual(self.files(), [])


class ZeroTest(ModelTest):
    def test_all_zero_inputs_are_solved_by_zero(self):
        model = self.model()
        set_all(model / WEIGHTS, 0)
        for transform in ("none", "16", "columns", "permute"):
            result = run("calibrate", *CALIBRATE, "--model", model, "--transform", transform,
                         "--json", "-o", self.folder / "c.safetensors")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual({layer["error"] for layer in json.loads(result.stdout)["layers"]}, {0})
        result = run("evaluate", *EVALUATE, "--methods", "all", "--model", model, "-o",
                     self.folder / "e.json")
        self.assertEqual(result.returncode, 0, result.stderr)
        methods = json.loads((self.folder / "e.json").read_text())["methods"]
        self.assertEqual({method["velocity_error"] for method in methods}, {0})
        result = run("report", self.folder / "e.json", "-o", self.folder / "r.html")
        self.assertEqual(result.returncode, 0, result.stderr)


class NumberTest(ModelTest):
    def refused(self, command, option, *values, words=()):
        for value in values:
            result = run(*command, option, value, cwd=self.folder)
            self.assert_refused(result, 2, option, *words)
            self.assertNotIn("digits", result.stderr)
        self.assertEqual(self.files(), [])

    def test_numbers_are_decimal_finite_and_in_range(self):
        generate = ["generate", *PROMPT]
        self.refused(generate, "--seed", "-1", "18446744073709551616", "0x10", "1e3", "nan", " 1")
        for option in ("--steps", "--images", "--batch", "--scale", "--threads"):
            self.refused(generate, option, "-1", "1.5", "0x2", "nan", "99999999999999999999")
        self.refused(generate, "--guidance", "nan", "inf", "-1", "101", "1e999", "0x1p1")
        self.refused(["calibrate"], "--damping", "nan", "0", "1e4")
        self.refused(["calibrate"], "--learning-rate", "nan", "0", words=["above 0"])
        self.refused(["calibrate", "--choose", "error"], "--budget", "nan", "0", "1.1",
                     words=["above 0, up to 1"])
        self.refused(["train-mini"], "--warm-up", "-1", "nan", "1.5")
        self.refused(["analyze"], "--rows", "0", "nan")
        self.refused(["bench"], "--sustained-ms", "nan", "0.5")
        self.refused(["bench"], "--seed", "-1")
        self.refused(["evaluate"], "--calibration-seed", "-1")
        self.refused(generate, "--size", "0x40x64", "64x", "x64", "64", " 64x64", "+64x64", "64x64x64")

    def test_leading_zeros_are_decimal(self):
        for seed in ("010", "10"):
            result = self.generate(self.healthy, "--seed", seed, output=f"{seed}.png")
            self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(made_by(self.folder / "010.png")["seed"], 10)
        self.assertEqual((self.folder / "010.png").read_bytes(),
                         (self.folder / "10.png").read_bytes())

    def test_seeds_do_not_wrap(self):
        last = 2 ** 64 - 1
        result = self.generate(self.healthy, "--seed", last)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(made_by(self.folder / "a.png")["seed"], last)
        (self.folder / "a.png").unlink()
        self.assert_refused(self.generate(self.healthy, "--seed", last - 1, "-n", 3), 2, "--seed",
                            "2^64 - 1")
        self.assertEqual(self.files(), [])

    def test_shapes_whose_products_overflow_are_refused(self):
        for shape in ("9223372036854775807,8,16", "8,9223372036854775800,16", "2000000000,8,16"):
            self.assert_refused(run("info", "--shape", shape), 2, "--shape", "2^30")
        for shape in (f"{1 << 30},{1 << 30},{1 << 30}", f"1,{1 << 30},{1 << 30}"):
            result = run("info", "--shape", shape, "--gpu", "h200", "--rank", 1 << 20, "--costs")
            self.assertEqual(result.returncode, 0, result.stderr)

    def test_an_empty_value_is_not_an_absent_one(self):
        for command, option in ((["calibrate", "--moments", "m"], "--shard"),
                                (["generate", *PROMPT], "--compensation"),
                                (["generate", *PROMPT], "--model"),
                                (["evaluate"], "--results"), (["report", "x"], "--analysis"),
                                (["train-mini"], "--output"), (["bench"], "--json")):
            self.refused(command, option, "", words=["empty"])


class BatchTest(ModelTest):
    def test_a_picture_does_not_depend_on_its_batch(self):
        prompts = ["a large red circle top left", "two small blue rings bottom right",
                   "the word cat in white top right"]
        drawn = []
        for batch in (1, 2, 8):
            result = run("generate", *(part for text in prompts for part in ("-p", text)), *QUICK,
                         "--model", self.healthy, "--batch", batch, "-o", self.folder / "x.png")
            self.assertEqual(result.returncode, 0, result.stderr)
            drawn.append([(self.folder / f"x-{i:04}.png").read_bytes() for i in range(3)])
        self.assertEqual(drawn[0], drawn[1])
        self.assertEqual(drawn[0], drawn[2])
        result = run("generate", "-p", prompts[1], "--seed", 1, *QUICK, "--model", self.healthy, "-o",
                     self.folder / "alone.png")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual((self.folder / "alone.png").read_bytes(), drawn[0][1])


class PromptsTest(ModelTest):
    def draw(self, content, *arguments):
        file = self.folder / "prompts.txt"
        file.write_bytes(content)
        return run("generate", "--prompts-file", file, "--model", self.healthy, "--steps", 1,
                   "--device", "cpu", *arguments, "-o", self.folder / "p.png")

    def prompts(self):
        return [made_by(path)["prompt"] for path in sorted(self.folder.glob("p*.png"))]

    def test_every_way_to_save_text_gives_the_same_prompts(self):
        text = "a red circle\n\n  \nthe word cat\n"
        for content in (text.encode(), text.replace("\n", "\r\n").encode(),
                        text.replace("\n", "\r").encode(), text.encode("utf-8-sig"),
                        text.encode("utf-16"), "\ufeff".encode("utf-16-be") + text.encode("utf-16-be"),
                        text.rstrip().encode()):
            result = self.draw(content)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(self.prompts(), ["a red circle", "the word cat"])
            self.assertEqual(made_by(self.folder / "p-0001.png")["seed"], 1)

    def test_lines_of_json_have_seeds_and_no_sizes(self):
        result = self.draw(b'{"prompt": "a red circle", "seed": 9}\n{"prompt": "the word cat"}')
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.prompts(), ["a red circle", "the word cat"])
        self.assertEqual([made_by(self.folder / f"p-000{i}.png")["seed"] for i in (0, 1)], [9, 1])
        self.assert_refused(self.draw(b'{"prompt": "a red circle", "size": "32x32"}'), 2,
                            "line 1, size", "lynx-mini")

    def test_pipes_and_standard_input(self):
        result = run("generate", "--prompts-file", "-", "--model", self.healthy, "--steps", 1, "-o",
                     self.folder / "p.png", input="a red circle\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.prompts(), ["a red circle"])
        command = (f"'{BINARY}' generate --prompts-file <(echo the word cat) --model "
                   f"'{self.healthy}' --steps 1 -o '{self.folder}/p.png'")
        result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=600)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.prompts(), ["the word cat"])

    def test_what_is_wrong_is_said_with_its_line(self):
        for content, words in ((b"a red circle\n\xe9 cat\n", ["line 2", "\\xe9", "character 1"]),
                               (b"a red circle\n\na red cirkle\n", ["line 3", "cirkle", "circle"]),
                               (b"a red \x1b[31mcircle\n", ["line 1", "\\x1b", "character 7"]),
                               ("a red circle".encode("utf-16-le"), ["line 1", "byte order mark"]),
                               (b"", ["prompt on some line"]), (b"\n \r\n", ["prompt on some line"])):
            result = self.draw(content)
            self.assert_refused(result, 2, *words)
            self.assertNotIn("\x1b", result.stderr)
        self.assertEqual(self.files(), ["prompts.txt"])

    def test_characters_are_counted_as_characters(self):
        result = self.generate(self.healthy, "-p", "«» «» cirkle")
        self.assert_refused(result, 2, "--prompt 2", "at character 1")
        result = self.generate(self.healthy, "-p", "a, b, \u00e9")
        self.assert_refused(result, 2, "--prompt 2")

    def test_control_characters_in_an_option_are_refused(self):
        result = run("generate", "-p", "a red circle \x1b[2J", "-o", self.folder / "a.png")
        self.assert_refused(result, 2, "--prompt", "\\x1b")
        self.assertNotIn("\x1b", result.stderr)
        result = run("generate", "-p", "a red circle", "--\x1b[2J")
        self.assert_refused(result, 2, "\\x1b")
        self.assertNotIn("\x1b", result.stderr)


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
