#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/goldens/pipeline_*: small random models in diffusers' layout, and what diffusers'
pipelines draw with them, for the C++ pipelines to be held to. Text encoders, tokenizers and
autoencoders are those of the goldens text_* and vae_*.

    make_pipeline_goldens.py            write the goldens
    make_pipeline_goldens.py --check    recompute and compare with the committed ones

Needs diffusers 0.42.1, transformers 5.24.0, sentencepiece, protobuf.
"""

import json
import pathlib
import shutil
import sys
import tempfile

import diffusers
import torch
import transformers
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from safetensors.torch import save_file

from make_goldens import DIFFUSERS_VERSION, FLUX_SCHEDULER, GOLDENS, fill, run

PROMPTS = ["a red cat on a window", "Two Foxes, watercolor"]
NEGATIVE = "a very long prompt"
SEEDS = [7, 8]
HEIGHT, WIDTH = 24, 40
STEPS = 4

# Of the encoders in text_flux and the autoencoder in vae_kl.
FLUX_TRANSFORMER = dict(in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
                        num_attention_heads=2, joint_attention_dim=16, pooled_projection_dim=16,
                        axes_dims_rope=(4, 6, 6))
FLUX_CASES = {
    "pipeline_flux_dev": dict(guidance_embeds=True, scheduler=FLUX_SCHEDULER, length=512, seed=21),
    "pipeline_flux_schnell": dict(guidance_embeds=False, length=256, seed=22,
                                  scheduler=dict(use_dynamic_shifting=False, shift=1.0)),
}
FLUX_INDEX = {"_class_name": "FluxPipeline", "_diffusers_version": DIFFUSERS_VERSION,
              "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
              "text_encoder": ["transformers", "CLIPTextModel"],
              "text_encoder_2": ["transformers", "T5EncoderModel"],
              "tokenizer": ["transformers", "CLIPTokenizer"],
              "tokenizer_2": ["transformers", "T5Tokenizer"],
              "transformer": ["diffusers", "FluxTransformer2DModel"],
              "vae": ["diffusers", "AutoencoderKL"],
              "feature_extractor": [None, None], "image_encoder": [None, None]}
FLUX_PARTS = {"tokenizer": "text_flux/tokenizer", "tokenizer_2": "text_flux/tokenizer_2",
              "text_encoder": "text_flux/text_encoder",
              "text_encoder_2": "text_flux/text_encoder_2", "vae": "vae_kl"}


def draw(pipeline, length, dtype, **options):
    """Noise, latents after the last step (as pictures) and 8-bit pictures."""
    shape = (1, 4, HEIGHT // 4, WIDTH // 4)
    noise = torch.cat([torch.randn(shape, generator=torch.Generator().manual_seed(seed),
                                   dtype=dtype) for seed in SEEDS])
    options = dict(height=HEIGHT, width=WIDTH, num_inference_steps=STEPS, guidance_scale=3.5,
                   max_sequence_length=length, **options)

    def run(output_type):
        generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
        return pipeline(PROMPTS, generator=generators, output_type=output_type, **options).images

    latents = pipeline._unpack_latents(run("latent"), HEIGHT, WIDTH, pipeline.vae_scale_factor)
    pixels = torch.from_numpy((run("np") * 255).round().astype("uint8"))
    return {"noise": noise, "latents": latents, "pixels": pixels}


def make_flux(case, folder, assembled):
    transformer = FluxTransformer2DModel(guidance_embeds=case["guidance_embeds"],
                                         **FLUX_TRANSFORMER).eval()
    fill(transformer, torch.Generator().manual_seed(case["seed"]))
    transformer.save_pretrained(folder / "transformer")
    FlowMatchEulerDiscreteScheduler(**case["scheduler"]).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(FLUX_INDEX, indent=1) + "\n")

    shutil.copytree(folder, assembled)
    for part, golden in FLUX_PARTS.items():
        shutil.copytree(GOLDENS / golden, assembled / part)
    pipeline = FluxPipeline.from_pretrained(assembled)
    pipeline.set_progress_bar_config(disable=True)
    tensors = draw(pipeline, case["length"], torch.float32)
    if case["guidance_embeds"]:
        guided = draw(pipeline, case["length"], torch.float32, negative_prompt=[NEGATIVE] * 2,
                      true_cfg_scale=2.5)
        tensors.update({"true_cfg.latents": guided["latents"],
                        "true_cfg.pixels": guided["pixels"]})
    rounded = draw(pipeline.to(torch.bfloat16), case["length"], torch.bfloat16)
    tensors.update({f"{name}.bf16": value for name, value in rounded.items()})
    return tensors


def make_all(root):
    for name, case in FLUX_CASES.items():
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(parents=True)
        with tempfile.TemporaryDirectory() as scratch:
            tensors = make_flux(case, root / name, pathlib.Path(scratch) / "model")
        save_file({key: value.contiguous() for key, value in tensors.items()},
                  root / name / "io.safetensors",
                  metadata={"made_with": f"tools/make_pipeline_goldens.py, diffusers "
                                         f"{diffusers.__version__}, torch {torch.__version__}"})
    request = {"prompts": PROMPTS, "negative": NEGATIVE, "seeds": SEEDS, "height": HEIGHT,
               "width": WIDTH, "steps": STEPS, "guidance": 3.5, "true_cfg": 2.5}
    (root / "pipeline_request.json").write_text(json.dumps(request, indent=1) + "\n")


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    sys.exit(run(__doc__, diffusers, DIFFUSERS_VERSION, make_all))
