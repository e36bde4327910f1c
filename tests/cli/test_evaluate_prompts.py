# SPDX-License-Identifier: Apache-2.0
"""`rtlynx evaluate` with models in diffusers' layout: small ones of each family. Standard library
only."""

import json
import signal
import subprocess
import time
import unittest

import small_models
from cli_case import BINARY, CliTest, png_chunks, png_size, run
from test_embeddings import write_safetensors

PROMPTS = ["a red cat", "two foxes, watercolor"]
SCORES = ["psnr", "ssim", "high_frequency_error"]


def pixels(path):
    return [body for kind, body in png_chunks(path.read_bytes()) if kind == b"IDAT"]


class EvaluateTest(CliTest):
    golden = ""
    features = {"tokens": [9, 16]}  # of a prompt
    drawn = {}  # what the report says was drawn

    def setUp(self):
        super().setUp()
        self.model = self.folder / "model"
        small_models.make(self.golden, self.model)
        (self.folder / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")

    def command(self, name, *arguments):
        small = {"--device": "cpu", "--size": "40x24", "--steps": "2",
                 "--prompts-file": "prompts.txt"}
        rest = [word for option in small.items() if option[0] not in arguments for word in option]
        return [name, "--model", self.model, *rest, *arguments]

    def evaluate(self, *arguments):
        return run(*self.command("evaluate", *arguments), cwd=self.folder)

    def report(self, *arguments):
        result = self.evaluate(*arguments, "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def calibrate(self, name, *arguments):
        write_safetensors(self.folder / "embeddings.safetensors",
                          {f"{i}.{feature}": shape for i in range(2)
                           for feature, shape in self.features.items()})
        result = run("calibrate", "--model", self.model, "--device", "cpu", "--embeddings",
                     "embeddings.safetensors", "--width", "64", "--height", "64", "--steps", "2",
                     "--rank", "8", *arguments, "-o", name, cwd=self.folder)
        self.assertEqual(result.returncode, 0, result.stderr)

    def assert_drawn_as_by_generate(self, method, *arguments):
        result = run(*self.command("generate", "--seed", "5", *arguments, "-o", "own.png"),
                     cwd=self.folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        for i in range(len(PROMPTS)):
            self.assertEqual(pixels(self.folder / f"own-{i:04}.png"),
                             pixels(self.folder / "pictures" / f"{method}-{i:04}.png"), method)


class EveryFamily:
    """What holds for each family."""

    def test_methods_and_files_are_held_against_dense(self):
        self.calibrate("a.safetensors", "--method", "low-rank")
        self.calibrate("b.safetensors", "--method", "joint", "--transform", "columns")
        files = ["--compensation", "a.safetensors", "--compensation", "b.safetensors"]
        result = self.evaluate("--methods", "naive,norm", *files, "--seed", "5", "--pictures",
                               "pictures", "-o", "metrics.json")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"method +kind +cost +PSNR +SSIM +detail\n")
        self.assertRegex(result.stdout, r"norm +activation 2:4 +0\.50 ")
        report = json.loads((self.folder / "metrics.json").read_text())
        expected = {"model": "model", "prompts": 2, "steps": 2, "width": 40, "height": 24,
                    "batch": 1, "device": "cpu", "dtype": "fp32", **self.drawn}
        self.assertEqual({key: report.get(key) for key in expected}, expected)
        self.assertEqual(report["pictures"], [{"prompt": prompt, "seed": 5 + i}
                                              for i, prompt in enumerate(PROMPTS)])
        self.assertEqual([method["name"] for method in report["methods"]],
                         ["dense", "naive", "norm", "a", "b"])
        dense, *others = report["methods"]
        self.assertEqual((dense["relative_cost"], dense["psnr"], dense["ssim"],
                          dense["high_frequency_error"]), (1, None, 1, 0))
        for method in others:
            self.assertEqual(sorted(method), sorted(
                ["name", "kind", "description", "relative_cost"]
                + [key for score in SCORES for key in (score, score + "_interval")]))
            self.assertLess(method["ssim"], 1)
            for score in SCORES:
                low, high = method[score + "_interval"]
                self.assertTrue(low <= method[score] <= high, (score, method))
        costs = {method["name"]: method["relative_cost"] for method in others}
        self.assertEqual(costs["naive"], 0.5)
        self.assertEqual(costs["norm"], 0.5)
        self.assertGreater(costs["a"], 0.5)  # the low rank
        self.assertTrue(report["methods"][3]["description"].startswith("low-rank"))
        for mode in ("dense", "naive", "norm"):
            self.assert_drawn_as_by_generate(mode, "--mode", mode)
        for name in "ab":
            self.assert_drawn_as_by_generate(name, "--compensation", f"{name}.safetensors")
        self.assertNotIn("metrics.json.partial", self.files())
        self.assert_reported()

    def assert_reported(self):
        result = run("report", "metrics.json", "--pictures", "pictures", "-o", "report.html",
                     cwd=self.folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        page = (self.folder / "report.html").read_text()
        self.assertEqual(page.count("data:image/png;base64,"), 5 * len(PROMPTS))
        for part in (*PROMPTS, "40x24", "low-rank"):
            self.assertIn(part, page)
        for part in ("velocity", "Frechet", "captions", "LPIPS"):
            self.assertNotIn(part, page)

    def test_finished_methods_are_gone_on_with(self):
        first = self.report("--methods", "naive", "--results", "kept")
        kept = json.loads((self.folder / "kept").read_text())
        kept["results"]["method naive"]["psnr"] = 12.5  # seen again, unless it is measured again
        (self.folder / "kept").write_text(json.dumps(kept))
        more = self.report("--methods", "norm,naive", "--results", "kept")
        names = {method["name"]: method for method in more["methods"]}
        self.assertEqual(list(names), ["dense", "norm", "naive"])
        self.assertEqual(names["naive"], {**first["methods"][1], "psnr": 12.5})
        self.assertEqual(names["dense"], first["methods"][0])
        alone = self.report("--methods", "norm", "--results", "kept", "--restart")
        self.assertEqual(names["norm"], alone["methods"][1])

    def test_what_has_to_learn_is_refused_first(self):
        for method in ("joint", "refit", "norm+lora", "wanda", "mixed"):
            self.assert_refused(self.evaluate("--methods", f"norm,{method}", "-o", "x.json"), 2,
                                f"got {method}", "rtlynx calibrate", "--compensation")
        result = self.evaluate("--methods", "all", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("rtlynx calibrate", result.stderr)
        self.assertEqual([method["name"] for method in json.loads(result.stdout)["methods"]],
                         ["dense", "naive", "norm"])
        self.assertEqual(self.files(), ["model", "prompts.txt"])


class FluxTest(EveryFamily, EvaluateTest):
    golden = "pipeline_flux_dev"
    features = {"tokens": [9, 16], "pooled": [16]}
    drawn = {"guidance": 3.5, "true_cfg": 1}

    def test_an_interrupted_evaluation_goes_on(self):
        command = self.command("evaluate", "--methods", "naive,norm", "--steps", "100", "-o",
                               "metrics.json")
        partial = self.folder / "metrics.json.partial"
        with subprocess.Popen([BINARY, *map(str, command)], stderr=subprocess.PIPE, text=True,
                              cwd=self.folder) as process:
            deadline = time.monotonic() + 120
            while not partial.exists() and time.monotonic() < deadline:  # dense is finished
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, message = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 1)
        self.assertIn("the same command goes on from metrics.json.partial", message)
        self.assertIn("method dense", json.loads(partial.read_text())["results"])
        self.assertEqual(run(*command, cwd=self.folder).returncode, 0)
        self.assertEqual(run(*command[:-1], "whole.json", cwd=self.folder).returncode, 0)
        self.assertEqual((self.folder / "metrics.json").read_bytes(),
                         (self.folder / "whole.json").read_bytes())
        self.assertEqual(self.files(), ["metrics.json", "model", "prompts.txt", "whole.json"])

    def test_a_picture_depends_on_its_line_alone(self):
        (self.folder / "prompts.txt").write_text(
            '{"prompt": "a dog"}\n{"prompt": "a red cat", "seed": 9}\n')
        both = self.report("--batch", "2", "--pictures", "both")
        (self.folder / "prompts.txt").write_text('{"prompt": "a red cat", "seed": 9}\n')
        self.report("--pictures", "one")
        self.assertEqual([picture["seed"] for picture in both["pictures"]], [0, 9])
        for method in ("dense", "norm"):
            self.assertEqual(pixels(self.folder / "both" / f"{method}-0001.png"),
                             pixels(self.folder / "one" / f"{method}-0000.png"))
        self.assertEqual(png_size(self.folder / "one" / "norm-0000.png"), (40, 24))

    def test_kept_results_of_other_settings_are_refused(self):
        self.report("--methods", "norm", "--results", "kept")
        (self.folder / "prompts.txt").write_text("a red cat\na red fox\n")
        for arguments, words in (([], ["pictures_revision"]), (["--steps", "3"], ["steps = 3"]),
                                 (["--guidance", "2"], ["guidance = 2.0", "got 3.5"])):
            self.assert_refused(self.evaluate("--results", "kept", *arguments), 1, *words)
        self.assertEqual(self.report("--results", "kept", "--restart")["prompts"], 2)

    def test_refusals_come_before_the_work(self):
        before = self.files()
        for arguments, code, words in (
                (["--prompts", "4"], 2, ["--prompts: required lynx-mini"]),
                (["--calibration-steps", "4"], 2, ["--calibration-steps: required lynx-mini"]),
                (["--size", "41x24"], 2, ["41x24"]),
                (["--negative", "a dog"], 2, ["together"]),
                (["--seed", str(2**64 - 1)], 2, ["--seed", "2 pictures"]),
                (["--compensation", "none.safetensors"], 1, ["none.safetensors"]),
                (["--lpips", "none.safetensors"], 1, ["none.safetensors"]),
                (["--methods", "sorcery"], 2, ["sorcery"]),
                (["--prompts-file", "none.txt"], 1, ["none.txt"])):
            with self.subTest(arguments):
                self.assert_refused(self.evaluate("-o", "x.json", *arguments), code, *words)
        (self.folder / "prompts.txt").write_text('{"prompt": "a cat", "size": "24x24"}\n')
        self.assert_refused(self.evaluate(), 2, "line 1, size")
        (self.folder / "prompts.txt").write_text("\n")
        self.assert_refused(self.evaluate(), 2, "prompts.txt")
        result = run("evaluate", "--model", self.model, cwd=self.folder)
        self.assert_refused(result, 2, "--prompts-file")
        self.assertEqual(self.files(), before)

    def test_a_compensation_for_other_weights_is_refused_before_a_picture_is_drawn(self):
        self.calibrate("a.safetensors", "--method", "refit")
        weights = self.model / "transformer" / "diffusion_pytorch_model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-1] ^= 0x80  # a sign
        weights.write_bytes(data)
        result = self.evaluate("--compensation", "a.safetensors", "--pictures", "pictures")
        self.assert_refused(result, 1, "a.safetensors", "revision")
        self.assertEqual(list((self.folder / "pictures").iterdir()), [])

    def test_the_noise_floor_needs_a_batch_that_rounds_otherwise(self):
        self.assert_refused(self.evaluate("--noise-floor"), 2, "--noise-floor", "got the CPU")

    def test_lynx_mini_has_captions_of_its_own(self):
        for option in (["--prompts-file", "prompts.txt"], ["--size", "40x24"],
                       ["--negative", "a dog"], ["--true-cfg", "2"]):
            self.assert_refused(run("evaluate", *option, cwd=self.folder), 2,
                                f"{option[0]}: required a model of diffusers, got lynx-mini")


class QwenImageTest(EveryFamily, EvaluateTest):
    golden = "pipeline_qwen_image"
    drawn = {"true_cfg": 1}

    def test_it_is_guided_away_from_a_negative_prompt(self):
        report = self.report("--methods", "norm", "--negative", " ", "--pictures", "pictures",
                             "--seed", "5")
        self.assertEqual((report["true_cfg"], report["negative"]), (4, " "))
        self.assert_drawn_as_by_generate("norm", "--negative", " ")


class ZImageTest(EveryFamily, EvaluateTest):
    golden = "pipeline_z_image"
    drawn = {"true_cfg": 6, "negative": ""}


if __name__ == "__main__":
    unittest.main()
