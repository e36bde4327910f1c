# SPDX-License-Identifier: Apache-2.0
"""`rtlynx generate --lora` with small models. Standard library only."""

import json
import math
import struct
import unittest

from cli_case import made_by
from test_real_models import ModelTest, image_data


class LoraTest(ModelTest):
    channels = 32

    def write_lora(self, *layers, value=0.5, path="a.safetensors", metadata=None):
        """A LoRA of rank 2 for layers of as many outputs as inputs, all values alike."""
        rank, channels = 2, self.channels
        size = 4 * rank * channels
        header = {"__metadata__": metadata} if metadata else {}
        for place, layer in enumerate(layers):
            for index, (part, shape) in enumerate((("lora_A", [rank, channels]),
                                                   ("lora_B", [channels, rank]))):
                begin = (2 * place + index) * size
                header[f"{layer}.{part}.weight"] = {
                    "dtype": "F32", "shape": shape, "data_offsets": [begin, begin + size]}
        text = json.dumps(header).encode()
        count = len(layers) * 2 * rank * channels
        (self.folder / path).write_bytes(
            struct.pack("<Q", len(text)) + text + struct.pack(f"<{count}f", *[value] * count))

    def draw(self, *arguments):
        """The picture's data."""
        result = self.generate(*arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return image_data(self.folder / "rtlynx.png")


class FluxLoraTest(LoraTest):
    golden = "pipeline_flux_dev"

    def test_it_changes_the_picture_by_its_strength(self):
        self.write_lora("transformer.transformer_blocks.0.attn.to_v")
        plain = self.draw()
        self.assertEqual(self.draw("--lora", "a.safetensors:0"), plain)
        self.assertNotEqual(self.draw("--lora", "a.safetensors"), plain)
        self.assertEqual(made_by(self.folder / "rtlynx.png")["loras"],
                         [{"file": "a.safetensors", "strength": 1}])

    def test_one_for_another_model_is_refused(self):
        self.write_lora("lora_te1_text_model_encoder_layers_0_mlp_fc1")
        self.assert_refused(self.generate("--lora", "a.safetensors"), 1, "a.safetensors",
                            "lora_te1_text_model_encoder_layers_0_mlp_fc1")
        self.assert_refused(self.generate("--lora", "a.safetensors:much"), 2, "FILE:STRENGTH")
        self.assert_refused(self.generate("--lora", "none.safetensors"), 1, "none.safetensors")
        self.assertEqual(self.pictures(), [])

    def test_pefts_own_files_are_scaled_by_their_config(self):
        layer = "transformer_blocks.0.attn.to_v"
        self.write_lora("transformer." + layer)
        doubled = self.draw("--lora", "a.safetensors:2")
        self.write_lora("base_model.model." + layer, path="adapter_model.safetensors")
        result = self.generate("--lora", "adapter_model.safetensors")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr.count("adapter_config.json"), 1, result.stderr)
        self.assertNotEqual(image_data(self.folder / "rtlynx.png"), doubled)
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
        path = self.folder / "adapter_config.json"
        path.write_text(json.dumps(config))
        self.assertEqual(self.draw("--lora", "adapter_model.safetensors"), doubled)
        path.write_text(json.dumps({**config, "use_dora": True}))
        self.assert_refused(self.generate("--lora", "adapter_model.safetensors"), 1,
                            "adapter_config.json", "use_dora")

    def test_values_that_are_not_finite_are_refused_before_a_prompt_is_encoded(self):
        encoder = self.model / "text_encoder" / "model.safetensors"
        encoder.write_bytes(encoder.read_bytes()[:-4] + struct.pack("<f", math.nan))
        self.assert_refused(self.generate(), 1, "text_encoder", "finite")
        self.write_lora("transformer.transformer_blocks.0.attn.to_v", value=math.inf)
        self.assert_refused(self.generate("--lora", "a.safetensors"), 1, "a.safetensors, tensor "
                            "transformer.transformer_blocks.0.attn.to_v.lora_A.weight", "infinity")


class QwenImageLoraTest(LoraTest):
    golden = "pipeline_qwen_image"

    def test_names_of_peft_and_comfy_ui_are_one_lora(self):
        layers = ["transformer_blocks.0.attn.to_v", "transformer_blocks.1.attn.add_q_proj"]
        plain = self.draw()
        pictures = []
        for prefix in ("transformer.", "diffusion_model."):
            self.write_lora(*(prefix + layer for layer in layers))
            pictures.append(self.draw("--lora", "a.safetensors"))
        self.assertNotEqual(pictures[0], plain)
        self.assertEqual(pictures[0], pictures[1])

    def test_one_of_another_family_is_refused(self):
        self.write_lora("diffusion_model.layers.0.attention.to_v")
        self.assert_refused(self.generate("--lora", "a.safetensors"), 1,
                            "diffusion_model.layers.0.attention.to_v")
        self.assertEqual(self.pictures(), [])


class ZImageLoraTest(LoraTest):
    golden = "pipeline_z_image"
    channels = 48

    def test_names_of_peft_and_comfy_ui_are_one_lora(self):
        plain = self.draw()
        pictures = []
        for layers in (["transformer.layers.0.attention.to_out.0",
                        "transformer.noise_refiner.1.attention.to_k"],
                       ["diffusion_model.layers.0.attention.out",
                        "diffusion_model.noise_refiner.1.attention.to_k"]):
            self.write_lora(*layers)
            pictures.append(self.draw("--lora", "a.safetensors"))
        self.assertNotEqual(pictures[0], plain)
        self.assertEqual(pictures[0], pictures[1])


if __name__ == "__main__":
    unittest.main()
