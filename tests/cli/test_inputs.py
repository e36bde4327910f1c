# SPDX-License-Identifier: Apache-2.0
"""Values that broke this program or its neighbours: weights, numbers, prompts. Each is refused before
the work with what it is, or gives the right result."""

import json
import subprocess
import unittest

from cli_case import BINARY, TINY_TRAINING, made_by, run
from tiny_model import (CALIBRATE, EVALUATE, PROMPT, QUICK, WEIGHTS, ModelTest, edit_json, set_all,
                        set_values)

NAN, HUGE = 0x7FC0, 0x7F7F  # bf16: NaN, and 3.4e38


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


if __name__ == "__main__":
    unittest.main()
