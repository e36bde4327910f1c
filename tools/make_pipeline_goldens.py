#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/goldens/pipeline_*: small random models in diffusers' layout, and what diffusers'
pipelines draw with them, for the C++ pipelines to be held to. Text encoders, tokenizers and
autoencoders are those of the goldens text_* and vae_*, Z-Image's transformer is z_image_ragged.

    make_pipeline_goldens.py            write the goldens
    make_pipeline_goldens.py --check    recompute and compare with the committed ones

Needs diffusers 0.42.1, transformers 5.24.0, sentencepiece, protobuf, pillow.
"""

import functools
import json
import pathlib
import shutil
import sys
import tempfile

import diffusers
import torch
import transformers
from diffusers import (FlowMatchEulerDiscreteScheduler, FluxImg2ImgPipeline, FluxPipeline,
                       FluxTransformer2DModel, QwenImageImg2ImgPipeline, QwenImagePipeline,
                       QwenImageTransformer2DModel, ZImageImg2ImgPipeline, ZImagePipeline)
from PIL import Image
from safetensors.torch import save_file

from make_goldens import DIFFUSERS_VERSION, FLUX_SCHEDULER, GOLDENS, QWEN_SCHEDULER, fill, run

PROMPTS = ["a red cat on a window", "Two Foxes, watercolor"]
NEGATIVE = "a very long prompt"
SEEDS = [7, 8]
HEIGHT, WIDTH = 24, 40
STEPS = 4
TRUE_CFG = 2.5

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


# Of the encoder in text_qwen_image and the autoencoder in vae_qwen_image.
QWEN_IMAGE_TRANSFORMER = dict(in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16,
                              num_attention_heads=2, joint_attention_dim=16,
                              axes_dims_rope=(4, 6, 6))
QWEN_IMAGE_INDEX = {"_class_name": "QwenImagePipeline", "_diffusers_version": DIFFUSERS_VERSION,
                    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
                    "text_encoder": ["transformers", "Qwen2_5_VLForConditionalGeneration"],
                    "tokenizer": ["transformers", "Qwen2Tokenizer"],
                    "transformer": ["diffusers", "QwenImageTransformer2DModel"],
                    "vae": ["diffusers", "AutoencoderKLQwenImage"]}
QWEN_IMAGE_PARTS = {"tokenizer": "text_qwen_image/tokenizer",
                    "text_encoder": "text_qwen_image/text_encoder", "vae": "vae_qwen_image"}

Z_IMAGE_INDEX = {"_class_name": "ZImagePipeline", "_diffusers_version": DIFFUSERS_VERSION,
                 "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
                 "text_encoder": ["transformers", "Qwen3Model"],
                 "tokenizer": ["transformers", "Qwen2Tokenizer"],
                 "transformer": ["diffusers", "ZImageTransformer2DModel"],
                 "vae": ["diffusers", "AutoencoderKL"]}
Z_IMAGE_PARTS = {"tokenizer": "text_z_image/tokenizer", "text_encoder": "text_z_image/text_encoder",
                 "vae": "vae_kl", "transformer": "z_image_ragged"}
# Guidance in two of the four steps, and shortened in both.
CFG_TRUNCATION, CFG_NORMALIZATION = 0.1, 0.9
IMAGE, STRENGTH = "pipeline_image.png", 0.6


def make_image():
    """Soft patches of colour."""
    patches = torch.rand(1, 3, 3, 5, generator=torch.Generator().manual_seed(24))
    pixels = torch.nn.functional.interpolate(patches, size=(HEIGHT, WIDTH), mode="bicubic")
    return Image.fromarray((255 * pixels.clamp(0, 1)).round().to(torch.uint8)[0]
                           .permute(1, 2, 0).numpy())


def write_folder(folder, scheduler, index):
    FlowMatchEulerDiscreteScheduler(**scheduler).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(index, indent=1) + "\n")


def assemble(folder, parts, assembled):
    """The whole model: what `folder` has, and the other goldens' parts."""
    shutil.copytree(folder, assembled)
    for part, golden in parts.items():
        shutil.copytree(GOLDENS / golden, assembled / part)


def draw(pipeline, noise_dtype, as_pictures, negative=False, **options):
    """Noise, latents after the last step (as pictures) and 8-bit pictures."""
    shape = (1, 4, HEIGHT // 4, WIDTH // 4)
    noise = torch.cat([torch.randn(shape, generator=torch.Generator().manual_seed(seed),
                                   dtype=noise_dtype) for seed in SEEDS])

    def run(output_type):
        # Lists of each call's own: ZImagePipeline writes its template into them.
        if negative:
            options["negative_prompt"] = [NEGATIVE] * len(PROMPTS)
        generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
        return pipeline(list(PROMPTS), generator=generators, output_type=output_type,
                        height=HEIGHT, width=WIDTH, num_inference_steps=STEPS, **options).images

    latents = as_pictures(run("latent"))
    pixels = torch.from_numpy((run("np") * 255).round().astype("uint8"))
    return {"noise": noise, "latents": latents, "pixels": pixels}


def change_image(kind, pipeline, **options):
    """One picture that begins with an image."""
    changing = kind(**pipeline.components)
    changing.set_progress_bar_config(disable=True)
    images = changing(prompt=PROMPTS[0], image=make_image(), strength=STRENGTH,
                      generator=torch.Generator().manual_seed(SEEDS[0]), height=HEIGHT,
                      width=WIDTH, num_inference_steps=STEPS, output_type="np", **options).images
    return {"image.pixels": torch.from_numpy((images * 255).round().astype("uint8"))}


def named(prefix, tensors):
    """Without the noise, which is the same."""
    return {f"{prefix}.{name}": tensors[name] for name in ("latents", "pixels")}


def save_embeddings(pipeline, path):
    """What the text encoders give for the prompts and the negative one, as docs/compensation.md has
    it."""
    tensors = {}
    for name, prompt in [*enumerate(PROMPTS), ("negative", NEGATIVE)]:
        if isinstance(pipeline, FluxPipeline):
            tokens, pooled, _ = pipeline.encode_prompt(prompt, prompt)
            tensors |= {f"{name}.tokens": tokens[0], f"{name}.pooled": pooled[0]}
        elif isinstance(pipeline, QwenImagePipeline):
            tokens, mask = pipeline.encode_prompt(prompt)
            tensors[f"{name}.tokens"] = tokens[0] if mask is None else tokens[0][mask[0].bool()]
        else:
            tensors[f"{name}.tokens"] = pipeline.encode_prompt(
                prompt, do_classifier_free_guidance=False)[0][0]
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)


def in_bf16(tensors):
    return {f"{name}.bf16": value for name, value in tensors.items()}


def make_flux(case, folder, assembled):
    transformer = FluxTransformer2DModel(guidance_embeds=case["guidance_embeds"],
                                         **FLUX_TRANSFORMER).eval()
    fill(transformer, torch.Generator().manual_seed(case["seed"]))
    transformer.save_pretrained(folder / "transformer")
    write_folder(folder, case["scheduler"], FLUX_INDEX)
    assemble(folder, FLUX_PARTS, assembled)
    pipeline = FluxPipeline.from_pretrained(assembled)
    pipeline.set_progress_bar_config(disable=True)

    def unpacked(tokens):
        return pipeline._unpack_latents(tokens, HEIGHT, WIDTH, pipeline.vae_scale_factor)

    def drawn(dtype, **options):
        return draw(pipeline, dtype, unpacked, guidance_scale=3.5,
                    max_sequence_length=case["length"], **options)

    tensors = drawn(torch.float32)
    tensors.update(change_image(FluxImg2ImgPipeline, pipeline, guidance_scale=3.5,
                                max_sequence_length=case["length"]))
    if case["guidance_embeds"]:
        save_embeddings(pipeline, folder / "embeddings.safetensors")
        tensors.update(named("true_cfg", drawn(torch.float32, negative=True,
                                               true_cfg_scale=TRUE_CFG)))
    pipeline.to(torch.bfloat16)
    return {**tensors, **in_bf16(drawn(torch.bfloat16))}


def make_qwen_image(folder, assembled):
    transformer = QwenImageTransformer2DModel(**QWEN_IMAGE_TRANSFORMER).eval()
    fill(transformer, torch.Generator().manual_seed(23))
    transformer.to(torch.bfloat16).save_pretrained(folder / "transformer")
    write_folder(folder, QWEN_SCHEDULER, QWEN_IMAGE_INDEX)
    assemble(folder, QWEN_IMAGE_PARTS, assembled)
    pipeline = QwenImagePipeline.from_pretrained(assembled, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)

    def unpacked(tokens):
        return pipeline._unpack_latents(tokens, HEIGHT, WIDTH,
                                        pipeline.vae_scale_factor).squeeze(2)

    def drawn(dtype, **options):
        return draw(pipeline, dtype, unpacked, **options)

    def with_and_without_guidance(dtype):
        guided = drawn(dtype, negative=True, true_cfg_scale=TRUE_CFG)
        return {**drawn(dtype, true_cfg_scale=1.0), **named("true_cfg", guided)}

    save_embeddings(pipeline, folder / "embeddings.safetensors")
    tensors = with_and_without_guidance(torch.float32)
    tensors.update(change_image(QwenImageImg2ImgPipeline, pipeline, true_cfg_scale=1.0))
    pipeline.to(torch.bfloat16)
    return {**tensors, **in_bf16(with_and_without_guidance(torch.bfloat16))}


def make_z_image(folder, assembled):
    write_folder(folder, dict(use_dynamic_shifting=False, shift=6.0), Z_IMAGE_INDEX)
    assemble(folder, Z_IMAGE_PARTS, assembled)
    pipeline = ZImagePipeline.from_pretrained(assembled, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)

    def drawn(true_cfg, **options):
        return draw(pipeline, torch.float32, lambda latents: latents, guidance_scale=true_cfg - 1,
                    **options)

    def with_and_without_guidance():
        return {**drawn(1), **named("true_cfg", drawn(TRUE_CFG, negative=True))}

    save_embeddings(pipeline, folder / "embeddings.safetensors")
    tensors = with_and_without_guidance()
    tensors.update(change_image(ZImageImg2ImgPipeline, pipeline, guidance_scale=0.0))
    tensors.update(named("no_negative", drawn(TRUE_CFG)))
    tensors.update(named("bounded", drawn(TRUE_CFG, cfg_truncation=CFG_TRUNCATION,
                                          cfg_normalization=CFG_NORMALIZATION, negative=True)))
    pipeline.to(torch.bfloat16)
    return {**tensors, **in_bf16(with_and_without_guidance())}


def make_all(root):
    cases = {name: functools.partial(make_flux, case) for name, case in FLUX_CASES.items()}
    cases.update({"pipeline_qwen_image": make_qwen_image, "pipeline_z_image": make_z_image})
    for name, make in cases.items():
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(parents=True)
        with tempfile.TemporaryDirectory() as scratch:
            tensors = make(root / name, pathlib.Path(scratch) / "model")
        save_file({key: value.contiguous() for key, value in tensors.items()},
                  root / name / "io.safetensors",
                  metadata={"made_with": f"tools/make_pipeline_goldens.py, diffusers "
                                         f"{diffusers.__version__}, torch {torch.__version__}"})
    make_image().save(root / IMAGE)
    request = {"prompts": PROMPTS, "negative": NEGATIVE, "seeds": SEEDS, "height": HEIGHT,
               "width": WIDTH, "steps": STEPS, "guidance": 3.5, "true_cfg": TRUE_CFG,
               "cfg_truncation": CFG_TRUNCATION, "cfg_normalization": CFG_NORMALIZATION,
               "strength": STRENGTH}
    (root / "pipeline_request.json").write_text(json.dumps(request, indent=1) + "\n")


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    sys.exit(run(__doc__, diffusers, DIFFUSERS_VERSION, make_all))
