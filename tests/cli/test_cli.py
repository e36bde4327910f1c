# SPDX-License-Identifier: Apache-2.0
"""The command line as a user meets it: outputs, exit codes, messages, files. Standard library only."""

import json
import os
import resource
import signal
import subprocess
import unittest

from cli_case import BINARY, PROMPT, QUICK, VERSION, CliTest, made_by, png_size, png_texts, run


class HelpTest(CliTest):
    def test_every_command_has_help_with_an_example(self):
        for command in ("generate", "calibrate", "analyze", "evaluate", "report", "train-mini",
                        "bench", "info"):
            result = run(command, "--help")
            self.assertEqual(result.returncode, 0)
            self.assertIn(f"rtlynx {command}", result.stdout)
            self.assertIn("Example", result.stdout)

    def test_version(self):
        self.assertEqual(run("--version").stdout.strip(), f"rtlynx {VERSION}")

    def test_bad_usage_is_exit_code_2(self):
        for arguments in ([], ["paint"], ["generate", "--steps", "0", *PROMPT], ["generate"],
                          ["generate", "--mode", "fast", *PROMPT], ["info", "--threads", "-1"]):
            result = run(*arguments, cwd=self.folder)
            self.assertEqual(result.returncode, 2, (arguments, result.stderr))
            self.assertTrue(result.stderr)
        self.assertEqual(self.files(), [])


class InfoTest(CliTest):
    def test_json_describes_build_and_model(self):
        report = json.loads(run("info", "--json", "--layers", "--vocabulary").stdout)
        self.assertEqual(report["build"]["rtlynx"], VERSION)
        self.assertEqual(len(report["model"]["layers"]), report["model"]["linear_layers"])
        sparse = [layer["name"] for layer in report["model"]["layers"] if layer["sparse"]]
        self.assertEqual(len(sparse), report["model"]["sparsified_layers"])
        self.assertIn("single_transformer_blocks.0.proj_mlp", sparse)
        self.assertNotIn("single_transformer_blocks.0.proj_out", sparse)
        self.assertIn("circle", report["model"]["vocabulary"])


class ProductTest(CliTest):
    SHAPE = ["--shape", "16384,12288,3072"]

    def test_choice_and_reason_are_shown_for_each_shape(self):
        result = run("info", *self.SHAPE, "--shape", "1,3072,3072", "--rank", 64, "--gpu", "h200")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"16384 x 12288 x 3072, rank 64, bf16  sm90 \d+x\d+.*dense")
        self.assertRegex(result.stdout,
                         r"\n  1 x 3072 x 3072, rank 64, bf16  dense: with fewer than \d+ tokens")
        self.assertNotIn("parameters", result.stdout)

    def test_json_has_the_configuration(self):
        report = json.loads(run("info", *self.SHAPE, "--dtype", "f16", "--gpu", "h200",
                                "--json").stdout)
        self.assertEqual(report["gpu"], {"name": "H200", "compute_capability": 90,
                                         "multiprocessors": 132, "shared_bytes": 232448})
        (product,) = report["products"]
        self.assertEqual((product["tokens"], product["outputs"], product["channels"]),
                         (16384, 12288, 3072))
        self.assertEqual((product["dtype"], product["path"]), ("f16", "sm90"))
        self.assertEqual((product["tile"], product["cluster"]), ([128, 256], 2))
        self.assertEqual(product["workspace_bytes"] > 0, product["stream_k"])
        self.assertTrue(product["reason"])

    def test_costs_of_all_methods_stand_side_by_side(self):
        options = ["--shape", "4096,12288,3072", "--rank", 64, "--gpu", "h200", "--costs"]
        result = run("info", *options)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"fixed half of the axes +0\.503 +\d+\.\d +0\.\d\d")
        (product,) = json.loads(run("info", *options, "--json").stdout)["products"]
        costs = {cost["method"]: cost for cost in product["costs"]}
        self.assertEqual(costs["dense"]["relative_flops"], 1)
        self.assertLess(costs["activation 2:4, low rank"]["relative_us"], 1)
        self.assert_refused(run("info", "--costs"), 2, "--shape")

    def test_without_a_gpu_an_h200_is_assumed(self):
        hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
        result = run("info", *self.SHAPE, env=hidden)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("H200, assumed", result.stdout)
        self.assert_refused(run("info", *self.SHAPE, "--gpu", "current", env=hidden), 1)

    def test_the_model_is_not_loaded(self):
        result = run("info", *self.SHAPE, "--model", self.folder / "none")
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_what_cannot_run_is_dense_with_the_reason(self):
        result = run("info", "--shape", "64,12,64", "--gpu", "h200")
        self.assertIn("N = 12 is not divisible by 8", result.stdout)
        result = run("info", *self.SHAPE, "--rank", 24, "--gpu", "h200")
        self.assertIn("rank 24 is not a multiple of 16", result.stdout)

    def test_malformed_shapes_are_refused(self):
        for shape in ("", "64", "64,64", "64,64,64,64", "64,64,", "64,x,64", "0,64,64", "64,-8,64",
                      "64, 64,64", "99999999999999999999,8,16"):
            result = run("info", "--shape", shape)
            self.assertEqual(result.returncode, 2, (shape, result.stderr))
            self.assertTrue(result.stderr, shape)
            self.assertEqual(result.stdout, "", shape)
        self.assert_refused(run("info", "--shape", "64,64"), 2, "M,N,K", "64,64")
        self.assert_refused(run("info", "--rank", 64), 2, "--shape")


class BenchTest(CliTest):
    HIDDEN = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}

    def test_a_gpu_that_is_not_there_is_a_failure(self):
        for arguments in (["--device", "cuda"], ["--shapes", "flux"], ["--sweep"]):
            result = run("bench", *arguments, "--json", "b.json", cwd=self.folder, env=self.HIDDEN)
            self.assert_refused(result, 1, "required", "GPU")
        self.assertEqual(self.files(), [])

    def test_malformed_choices_are_refused(self):
        for arguments in (["--shape", "64,64"], ["--shape", "64,12,64"], ["--shapes", "sdxl"],
                          ["--config", "256x192"], ["--what", "speed"], ["--dtype", "f32"],
                          ["--repeats", "0"]):
            result = run("bench", *arguments)
            self.assertEqual(result.returncode, 2, (arguments, result.stderr))
            self.assertEqual(result.stdout, "", arguments)

    def test_a_step_needs_a_gpu(self):
        result = run("bench", "--step", "flux", "--json", "s.json", cwd=self.folder, env=self.HIDDEN)
        self.assert_refused(result, 1, "--step", "GPU")
        self.assertEqual(self.files(), [])

    def test_a_step_and_the_kernels_are_not_mixed(self):
        for arguments in (["--step", "sdxl"], ["--step", "flux", "--variant", "fast"],
                          ["--step", "flux", "--rounds", "0"], ["--step", "flux", "--sweep"],
                          ["--step", "flux", "--device", "cpu"], ["--step", "flux", "--plot", "p.svg"],
                          ["--turns"], ["--rounds", "3"], ["--no-check"], ["--variant", "dense"]):
            result = run("bench", *arguments, env=self.HIDDEN)
            self.assertEqual(result.returncode, 2, (arguments, result.stderr))
            self.assertEqual(result.stdout, "", arguments)

    def test_folders_are_checked_before_the_work(self):
        result = run("bench", "--device", "cpu", "--json", self.folder / "none" / "b.json")
        self.assert_refused(result, 2, "--json", "none")
        self.assertEqual(result.stdout, "")


class GenerateTest(CliTest):
    def test_same_seed_same_bytes(self):
        for name in ("a.png", "b.png"):
            result = run("generate", *PROMPT, *QUICK, "--seed", 7, "--compensation", "none", "-o",
                         self.folder / name)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(result.stderr, "")  # no note, and no progress bar into a pipe
        self.assertEqual((self.folder / "a.png").read_bytes(), (self.folder / "b.png").read_bytes())
        run("generate", *PROMPT, *QUICK, "--seed", 8, "-o", self.folder / "c.png")
        self.assertNotEqual((self.folder / "a.png").read_bytes(),
                            (self.folder / "c.png").read_bytes())

    def test_png_says_how_it_was_made(self):
        path = self.folder / "a.png"
        run("generate", *PROMPT, *QUICK, "--seed", 7, "--mode", "naive", "-o", path)
        texts = png_texts(path)
        self.assertEqual(texts["parameters"],
                         f"{PROMPT[1]}\nSteps: 2, Sampler: Euler, CFG scale: 4, Seed: 7, "
                         f"Size: 64x64, Model: lynx-mini, Version: rtlynx {VERSION}")
        self.assertEqual(texts["Software"], f"rtlynx {VERSION}")
        own = made_by(path)
        for key, value in (("prompt", PROMPT[1]), ("seed", 7), ("mode", "naive"), ("steps", 2),
                           ("guidance", 4), ("width", 64), ("model", "lynx-mini")):
            self.assertEqual(own[key], value)
        self.assertFalse({"prompt", "workflow"} & set(texts))  # ComfyUI reads them as its own JSON
        self.assertEqual(png_size(path), (64, 64))

    def test_compare_reports_and_draws_three_panels(self):
        result = run("generate", *PROMPT, *QUICK, "--compare", "-n", 2, "--json", "-o",
                     self.folder / "x.png")
        report = json.loads(result.stdout)
        self.assertEqual([image["seed"] for image in report["images"]], [0, 1])
        for image in report["images"]:
            self.assertGreater(image["psnr"], 5)
            self.assertTrue(0 < image["ssim"] <= 1)
        self.assertGreater(report["seconds_per_step_dense"], 0)
        self.assertEqual(self.files(), ["x-0000.png", "x-0001.png"])
        self.assertEqual(png_size(self.folder / "x-0000.png"), (4 * (3 * 64 + 2 * 2), 4 * 64))

    def test_prompts_file_and_size(self):
        (self.folder / "prompts.txt").write_text("a red circle\n\nthe word cat\n")
        result = run("generate", "--prompts-file", "prompts.txt", *QUICK, "--size", "32x16", "-o",
                     "o.png", cwd=self.folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("trained at 64x64", result.stderr)
        self.assertEqual(png_size(self.folder / "o-0001.png"), (32, 16))

    def test_unknown_words_are_named(self):
        result = run("generate", "-p", "a red cirkle", "-o", self.folder / "a.png")
        self.assert_refused(result, 2, "cirkle", "circle")
        self.assertEqual(self.files(), [])

    def test_impossible_requests(self):
        output = ["-o", self.folder / "a.png"]
        self.assert_refused(run("generate", *PROMPT, "--size", "63x64", *output), 2, "63x64")
        self.assert_refused(run("generate", *PROMPT, "--size", "big", *output), 2, "WIDTHxHEIGHT")
        self.assert_refused(run("generate", *PROMPT, "-o", self.folder / "a.jpg"), 2, ".png")
        self.assert_refused(run("generate", *PROMPT, "-o", self.folder / "no" / "a.png"), 2,
                            "existing folder")
        self.assert_refused(run("generate", *PROMPT, "--compare", "--mode", "dense", *output), 2,
                            "sparse")
        self.assert_refused(run("generate", *PROMPT, "--size", "512x512", "--scale", 32, *output), 2,
                            "16384x16384")
        self.assertEqual(self.files(), [])

    def test_unreadable_models(self):
        result = run("generate", *PROMPT, "--model", self.folder / "none")
        self.assert_refused(result, 1, "model_index.json")
        (self.folder / "model_index.json").write_text('{"_class_name": "OtherPipeline"}')
        self.assert_refused(run("generate", *PROMPT, "--model", self.folder), 1, "FluxPipeline",
                            "OtherPipeline")

    def test_full_disk_leaves_nothing_behind(self):
        def fill():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

        result = run("generate", *PROMPT, *QUICK, "-o", self.folder / "a.png", preexec_fn=fill)
        self.assert_refused(result, 1, "a.png")
        self.assertEqual(self.files(), [])


    def test_prompts_are_checked_before_anything_is_drawn(self):
        result = run("generate", *PROMPT, "-p", "a red unicorn", "--batch", 1, "-o",
                     self.folder / "a.png")
        self.assert_refused(result, 2, "unicorn")
        self.assertEqual(self.files(), [])

    def test_a_report_that_cannot_be_written_is_a_failure(self):
        with open("/dev/full", "w") as full:
            result = subprocess.run([BINARY, "info", "--json"], stdout=full, stderr=subprocess.PIPE,
                                    text=True, timeout=600)
        self.assert_refused(result, 1, "standard output")


if __name__ == "__main__":
    unittest.main()
