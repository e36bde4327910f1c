# SPDX-License-Identifier: Apache-2.0
"""Small models in diffusers' layout, put together of the goldens' parts."""

import pathlib
import shutil

GOLDENS = pathlib.Path(__file__).resolve().parent.parent / "goldens"
PARTS = {
    "pipeline_flux_dev": {"tokenizer": "text_flux/tokenizer",
                          "tokenizer_2": "text_flux/tokenizer_2",
                          "text_encoder": "text_flux/text_encoder",
                          "text_encoder_2": "text_flux/text_encoder_2", "vae": "vae_kl"},
    "pipeline_qwen_image": {"tokenizer": "text_qwen_image/tokenizer",
                            "text_encoder": "text_qwen_image/text_encoder",
                            "vae": "vae_qwen_image"},
    "pipeline_z_image": {"tokenizer": "text_z_image/tokenizer",
                         "text_encoder": "text_z_image/text_encoder",
                         "transformer": "z_image_ragged", "vae": "vae_kl"},
}


def make(golden, folder):
    shutil.copytree(GOLDENS / golden, folder)
    for part, source in PARTS[golden].items():
        shutil.copytree(GOLDENS / source, folder / part)
