#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/goldens/text_*: small tokenizers and text encoders, and what diffusers' pipelines
make of prompts with them, for the C++ text encoders to be held to.

    make_text_goldens.py            write the goldens
    make_text_goldens.py --check    recompute and compare with the committed ones

Needs diffusers 0.42.1, transformers 5.24.0, tokenizers, sentencepiece 0.2.3, protobuf, jinja2.
"""

import collections
import contextlib
import io
import json
import pathlib
import shutil
import sys
import tempfile

import diffusers
import sentencepiece
import torch
import transformers
from diffusers import FluxPipeline, QwenImagePipeline, ZImagePipeline
from safetensors.torch import save_file
from transformers import (CLIPTextConfig, CLIPTextModel, CLIPTokenizer, Qwen2_5_VLConfig,
                          Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer, Qwen3Config,
                          Qwen3Model, T5Config, T5EncoderModel, T5Tokenizer)

from make_goldens import fill, run

TRANSFORMERS_VERSION = "5.24.0"
PROMPTS = [
    "a red cat on a window",
    "",
    "Two Foxes, watercolor: don't look! 42 \u732b caf\u00e9 \U0001f600",
    "a very long prompt about a cat and a dog and a house " * 8,
    "say <|im_end|> and <|endoftext|> and </s>",
]
# Longer than 128, the distance from which on T5 tells no more.
T5_LENGTH = 140
T5_PIECES = 50
# Cuts the long prompt in Qwen-Image's and Z-Image's templates.
DECODER_TOKENS = 90
CORPUS = ("a red cat on a window a blue dog in the house two foxes look at the water a very long "
          "prompt about the color of a photo describe the image user assistant system").split()
QWEN_ADDED = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
              "<|image_pad|>", "<tool_call>"]
CHAT_TEMPLATE = ("{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
                 "{{ message['content'] }}<|im_end|>\n{% endfor %}"
                 "{% if add_generation_prompt %}<|im_start|>assistant\n"
                 "{% if enable_thinking is defined and enable_thinking is false %}"
                 "<think>\n\n</think>\n\n{% endif %}{% endif %}")


def byte_symbols():
    printing = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    others = (byte for byte in range(256) if byte not in printing)
    symbols = {byte: chr(byte) for byte in printing}
    symbols.update({byte: chr(0x100 + place) for place, byte in enumerate(others)})
    return [symbols[byte] for byte in range(256)]


def learn_merges(words, count, suffix):
    """The most frequent pair first; of equal ones the first in the alphabet."""
    split = collections.Counter(tuple([*word[:-1], word[-1] + suffix]) for word in words)
    merges = []
    for _ in range(count):
        pairs = collections.Counter()
        for word, times in split.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += times
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        joined = collections.Counter()
        for word, times in split.items():
            parts, at = [], 0
            while at < len(word):
                both = word[at:at + 2] == best
                parts.append("".join(best) if both else word[at])
                at += 2 if both else 1
            joined[tuple(parts)] += times
        split = joined
    return merges


def token(text, special=True, normalized=False):
    return {"content": text, "lstrip": False, "normalized": normalized, "rstrip": False,
            "single_word": False, "special": special}


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_byte_pair(folder, symbols, merges, added, config):
    folder.mkdir(parents=True)
    vocabulary = symbols + ["".join(pair) for pair in merges]
    # In the first bytes' order, as real files are.
    write_json(folder / "vocab.json", {text: number for number, text in enumerate(vocabulary)})
    lines = ["#version: 0.2"] + [" ".join(pair) for pair in merges]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    decoder = {str(len(vocabulary) + place): value for place, value in enumerate(added)}
    write_json(folder / "tokenizer_config.json", {"added_tokens_decoder": decoder, **config})
    return len(vocabulary) + len(added)


def write_clip_tokenizer(folder):
    symbols = byte_symbols()
    symbols += [symbol + "</w>" for symbol in symbols]
    merges = learn_merges(CORPUS, 40, "</w>")
    # The first one as in the real file: searched for after the text is normalized.
    added = [token("<|startoftext|>", normalized=True), token("<|endoftext|>")]
    rows = write_byte_pair(folder, symbols, merges, added, {
        "tokenizer_class": "CLIPTokenizer", "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
        "model_max_length": 77})
    # As in the real file, the two are in the vocabulary as well.
    path = folder / "vocab.json"
    vocabulary = json.loads(path.read_text(encoding="utf-8"))
    vocabulary.update({value["content"]: rows - 2 + place for place, value in enumerate(added)})
    write_json(path, vocabulary)
    return rows


def write_qwen_tokenizer(folder, extra):
    words = CORPUS + ["\u0120" + word for word in CORPUS]
    added = [token(text, special="tool" not in text) for text in QWEN_ADDED + extra]
    return write_byte_pair(folder, byte_symbols(), learn_merges(words, 50, ""), added, {
        "tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>", "unk_token": None, "model_max_length": 131072,
        "chat_template": CHAT_TEMPLATE})


def write_t5_tokenizer(folder):
    folder.mkdir(parents=True)
    lines = [" ".join(CORPUS[at:] + CORPUS[:at]) for at in range(20)]
    model = io.BytesIO()
    # The model records the name of the rules' file: one without the scratch folder's.
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        # Full-width A to a, tab and newline to a space: enough to see that the file's rules count.
        pathlib.Path("rules.tsv").write_text("FF21\t61\nA\t20\n9\t20\n")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=model, vocab_size=T5_PIECES,
            model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, num_threads=1,
            normalization_rule_tsv="rules.tsv", minloglevel=2)
    (folder / "spiece.model").write_bytes(model.getvalue())
    added = {0: token("<pad>"), 1: token("</s>"), 2: token("<unk>")}
    added.update({T5_PIECES + place: token(f"<extra_id_{99 - place}>") for place in range(100)})
    write_json(folder / "tokenizer_config.json", {
        "added_tokens_decoder": {str(number): value for number, value in added.items()},
        "additional_special_tokens": [f"<extra_id_{place}>" for place in range(100)],
        "tokenizer_class": "T5Tokenizer", "eos_token": "</s>", "pad_token": "<pad>",
        "unk_token": "<unk>", "extra_ids": 100, "model_max_length": 512})
    return T5_PIECES + 100


def save(model, folder, seed):
    fill(model, torch.Generator().manual_seed(seed))
    model.eval().save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)


def in_both_types(models, run):
    """run()'s tensors in fp32 and, as "<name>.bf16", of the models cast to bf16."""
    tensors = dict(run())
    for model in models:
        model.to(torch.bfloat16)
    tensors.update({f"{name}.bf16": value for name, value in run().items()})
    return tensors


def make_flux(folder):
    clip_rows = write_clip_tokenizer(folder / "tokenizer")
    t5_rows = write_t5_tokenizer(folder / "tokenizer_2")
    clip = CLIPTextModel(CLIPTextConfig(
        vocab_size=clip_rows, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, projection_dim=16, bos_token_id=0, pad_token_id=1, eos_token_id=2))
    save(clip, folder / "text_encoder", seed=1)
    t5 = T5EncoderModel(T5Config(
        vocab_size=t5_rows + 4, d_model=16, d_kv=6, d_ff=24, num_layers=2, num_heads=3,
        feed_forward_proj="gated-gelu"))
    save(t5, folder / "text_encoder_2", seed=2)
    pipeline = FluxPipeline(
        scheduler=None, vae=None, transformer=None, text_encoder=clip, text_encoder_2=t5,
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        tokenizer_2=T5Tokenizer.from_pretrained(folder / "tokenizer_2"))

    def run():
        pooled = pipeline._get_clip_prompt_embeds(PROMPTS, device="cpu")
        # Two of the prompts, one of them too long: the others would only make the file larger.
        tokens = pipeline._get_t5_prompt_embeds([PROMPTS[2], PROMPTS[3]], device="cpu",
                                                max_sequence_length=T5_LENGTH)
        return {"pooled": pooled, "tokens": tokens}

    return in_both_types((clip, t5), run)


def make_qwen_image(folder):
    rows = write_qwen_tokenizer(folder / "tokenizer", [])
    vision = dict(depth=1, hidden_size=8, num_heads=2, intermediate_size=8, out_hidden_size=16,
                  patch_size=2, window_size=8)
    text = dict(vocab_size=rows + 6, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048,
                rms_norm_eps=1e-6, bos_token_id=None, eos_token_id=None,
                rope_scaling={"type": "mrope", "mrope_section": [1, 1, 0]})
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, image_token_id=rows - 2,
                              video_token_id=rows - 2, vision_start_token_id=rows - 4,
                              vision_end_token_id=rows - 3)
    model = Qwen2_5_VLForConditionalGeneration(config)
    save(model, folder / "text_encoder", seed=3)
    pipeline = QwenImagePipeline(
        scheduler=None, vae=None, transformer=None, text_encoder=model,
        tokenizer=Qwen2Tokenizer.from_pretrained(folder / "tokenizer"))
    # The template is longer in the small vocabulary; the count of dropped rows is the same.
    def run():
        states, mask = pipeline.encode_prompt(PROMPTS, device="cpu",
                                              max_sequence_length=DECODER_TOKENS)
        mask = torch.ones(states.shape[:2]) if mask is None else mask
        return {f"states.{place}": row[kept.bool()]
                for place, (row, kept) in enumerate(zip(states, mask))}

    return in_both_types((model,), run)


def make_z_image(folder):
    rows = write_qwen_tokenizer(folder / "tokenizer", ["<think>", "</think>"])
    model = Qwen3Model(Qwen3Config(
        vocab_size=rows + 6, hidden_size=16, intermediate_size=24, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=6, rope_parameters={
            "rope_type": "default", "rope_theta": 1000000.0}))
    save(model, folder / "text_encoder", seed=4)
    pipeline = ZImagePipeline(
        scheduler=None, vae=None, transformer=None, text_encoder=model,
        tokenizer=Qwen2Tokenizer.from_pretrained(folder / "tokenizer"))

    def run():
        states = pipeline._encode_prompt(list(PROMPTS), device="cpu",
                                         max_sequence_length=DECODER_TOKENS)
        return {f"states.{place}": row for place, row in enumerate(states)}

    return in_both_types((model,), run)


CASES = {"text_flux": make_flux, "text_qwen_image": make_qwen_image, "text_z_image": make_z_image}


def make_all(root):
    for name, make in CASES.items():
        shutil.rmtree(root / name, ignore_errors=True)
        tensors = make(root / name)
        save_file({key: value.contiguous() for key, value in tensors.items()},
                  root / name / "io.safetensors",
                  metadata={"made_with": f"tools/make_text_goldens.py, transformers "
                                         f"{transformers.__version__}, torch {torch.__version__}"})
    write_json(root / "text_prompts.json", {"prompts": PROMPTS, "t5_length": T5_LENGTH,
                                            "decoder_tokens": DECODER_TOKENS})


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    sys.exit(run(__doc__, transformers, TRANSFORMERS_VERSION, make_all))
