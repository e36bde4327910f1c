# SPDX-License-Identifier: Apache-2.0
"""`rtlynx generate` with models in diffusers' layout: small ones of each family. Standard library
only."""

import json
import os
import shutil
import unittest

import small_models
from cli_case import CliTest, made_by, png_chunks, png_size, png_texts, run

TINY = small_models.GOLDENS / "vae_tiny"


def image_data(path):
    return [body for kind, body in png_chunks(path.read_bytes()) if kind == b"IDAT"]


class ModelTest(CliTest):
    golden = ""

    def setUp(self):
        super().setUp()
        self.model = self.folder / "model"
        small_models.make(self.golden, self.model)

    def generate(self, *arguments, prompt="a red cat", size="40x24"):
        return run("generate", "--model", self.model, "--device", "cpu", "--size", size,
                   "--steps", "2", "-p", prompt, *arguments, cwd=self.folder)

    def pictures(self):
        return [name for name in self.files() if name.endswith(".png")]


class FluxTest(ModelTest):
    golden = "pipeline_flux_dev"

    def test_a_picture_says_how_it_was_drawn(self):
        result = self.generate("--seed", "5", "-o", "cat.png")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(png_size(self.folder / "cat.png"), (40, 24))
        made = made_by(self.folder / "cat.png")
        for key, value in (("prompt", "a red cat"), ("seed", 5), ("model", "model"),
                           ("mode", "norm"), ("steps", 2), ("guidance", 3.5), ("width", 40)):
            self.assertEqual(made[key], value)

    def test_a_picture_does_not_depend_on_its_batch(self):
        for batch in ("1", "2"):
            result = self.generate("-n", "2", "--batch", batch, "--mode", "dense", "-o",
                                   f"batch{batch}.png")
            self.assertEqual(result.returncode, 0, result.stderr)
        read = {name: image_data(self.folder / name) for name in self.pictures()}
        self.assertEqual(len(read), 4)
        self.assertNotEqual(read["batch1-0000.png"], read["batch1-0001.png"])
        for index in ("0000", "0001"):
            self.assertEqual(read[f"batch1-{index}.png"], read[f"batch2-{index}.png"])

    def test_dense_and_sparse_side_by_side(self):
        result = self.generate("--compare", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)
        self.assertLess(report["images"][0]["ssim"], 1)
        self.assertGreater(report["images"][0]["ssim"], 0)
        self.assertEqual(png_size(self.folder / "rtlynx.png"), (3 * 40 + 4, 24))

    def test_a_negative_prompt_needs_true_cfg(self):
        self.assert_refused(self.generate("--negative", "a dog"), 2, "together")
        self.assert_refused(self.generate("--true-cfg", "2"), 2, "together")
        result = self.generate("--negative", "a dog", "--true-cfg", "2")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(made_by(self.folder / "rtlynx.png")["negative"], "a dog")

    def test_large_pictures_go_through_the_autoencoder_in_tiles(self):
        for name, arguments in (("whole", []), ("fits", ["--vae-memory", "12"]),
                                ("tiles", ["--vae-memory", "10"])):
            result = self.generate(*arguments, "-o", f"{name}.png", size="272x272")
            self.assertEqual(result.returncode, 0, result.stderr)
        read = {name: image_data(self.folder / name) for name in self.pictures()}
        self.assertEqual(read["whole.png"], read["fits.png"])
        self.assertNotEqual(read["whole.png"], read["tiles.png"])
        self.assertEqual(made_by(self.folder / "tiles.png")["vae_memory"], 10)
        self.assert_refused(self.generate("--vae-memory", "9"), 2, "at least 10 MiB", "got 9")
        result = run("generate", "-p", "a red circle", "--vae-memory", "10", cwd=self.folder)
        self.assert_refused(result, 2, "--vae-memory", "lynx-mini")

    def test_a_small_autoencoder_decodes_previews_in_full_size(self):
        previews = ("--preview", "soon.png", "--preview-every", "1")
        for arguments, side in (([], 80), (["--preview-vae", TINY], 160)):
            result = self.generate(*previews, *arguments, "-o", f"{side}.png", size="160x160")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(png_size(self.folder / "soon.png"), (side, side))
        self.assertEqual(image_data(self.folder / "80.png"), image_data(self.folder / "160.png"))
        self.assert_refused(self.generate("--preview-vae", TINY), 2, "--preview")
        self.assert_refused(self.generate(*previews, "--preview-vae", self.model / "vae"), 1,
                            "AutoencoderTiny", "got AutoencoderKL")
        self.assert_refused(self.generate("--preview", TINY / "x.png", "--preview-vae", TINY), 2,
                            "--preview-vae")

    def test_what_is_cut_of_a_prompt_is_said(self):
        result = self.generate(prompt="a red cat on a window " * 30)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("CLIP reads 75 tokens; the last", result.stderr)

    def test_refusals_come_before_the_work(self):
        self.assert_refused(self.generate(size="41x24"), 2, "steps of 8", "41x24")
        self.assert_refused(self.generate(prompt="caf\udce9"), 2, "UTF-8")
        (self.model / "vae" / "config.json").unlink()
        self.assert_refused(self.generate(), 1, "vae/config.json")
        shutil.rmtree(self.model / "text_encoder_2")
        self.assert_refused(self.generate(), 1, "text_encoder_2")
        index = self.model / "model_index.json"
        index.write_text(index.read_text().replace("FluxPipeline", "OtherPipeline"))
        self.assert_refused(self.generate(), 1, "FluxPipeline", "OtherPipeline")
        self.assertEqual(self.pictures(), [])


class QwenImageTest(ModelTest):
    golden = "pipeline_qwen_image"

    def test_a_negative_prompt_switches_guidance_on(self):
        for name, arguments in (("plain", []), ("guided", ["--negative", " "]),
                                ("other", ["--negative", " ", "--true-cfg", "2"])):
            result = self.generate(*arguments, "-o", f"{name}.png")
            self.assertEqual(result.returncode, 0, result.stderr)
        made = {name: made_by(self.folder / f"{name}.png") for name in ("plain", "guided")}
        self.assertEqual(made["plain"]["true_cfg"], 1)
        self.assertNotIn("negative", made["plain"])
        self.assertEqual(made["guided"]["true_cfg"], 4)
        self.assertIn("CFG scale: 4,", png_texts(self.folder / "guided.png")["parameters"])
        read = {name: image_data(self.folder / name) for name in self.pictures()}
        self.assertEqual(len({str(data) for data in read.values()}), 3)

    def test_prompts_of_several_lengths_are_drawn_in_one_batch(self):
        result = self.generate("-p", "two foxes, watercolor", "--batch", "2")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.pictures(), ["rtlynx-0000.png", "rtlynx-0001.png"])

    def draw_lines(self, *lines, options=()):
        (self.folder / "prompts.jsonl").write_text("\n".join(lines), encoding="utf-8")
        return run("generate", "--model", self.model, "--device", "cpu", "--size", "40x24",
                   "--steps", "1", "--prompts-file", "prompts.jsonl", *options, cwd=self.folder)

    def test_lines_of_json_have_their_own_seed_and_size(self):
        result = self.draw_lines('{"prompt": "a red cat", "seed": 18446744073709551615}', "",
                                 '{"size": "24x16", "prompt": "two \\u732b"}',
                                 '{"prompt": "a dog", "seed": 5, "size": "24x16"}',
                                 options=("--json", "--seed", "3", "--batch", "2"))
        self.assertEqual(result.returncode, 0, result.stderr)
        drawn = [(image["prompt"], image["seed"], image["width"], image["height"])
                 for image in json.loads(result.stdout)["images"]]
        self.assertEqual(drawn, [("a red cat", 2**64 - 1, 40, 24), ("two \u732b", 4, 24, 16),
                                 ("a dog", 5, 24, 16)])
        self.assertEqual(png_size(self.folder / "rtlynx-0002.png"), (24, 16))
        self.assertEqual(made_by(self.folder / "rtlynx-0002.png")["width"], 24)

    def test_lines_of_json_that_cannot_be_meant_are_refused(self):
        good = '{"prompt": "a cat"}'
        for line, words in (('{"prompt": "a cat", "steps": 4}', ["line 2", "steps"]),
                            ('{"seed": 1}', ["line 2", "prompt"]),
                            ('{"prompt": "a cat", "seed": -1}', ["line 2, seed", "-1"]),
                            ('{"prompt": "a cat", "seed": 1.0}', ["line 2, seed", "1.0"]),
                            ('{"prompt": "a cat", "size": "big"}', ["line 2, size", "big"]),
                            ('{"prompt": "a cat", "size": "41x24"}', ["line 2", "steps of 8", "41x24"]),
                            ('{"prompt": "a\\u0000b"}', ["line 2", "control character"]),
                            ("a plain prompt", ["line 2"])):
            self.assert_refused(self.draw_lines(good, line), 2, *words)
        self.assert_refused(self.draw_lines(good, '{"prompt": }'), 2, "line 2, column 12")
        last = '{"prompt": "a cat", "seed": 18446744073709551615}'
        self.assert_refused(self.draw_lines(last, options=("-n", "2")), 2, "line 1, seed")
        self.assertEqual(self.pictures(), [])

    def test_refusals_come_before_the_work(self):
        self.assert_refused(self.generate("--guidance", "4"), 2, "not distilled", "got 4")
        self.assert_refused(self.generate(size="44x24"), 2, "steps of 8", "44x24")
        self.assert_refused(self.generate("--cfg-truncation", "0.5"), 2, "true CFG above 1")
        (self.model / "tokenizer" / "merges.txt").unlink()
        self.assert_refused(self.generate(), 1, "merges.txt")
        self.assertEqual(self.pictures(), [])


    def test_a_preview_shows_what_is_being_drawn(self):
        result = self.generate("--preview", "soon.png", "--preview-every", "1", "-o", "last.png")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(png_size(self.folder / "soon.png"), (40, 24))
        self.assertNotEqual(image_data(self.folder / "soon.png"),
                            image_data(self.folder / "last.png"))
        self.assert_refused(self.generate("--preview", "soon.jpg"), 2, "ends in .png")
        self.assert_refused(self.generate("--preview", "x.png", "--preview-vae", TINY), 2,
                            "latents of FLUX.1", "latents of Qwen-Image")
        self.assert_refused(self.generate("--preview-every", "2"), 2, "--preview")
        self.assert_refused(self.generate("--preview", "x.png", "-o", "x.png"), 2, "--preview")
        result = run("generate", "-p", "a red circle", "--preview", "x.png", cwd=self.folder)
        self.assert_refused(result, 2, "--preview", "lynx-mini")

    def test_an_image_is_changed_by_its_strength(self):
        image = small_models.GOLDENS / "pipeline_image.png"
        for strength in ("0.5", "1"):
            result = self.generate("--image", image, "--strength", strength, "-o",
                                   f"by{strength}.png")
            self.assertEqual(result.returncode, 0, result.stderr)
        self.assertNotEqual(image_data(self.folder / "by0.5.png"),
                            image_data(self.folder / "by1.png"))
        made = made_by(self.folder / "by0.5.png")
        self.assertEqual((made["image"], made["strength"]), ("pipeline_image.png", 0.5))
        result = self.generate("--image", self.folder / "by1.png", "--strength", "0.5", "-o",
                               "other.png")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertNotEqual(image_data(self.folder / "by0.5.png"),
                            image_data(self.folder / "other.png"))

    def test_an_image_that_cannot_be_changed_is_refused(self):
        image = small_models.GOLDENS / "pipeline_image.png"
        self.assert_refused(self.generate("--image", image, size="24x24"), 2,
                            "the size to draw, 24x24, got 40x24")
        self.assert_refused(self.generate("--image", image, "--strength", "0"), 2, "above 0")
        self.assert_refused(self.generate("--strength", "0.5"), 2, "--image")
        self.assert_refused(self.generate("--image", self.model / "model_index.json"), 1,
                            "model_index.json")
        self.assert_refused(self.generate("--image", "none.png"), 1, "none.png")
        self.assertEqual(self.pictures(), [])

    def test_the_transformers_weights_may_be_in_a_file_of_their_own(self):
        self.assertEqual(self.generate("-o", "folder.png").returncode, 0)
        weights = self.folder / "single.safetensors"
        (self.model / "transformer" / "diffusion_pytorch_model.safetensors").rename(weights)
        self.assert_refused(self.generate(), 1, "transformer")
        result = self.generate("--transformer", weights, "-o", "single.png")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(image_data(self.folder / "single.png"),
                         image_data(self.folder / "folder.png"))
        self.assertEqual(made_by(self.folder / "single.png")["transformer"], "single.safetensors")
        other = self.model / "vae" / "diffusion_pytorch_model.safetensors"
        self.assert_refused(self.generate("--transformer", other), 1, str(other))
        self.assert_refused(self.generate("--transformer", "none.safetensors"), 1, "none.safet")

    def test_cached_prompts_are_not_encoded_again(self):
        weights = self.model / "text_encoder" / "model.safetensors"

        def drawn():
            result = self.generate("--prompt-cache", "cache")
            self.assertEqual(result.returncode, 0, result.stderr)
            return image_data(self.folder / "rtlynx.png")

        first = drawn()
        self.assertEqual(len(list((self.folder / "cache").iterdir())), 1)
        times = weights.stat()
        data = bytearray(weights.read_bytes())
        start = 8 + int.from_bytes(data[:8], "little")
        begin, end = json.loads(data[8:start])["model.norm.weight"]["data_offsets"]
        for sign in range(start + begin + 3, start + end, 4):
            data[sign] ^= 0x80
        weights.write_bytes(data)
        os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
        self.assertNotEqual(drawn(), first)  # a small file is seen whole
        self.assertEqual(len(list((self.folder / "cache").iterdir())), 2)


class ZImageTest(ModelTest):
    golden = "pipeline_z_image"

    def test_it_is_guided_unless_that_is_off(self):
        for name, arguments in (("guided", []), ("plain", ["--true-cfg", "1"])):
            result = self.generate(*arguments, "-o", f"{name}.png")
            self.assertEqual(result.returncode, 0, result.stderr)
        guided = made_by(self.folder / "guided.png")
        self.assertEqual((guided["true_cfg"], guided["negative"]), (6, ""))
        self.assertEqual(made_by(self.folder / "plain.png")["true_cfg"], 1)
        self.assertNotEqual(image_data(self.folder / "guided.png"),
                            image_data(self.folder / "plain.png"))

    def test_taef1_decodes_its_latents(self):
        result = self.generate("--preview", "soon.png", "--preview-every", "1", "--preview-vae",
                               TINY, size="160x160")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(png_size(self.folder / "soon.png"), (160, 160))

    def test_turbo_is_not_guided(self):
        path = self.model / "scheduler" / "scheduler_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "shift": 3.0}))
        result = run("generate", "--model", self.model, "--device", "cpu", "--size", "24x40",
                     "-p", "a red cat", cwd=self.folder)
        self.assertEqual(result.returncode, 0, result.stderr)
        made = made_by(self.folder / "rtlynx.png")
        self.assertEqual((made["steps"], made["true_cfg"]), (8, 1))
        self.assert_refused(self.generate("--negative", "a dog"), 2, "together")

    def test_dense_and_sparse_side_by_side(self):
        result = self.generate("--compare", "--json", "--cfg-truncation", "0.5",
                               "--cfg-normalization", "1")
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)
        self.assertLess(report["images"][0]["ssim"], 1)
        self.assertEqual(made_by(self.folder / "rtlynx.png")["cfg_truncation"], 0.5)


if __name__ == "__main__":
    unittest.main()
