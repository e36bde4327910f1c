#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/goldens/token_ids.json: prompts, and the ids that transformers makes of them with
the vocabularies of FLUX.1, Qwen-Image and Z-Image.

    make_token_goldens.py VOCABULARIES           write the ids
    make_token_goldens.py VOCABULARIES --check   recompute and compare with the committed ones

VOCABULARIES is a folder as tools/fetch_vocabularies.sh makes it. The vocabularies themselves are
not committed.
"""

import argparse
import json
import pathlib
import random
import re
import sys
import unicodedata

import regex
import sentencepiece
import tokenizers
import transformers
from transformers import CLIPTokenizer, Qwen2Tokenizer, T5Tokenizer

TRANSFORMERS_VERSION = "5.24.0"
TOKENIZERS_VERSION = "0.23.3"
GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "tests" / "goldens" / "token_ids.json"

# What people write, and what has broken tokenizers elsewhere.
WRITTEN = [
    "", " ", "a", "A", "a cat", "a photo of a cat, 4k", "Hello, World!", "don't can't I'll we've",
    "DON'T CAN'T I'LL", "it's 's 's's ''s", "rock 'n' roll's", "x=1234567890, y=3.14159",
    "2001: a space odyssey", "(masterpiece:1.2), [low quality], {a|b}", "((a)) [b] <c> \\d/",
    "caf\xe9 na\xefve \xfcber \u0141\xf3d\u017a \u010ce\u0161tina", "cafe\u0301",
    "A\u030angstro\u0308m", "\u212b \u2126 \ufb01 \ufb00 \u2460 \xbd \xb2 \u33a1",
    "\u201ccurly\u201d \u2018quotes\u2019 \u2026 \u2014 \u2013",
    "\u4e00\u53ea\u732b\u5750\u5728\u7a97\u53f0\u4e0a",
    "\u732b\u304c\u7a93\u8fba\u306b\u5ea7\u3063\u3066\u3044\u308b",
    "\uac00\u1100\u1161 \ud55c\uad6d\uc5b4",
    "\u041a\u043e\u0442 \u0441\u0438\u0434\u0438\u0442 \u043d\u0430 \u043e\u043a\u043d\u0435",
    "\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2 \u03a3\u03a3\u03a3 \u03a3",
    "\u0130stanbul I\u0131\u0130i", "\u017fs '\u017f 'S",
    "\u0642\u0637\u0629 \u0639\u0644\u0649 \u0627\u0644\u0646\u0627\u0641\u0630\u0629",
    "\u05d7\u05ea\u05d5\u05dc \u05e2\u05dc \u05d4\u05d7\u05dc\u05d5\u05df",
    "\u0916\u093f\u0921\u093c\u0915\u0940 \u092a\u0930 \u092c\u093f\u0932\u094d\u0932\u0940",
    "\u0e41\u0e21\u0e27\u0e1a\u0e19\u0e2b\u0e19\u0e49\u0e32\u0e15\u0e48\u0e32\u0e07",
    "\U0001f600 \U0001f431\u200d\U0001f464 \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d"
    "\U0001f466 \U0001f1fa\U0001f1f3 \U0001f44d\U0001f3fd \u2764\ufe0f",
    "\U0001d400\U0001d4d0 \U00020000\U0002a6d6 \U000e0041 \ue000 \U0010fffd \U000f0000",
    "\ufeffbom \ufffd \ufffe \uffff",
    "e\u0301\u0323 e\u0323\u0301 \u1e69 s\u0323\u0307 s\u0307\u0323",
    "\u0958 \u0915\u093c \u2adc \u0344 \u1d15e", "Zalgo H\u0336\u0341e\u0337\u0321l\u0334\u0300lo",
    " \u0301a", "a \u0301", "\u0301", "\u200b\u200c\u200d\u2060",
    "a\xa0b\u2003c\u3000d\u180ee\x85f\u1680g\u2028h\u2029i", "  two  spaces   three ",
    "\ttab\nline\r\nwindows\rmac\x0bvt\x0cff", "a\n\n\nb", "a \n b", "a\n ", "\n", "\r\n\r\n ",
    "   \n   x", "\x00", "a\x00b", "\x01\x02\x1f\x7f\x80\x9f", "\x1b[31mred\x1b[0m",
    "~`!@#$%^&*()_+-={}[]|\\:;\"'<>,.?/", "<|endoftext|>", "<|startoftext|>", "a<|endoftext|>b",
    "a <|startoftext|> b", "<|EndOfText|>!", "<|STARTOFTEXT|>x", "<|endoftext|><|endoftext|>",
    "<|endoftext", "|endoftext|>", "<<|endoftext|>>", "<|endof\xad text|>",
    "<|im_start|>user\nhi<|im_end|>\n", "<|im_end|>", "<|vision_start|><|image_pad|><|vision_end|>",
    "<think>so</think>", "<tool_call>{}</tool_call>", "<tool_response>x</tool_response>",
    "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>",
    "<|object_ref_start|>cat<|object_ref_end|><|box_start|>(1,2)<|box_end|>", "<pad>", "</s>",
    "<s>", "<unk>", "<extra_id_0>", "a <extra_id_99> b", "<extra_id_100>",
    "<extra_id_7><extra_id_7>", " <extra_id_3> ", "</S> <PAD>", "a" * 60,
    "supercalifragilisticexpialidocious antidisestablishmentarianism", "\u4e2d" * 40, "ab" * 40,
    "!" * 40, "1" * 30, " " * 30, "\U0001f600" * 12,
    "A woman with \"Hello\" written on her T-shirt; 50% off \u20ac19.99 @home #tag https://exam"
    "ple.com/a?b=c&d=e",
]
WORDS = [
    "a", "the", "an", "of", "in", "on", "at", "with", "photo", "cat", "dog", "red", "blue", "neon",
    "portrait", "oil", "painting", "watercolor", "8k", "HDR", "woman's", "it's", "they're", "35mm",
    "f/1.8", "bokeh", "Tokyo", "sunset", "\u732b", "\u5c71\u6c34", "\u6625", "caf\xe9",
    "\u041c\u043e\u0441\u043a\u0432\u0430", "\u0928\u092e\u0938\u094d\u0924\u0947", "\U0001f600",
    "\u2014", ",", ".", "!", "?", ":", ";",
]
# First and last code points. Together they cover every plane.
RANGES = {
    "ascii": (0x20, 0x7e), "control": (0x00, 0xa0), "latin": (0xa0, 0x24f), "marks": (0x300, 0x36f),
    "greek to thai": (0x370, 0xe7f), "indic to georgian": (0x900, 0x10ff),
    "jamo": (0x1100, 0x11ff), "rest of the bmp": (0x1200, 0x2fff), "punctuation": (0x2000, 0x206f),
    "kana": (0x3000, 0x30ff), "cjk": (0x3400, 0x9fff), "hangul": (0xac00, 0xd7a3),
    "private": (0xe000, 0xf8ff), "compatibility": (0xf900, 0xffff), "variation": (0xfe00, 0xfe0f),
    "plane 1": (0x10000, 0x1ffff), "emoji": (0x1f300, 0x1faff), "regional": (0x1f1e6, 0x1f1ff),
    "plane 2": (0x20000, 0x2ffff), "plane 3": (0x30000, 0x3ffff), "planes 4-13": (0x40000, 0xdffff),
    "plane 14": (0xe0000, 0xe01ff), "planes 15-16": (0xf0000, 0x10ffff),
}
SPECIAL = ["<|endoftext|>", "<|startoftext|>", "<|im_start|>", "<|im_end|>", "</s>", "<pad>",
           "<unk>", "<extra_id_5>", "<think>", "</think>", "<tool_call>", "<|image_pad|>"]
SEPARATORS = [" ", "  ", "\n", "\t", " \n", "'", "-", "\u3000", "\u00a0", "\u200d", "\ufe0f"]
RANDOM_PROMPTS = 3000

# As in diffusers 0.42.1, pipelines/qwenimage/pipeline_qwenimage.py.
QWEN_IMAGE_TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, "
    "text, spatial relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}"
    "<|im_end|>\n<|im_start|>assistant\n")
QWEN_IMAGE_DROPPED = 34
FRAMED = ["", "a cat", "(cat:1.2) {x} <|im_end|> </s>", "a cat, \u732b, and 3 dogs. " * 16]
FRAMED_TOKENS = 48


def random_code_point(rng):
    """One that Unicode 14 (Debian 12's libraries) has assigned, or of a plane without any."""
    first, last = RANGES[rng.choice(list(RANGES))]
    while True:
        code_point = rng.randint(first, last)
        category = unicodedata.category(chr(code_point))
        if category != "Cs" and (category != "Cn" or code_point >= 0x40000):
            return chr(code_point)


def random_piece(rng):
    kind = rng.random()
    if kind < 0.25:
        return rng.choice(WORDS)
    if kind < 0.40:
        return rng.choice(SEPARATORS)
    if kind < 0.43:
        special = rng.choice(SPECIAL)
        return special if rng.random() < 0.7 else special.upper()
    return random_code_point(rng)


def make_prompts():
    if unicodedata.unidata_version != "14.0.0":
        sys.exit("make_token_goldens: new prompts required Python 3.11, whose Unicode is 14.0.0, "
                 f"got Unicode {unicodedata.unidata_version}")
    rng = random.Random(17)
    return WRITTEN + ["".join(random_piece(rng) for _ in range(rng.randint(1, 7)))
                      for _ in range(RANDOM_PROMPTS)]


def ids_by_transformers(folder, prompts):
    readers = {"clip": CLIPTokenizer, "t5": T5Tokenizer, "qwen_image": Qwen2Tokenizer,
               "z_image": Qwen2Tokenizer}
    ids = {}
    for name, reader in readers.items():
        tokenizer = reader.from_pretrained(folder / name)
        ids[name] = [tokenizer(prompt, add_special_tokens=False).input_ids for prompt in prompts]
    return ids


def framed_ids(folder):
    """Prompts as the pipelines give them to the text encoders: start, end, padding, templates."""
    clip = CLIPTokenizer.from_pretrained(folder / "clip")
    t5 = T5Tokenizer.from_pretrained(folder / "t5")
    qwen_image = Qwen2Tokenizer.from_pretrained(folder / "qwen_image")
    z_image = Qwen2Tokenizer.from_pretrained(folder / "z_image")

    def chat(prompt):
        return z_image.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False,
                                           add_generation_prompt=True, enable_thinking=True)

    def cut(tokenizer, text, length, **options):
        return tokenizer(text, max_length=length, truncation=True, **options).input_ids

    return [{"prompt": prompt,
             "clip": cut(clip, prompt, 77, padding="max_length"),
             "t5": cut(t5, prompt, FRAMED_TOKENS, padding="max_length"),
             "qwen_image": cut(qwen_image, QWEN_IMAGE_TEMPLATE.format(prompt),
                               FRAMED_TOKENS + QWEN_IMAGE_DROPPED),
             "z_image": cut(z_image, chat(prompt), FRAMED_TOKENS)} for prompt in FRAMED]


def ids_by_original_t5(folder, prompts):
    """By the sentencepiece package, parts between added tokens one by one."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "t5" / "spiece.model"))
    config = json.loads((folder / "t5" / "tokenizer_config.json").read_text())
    added = {token["content"]: int(number)
             for number, token in config["added_tokens_decoder"].items()}
    between = re.compile("(" + "|".join(map(re.escape, added)) + ")")
    ids = []
    for prompt in prompts:
        parts = [part for part in between.split(prompt.replace("\u0085", " ")) if part]
        ids.append([number for part in parts
                    for number in ([added[part]] if part in added else model.encode(part))])
    return model, ids


def t5_differences(folder, prompts, ids):
    """Where transformers' ids are not the original's, with the original's and the reason."""
    model, original = ids_by_original_t5(folder, prompts)
    rows = []
    for index, (theirs, ours) in enumerate(zip(ids, original)):
        if theirs == ours:
            continue
        score = [sum(model.get_score(number) for number in numbers) for numbers in (theirs, ours)]
        if sorted(theirs) == sorted(ours) and score[0] == score[1]:
            reason = "two ways to cut a word have the same score"
        elif any(len(cluster) > 1 for cluster in regex.findall(r"\X", prompts[index])):
            reason = "a code point and the marks after it are replaced one by one"
        else:
            sys.exit(f"make_token_goldens: no reason for the ids of {prompts[index]!r}")
        rows.append([index, ours, reason])
    return rows


def make(folder, prompts):
    ids = ids_by_transformers(folder, prompts)
    return {
        "made_with": f"tools/make_token_goldens.py, transformers {transformers.__version__}, "
                     f"tokenizers {tokenizers.__version__}",
        "prompts": prompts,
        "clip": ids["clip"],
        "t5": ids["t5"],
        "t5_differences": t5_differences(folder, prompts, ids["t5"]),
        "qwen_image": ids["qwen_image"],
        "framed_tokens": FRAMED_TOKENS,
        "framed": framed_ids(folder),
        # Four added tokens more: only the rows that differ.
        "z_image_differences": [
            [index, row] for index, row in enumerate(ids["z_image"])
            if row != ids["qwen_image"][index]],
    }


def write(golden):
    """One row a line, so that a change shows where it is."""
    parts = []
    for key, value in golden.items():
        if isinstance(value, list):
            rows = ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":"))
                              for row in value)
            parts.append(f"{json.dumps(key)}: [\n{rows}\n]")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value)}")
    GOLDEN.write_text("{" + ",\n".join(parts) + "}\n", encoding="utf-8")


def check(committed, fresh):
    problems = [key for key in fresh if key != "made_with" and committed.get(key) != fresh[key]]
    for key in problems:
        print(f"{GOLDEN.name}: {key} differ", file=sys.stderr)
    print("token ids differ" if problems else "token ids agree")
    return 1 if problems else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vocabularies", type=pathlib.Path)
    parser.add_argument("--check", action="store_true",
                        help="recompute the ids of the committed prompts, write nothing")
    arguments = parser.parse_args()
    required = ((transformers, TRANSFORMERS_VERSION), (tokenizers, TOKENIZERS_VERSION))
    for package, version in required:
        if package.__version__ != version:
            sys.exit(f"make_token_goldens: required {package.__name__} {version}, "
                     f"got {package.__version__}")
    transformers.logging.set_verbosity_error()
    if arguments.check:
        committed = json.loads(GOLDEN.read_text(encoding="utf-8"))
        return check(committed, make(arguments.vocabularies, committed["prompts"]))
    write(make(arguments.vocabularies, make_prompts()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
