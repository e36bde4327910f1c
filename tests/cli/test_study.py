# SPDX-License-Identifier: Apache-2.0
"""The commands that measure, calibrate and train lynx-mini, as a user meets them."""

import json
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from cli_case import BINARY, PROMPT, QUICK, TINY_TRAINING, CliTest, made_by, png_size, run


class EvaluateTest(CliTest):
    def test_the_shipped_model_keeps_to_its_captions(self):
        path = self.folder / "metrics.json"
        result = run("evaluate", "--prompts", 6, "--velocity-prompts", 1, "--steps", 14, "--methods",
                     "dense,norm", "-o", path)
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(path.read_text())
        dense, norm = report["methods"]
        # 99.7 % of 1,000 in models/lynx-mini/metrics.json: two misses of six would be a broken model.
        self.assertGreaterEqual(dense["caption_accuracy"], 5 / 6)
        self.assertGreater(norm["ssim"], 0.5)
        self.assertLess(norm["velocity_error"], 0.5)
        self.assertGreater(report["parameters"], 13_000_000)
        self.assertRegex(result.stdout, r"norm +activation 2:4 +0\.50 ")

    def test_unknown_methods_are_refused(self):
        self.assert_refused(run("evaluate", "--methods", "sorcery"), 2, "sorcery", "sparsegpt")


class StudyTest(CliTest):
    """A tiny model of its own: what matters here is that the commands fit together."""

    def test_evaluate_analyze_and_report(self):
        model, pictures = self.folder / "mini", self.folder / "pictures"
        run("train-mini", *TINY_TRAINING, "-o", model)
        common = ["--model", model, "--device", "cpu", "--steps", 2]
        result = run("evaluate", *common, "--prompts", 2, "--calibration-prompts", 1, "--methods",
                     "all", "-o", self.folder / "metrics.json", "--pictures", pictures,
                     "--keep", 1)
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads((self.folder / "metrics.json").read_text())
        methods = [method["name"] for method in report["methods"]]
        for name in ("dense", "norm", "block64+joint", "wanda", "sparsegpt+lora", "fixed-half",
                     "mixed"):
            self.assertIn(name, methods)
        self.assertEqual({path.name for path in pictures.iterdir()},
                         {f"{name}-0000.png" for name in methods})
        result = run("analyze", *common, "--prompts", 1, "-o", self.folder / "analysis.json",
                     "--plots", self.folder / "plots")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"transformer_blocks\.0\.attn\.to_qkv +64 ")
        self.assertEqual(sorted(path.name for path in (self.folder / "plots").iterdir()),
                         ["distribution.svg", "error-by-layer.svg", "error-by-step.svg",
                          "kept-energy.svg"])
        result = run("report", self.folder / "metrics.json", "--analysis",
                     self.folder / "analysis.json", "--pictures", pictures, "-o",
                     self.folder / "report.html")
        self.assertEqual(result.returncode, 0, result.stderr)
        page = (self.folder / "report.html").read_text()
        self.assertEqual(page.count("data:image/png;base64,"), len(methods))
        self.assertEqual(page.count("<svg"), 6)
        for part in ("<!DOCTYPE html>", "wanda", "2 largest of every 4 keep", "Gaussian"):
            self.assertIn(part, page)

    def test_an_interrupted_evaluation_goes_on(self):
        model, output = self.folder / "mini", self.folder / "metrics.json"
        partial = self.folder / "metrics.json.partial"
        run("train-mini", *TINY_TRAINING, "-o", model)
        command = ["evaluate", "--model", model, "--device", "cpu", "--steps", 2, "--prompts", 4,
                   "--calibration-prompts", 1, "--methods", "norm,naive,magnitude,wanda", "-o"]
        with subprocess.Popen([BINARY, *map(str, command), output], stderr=subprocess.PIPE,
                              text=True) as process:
            deadline = time.monotonic() + 120
            while not partial.exists() and time.monotonic() < deadline:  # dense is finished
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, message = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 1)
        self.assertIn(f"the same command goes on from {partial}", message)
        self.assertEqual(self.files(), ["metrics.json.partial", "metrics.json.partial.work", "mini"])
        self.assert_refused(run(*command, output, "--guidance", 2), 1, "guidance = 2.0", "got 4.0")
        self.assertEqual(run(*command, output).returncode, 0)
        self.assertEqual(run(*command, self.folder / "whole.json").returncode, 0)
        self.assertEqual(output.read_bytes(), (self.folder / "whole.json").read_bytes())
        self.assertEqual(self.files(), ["metrics.json", "mini", "whole.json"])  # nothing partial

    def test_kept_results_are_added_to_or_begun_anew(self):
        model, results = self.folder / "mini", self.folder / "results"
        run("train-mini", *TINY_TRAINING, "-o", model)
        command = ["evaluate", "--model", model, "--device", "cpu", "--prompts", 2, "--json",
                   "--results", results]
        one = json.loads(run(*command, "--steps", 2, "--methods", "norm").stdout)
        more = json.loads(run(*command, "--steps", 2, "--methods", "naive,norm").stdout)
        self.assertEqual([method["name"] for method in more["methods"]], ["dense", "naive", "norm"])
        self.assertEqual([more["methods"][0], more["methods"][2]], one["methods"])
        self.assert_refused(run(*command, "--steps", 3), 1, "steps = 3", "got 2")
        again = json.loads(run(*command, "--steps", 3, "--methods", "norm", "--restart").stdout)
        self.assertEqual(again["steps"], 3)
        self.assertEqual(self.files(), ["mini", "results"])

    def test_reports_need_an_evaluation(self):
        (self.folder / "other.json").write_text("{}")
        result = run("report", self.folder / "other.json", "-o", self.folder / "report.html")
        self.assert_refused(result, 1, "other.json", "rtlynx evaluate")
        self.assert_refused(run("report", self.folder / "none.json"), 1, "none.json")
        self.assertEqual(self.files(), ["other.json"])


class CalibrateTest(CliTest):
    RUN = ["--prompts", 2, "--batch", 1, "--steps", 2, "--rows", 64, "--device", "cpu"]

    @classmethod
    def setUpClass(cls):
        holder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(holder.cleanup)
        cls.model = pathlib.Path(holder.name) / "mini"
        made = run("train-mini", *TINY_TRAINING, "-o", cls.model)
        assert made.returncode == 0, made.stderr

    def calibrate(self, *arguments):
        return run("calibrate", "--model", self.model, *self.RUN, *arguments)

    def made(self, *arguments):
        path = self.folder / "c.safetensors"
        result = self.calibrate(*arguments, "-o", path)
        self.assertEqual(result.returncode, 0, result.stderr)
        return path, result

    def test_a_model_is_drawn_with_its_compensation(self):
        path, result = self.made("--transform", "64", "--json")
        report = json.loads(result.stdout)
        self.assertEqual((report["method"], report["transform"], report["rank"]),
                         ("joint", "block 64", 16))
        self.assertEqual(len(report["layers"]), 14)
        self.assertEqual(self.files(), ["c.safetensors"])  # nothing partial is left
        drawn = run("generate", *PROMPT, *QUICK, "--model", self.model, "--compensation", path,
                    "--compare", "--json", "-o", self.folder / "a.png")
        self.assertEqual(drawn.returncode, 0, drawn.stderr)
        self.assertEqual(json.loads(drawn.stdout)["mode"], "joint (transform block 64, rank 16)")
        self.assertTrue(made_by(self.folder / "a.png")["mode"].startswith("dense and joint"))
        shown = run("info", "--model", self.model, "--compensation", path, "--layers", "--json")
        shown = json.loads(shown.stdout)
        self.assertEqual(shown["compensation"]["transform"], "block 64")
        layers = {layer["name"]: layer for layer in shown["model"]["layers"]}
        self.assertEqual(layers["single_transformer_blocks.0.proj_mlp"]["compensation"],
                         "no norm, own weight, rank 16, blocks of 64")
        self.assertNotIn("compensation", layers["proj_out"])

    def test_a_model_may_bring_its_compensation(self):
        plain, _ = self.made("--method", "low-rank")
        plain = plain.rename(self.folder / "plain.safetensors")
        path, _ = self.made("--method", "low-rank", "--transform", "64")
        model = self.folder / "model"
        shutil.copytree(self.model, model)
        shutil.copy(path, model / "compensation.safetensors")
        generate = ["generate", *PROMPT, *QUICK, "--model", model, "--json", "-o",
                    self.folder / "a.png"]
        drawn = run(*generate, "--compare", "--beside", plain, "--scale", 1)
        self.assertEqual(drawn.returncode, 0, drawn.stderr)
        report = json.loads(drawn.stdout)
        self.assertEqual(report["mode"], "low-rank (transform block 64, rank 16)")
        self.assertEqual(report["compensation"], str(model / "compensation.safetensors"))
        self.assertEqual(report["beside"], "low-rank (transform none, rank 16)")
        self.assertLessEqual(report["images"][0]["beside"]["ssim"], 1)
        self.assertIn("the model's own", drawn.stderr)
        self.assertIn("compensation.safetensors", drawn.stderr)
        self.assertEqual(png_size(self.folder / "a.png"), (4 * 64 + 3 * 2, 64))
        drawn = run(*generate, "--mode", "naive")  # a mode that is named comes first
        self.assertEqual(json.loads(drawn.stdout)["mode"], "naive")
        self.assertNotIn("the model's own", drawn.stderr)
        self.assert_refused(run(*generate, "--beside", plain), 2, "--compare")

    def test_column_norms_and_permutations_cost_nothing_where_they_fold(self):
        path, _ = self.made("--method", "refit", "--transform", "permute")
        shown = run("info", "--model", self.model, "--compensation", path, "--layers", "--json")
        layers = {layer["name"]: layer.get("compensation", "")
                  for layer in json.loads(shown.stdout)["model"]["layers"]}
        self.assertEqual(layers["transformer_blocks.0.attn.to_q"],
                         "no norm, own weight, column norms at no cost")
        self.assertEqual(layers["transformer_blocks.0.ff.net.2"],  # behind a GELU
                         "no norm, own weight, column norms, permuted at no cost")
        drawn = run("generate", *PROMPT, *QUICK, "--model", self.model, "--compensation", path,
                    "--compare", "-o", self.folder / "a.png")
        self.assertEqual(drawn.returncode, 0, drawn.stderr)

    def test_the_same_command_makes_the_same_file(self):
        path, _ = self.made("--method", "low-rank")
        first = path.read_bytes()
        self.made("--method", "low-rank")
        self.assertEqual(path.read_bytes(), first)

    def test_kept_statistics_serve_another_method(self):
        sums = self.folder / "sums"
        self.made("--moments", sums, "--method", "refit")
        _, result = self.made("--moments", sums)
        self.assertIn("method joint", result.stdout)
        self.assertEqual(self.files(), ["c.safetensors", "sums"])
        self.assert_refused(self.calibrate("--moments", sums, "--seed", 8, "-o",
                                           self.folder / "d"), 1, "seed = 8", "got 7")

    def test_another_model_is_refused_before_anything_is_drawn(self):
        path, _ = self.made("--method", "norm")
        picture = self.folder / "a.png"
        result = run("generate", *PROMPT, *QUICK, "--compensation", path, "-o", picture)
        self.assert_refused(result, 1, "the weights that it was made for", "of mini")
        path.write_bytes(path.read_bytes()[:-1])
        result = run("generate", *PROMPT, "--model", self.model, "--compensation", path, "-o",
                     picture)
        self.assert_refused(result, 1, "c.safetensors")
        self.assertFalse(picture.exists())
        self.assert_refused(run("generate", *PROMPT, "--mode", "norm", "--compensation", path), 2,
                            "--compensation", "--mode")

    def test_an_interrupt_keeps_the_statistics(self):
        output = self.folder / "c.safetensors"
        command = [BINARY, "calibrate", "--model", self.model, "--prompts", 100000, "--batch", 1,
                   "--steps", 2, "--device", "cpu", "-o", output]
        with subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True) as process:
            time.sleep(5)
            process.send_signal(signal.SIGINT)
            _, message = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 1)
        self.assertIn("the same command goes on from", message)
        self.assertEqual(self.files(), ["c.safetensors.partial"])

    def test_low_ranks_are_trained(self):
        training = ["--train-steps", 3, "--train-batch", 1, "--json"]
        path, result = self.made("--method", "sgd", *training)
        self.assertGreater(json.loads(result.stdout)["loss"], 0)
        polished = self.folder / "p.safetensors"
        result = self.calibrate("--method", "distill", "--start", path, *training, "-o", polished)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(json.loads(result.stdout)["method"], "sgd, then distill")
        result = self.calibrate("--method", "distill", "--train-on", "trajectories", *training,
                                "-o", polished)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.files(), ["c.safetensors", "p.safetensors"])

    def test_a_mixed_choice_is_drawn_shown_and_evaluated(self):
        path, result = self.made("--choose", "equal", "--mix", "all", "--json")
        choice = json.loads(result.stdout)["choice"]
        methods = {layer["method"] for layer in choice["layers"]}
        self.assertGreater(len(methods), 1, methods)
        self.assertTrue(all(layer["why"] for layer in choice["layers"]))
        shown = run("info", "--model", self.model, "--compensation", path, "--layers", "--json")
        shown = json.loads(shown.stdout)
        self.assertEqual(shown["compensation"]["method"], "mixed")
        kinds = {layer["name"]: layer.get("kind", "dense") for layer in shown["model"]["layers"]}
        for layer in choice["layers"]:
            self.assertEqual(kinds[layer["name"]] == "dense", layer["method"] == "dense")
        drawn = run("generate", *PROMPT, *QUICK, "--model", self.model, "--compensation", path, "-o",
                    self.folder / "a.png")
        self.assertEqual(drawn.returncode, 0, drawn.stderr)
        result = run("evaluate", "--model", self.model, "--device", "cpu", "--steps", 2, "--prompts",
                     2, "--calibration-prompts", 1, "--methods", "dense", "--compensation", path,
                     "--json")
        self.assertEqual(json.loads(result.stdout)["methods"][1]["kind"], "mixed")

    def test_the_layer_report_says_what_and_why(self):
        # By time a model this small stays dense, which is no compensation to write.
        result = self.calibrate("--choose", "error", "--cost", "time", "-o", self.folder / "c")
        self.assert_refused(result, 1, "all stay dense", "c.partial")
        self.assertIn("Cost: time (as asked for)", result.stdout)
        self.assertIn("saves nothing; joint: no kernel: fewer than 1024 tokens", result.stdout)
        self.assertEqual(self.files(), ["c.partial"])

    def test_shards_are_merged(self):
        files = [self.folder / f"{index}" for index in (1, 2)]
        for index, file in enumerate(files, start=1):
            result = self.calibrate("--shard", f"{index}/2", "--moments", file)
            self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.files(), ["1", "2"])
        path, _ = self.made("--merge", *files)
        self.assertEqual(self.files(), ["1", "2", "c.safetensors"])
        shown = run("info", "--model", self.model, "--compensation", path)
        self.assertEqual(shown.returncode, 0, shown.stderr)
        output = ["-o", self.folder / "d"]
        self.assert_refused(self.calibrate("--merge", files[0], *output), 1, "none with 2/2")
        self.assert_refused(self.calibrate("--merge", *files, "--seed", 8, *output), 1, "seed = 8")

    def test_shards_of_a_transform_take_two_rounds(self):
        files = [self.folder / f"{index}" for index in (1, 2)]
        blocks, sums = ["--transform", "16"], self.folder / "sums"
        merge = ["--merge", *files, "--moments", sums, *blocks]

        def draw(*inputs):
            for index, file in enumerate(files, start=1):
                result = self.calibrate("--shard", f"{index}/2", "--moments", file, *blocks,
                                        *inputs, "--json")
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertEqual(json.loads(result.stdout)["second_round"], not inputs)

        draw()
        result = self.calibrate(*merge)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("--inputs", result.stdout)
        draw("--inputs", sums)
        _, result = self.made(*merge)
        self.assertIn("transform block 16", result.stdout)

    def test_layers_are_chosen_within_a_budget(self):
        _, result = self.made("--method", "refit", "--choose", "speed", "--budget", 0.85,
                              "--json")
        choice = json.loads(result.stdout)["choice"]
        self.assertLessEqual(choice["relative_cost"], 0.85)
        self.assertEqual(choice["cost"], "multiplications")  # too small for an H200
        self.assertTrue(0 < sum(layer["chosen"] for layer in choice["layers"]) < 14)

    def test_impossible_requests(self):
        for arguments in (["--transform", "32"], ["--method", "magic"], ["--rank", 65],
                          ["--recipe", "paper-z-image"], ["--budget", 0.1],
                          ["--method", "sgd", "--transform", "64"], ["--start", "x"],
                          ["--method", "distill", "--choose", "error"],
                          ["--mix", "all"], ["--choose", "equal", "--mix", "magic"],
                          ["--shard", "3/2", "--moments", "m"], ["--shard", "1/2"],
                          ["--shard", "1/2", "--moments", "m", "--merge", "m"],
                          ["--shard", "1/2", "--moments", "m", "--choose", "error"],
                          ["--shard", "1/2", "--moments", "m", "--method", "sgd"]):
            result = self.calibrate(*arguments, "-o", self.folder / "c.safetensors")
            self.assertEqual(result.returncode, 2, (arguments, result.stderr))
        self.assert_refused(self.calibrate("-o", self.folder / "no" / "c"), 2, "existing folder")
        self.assertEqual(self.files(), [])


class TrainTest(CliTest):
    def test_stop_resume_and_use(self):
        model = self.folder / "mini"
        first = run("train-mini", *TINY_TRAINING, "--stop-after", 2, "-o", model)
        self.assertIn("2 of 4 steps", first.stdout)
        self.assertIn("goes on from", first.stdout)
        second = run("train-mini", *TINY_TRAINING, "-o", model)
        self.assertIn("4 of 4 steps", second.stdout)
        drawn = run("generate", *PROMPT, *QUICK, "--model", model, "-o", self.folder / "a.png")
        self.assertEqual(drawn.returncode, 0, drawn.stderr)

    def test_an_interrupt_keeps_a_checkpoint(self):
        model = self.folder / "mini"
        command = [BINARY, "train-mini", *map(str, TINY_TRAINING[:-1]), "1000000", "-o", str(model)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            deadline = time.monotonic() + 120
            while not model.is_dir() and time.monotonic() < deadline:  # then signals are caught
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0)
        self.assertIn("The same command goes on from", output)
        self.assertTrue((model / "checkpoint.safetensors").is_file())
        self.assertTrue((model / "model_index.json").is_file())


if __name__ == "__main__":
    unittest.main()
