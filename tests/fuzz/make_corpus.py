#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of the fuzzers into corpus/ beside this script: python3 make_corpus.py

Inputs that a fuzzer found are added by hand, as found-<what is wrong>; they are not written here.
"""

import json
import pathlib
import struct
import zlib

CORPUS = pathlib.Path(__file__).parent / "corpus"


def put(target, name, data):
    path = CORPUS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def tensors(header, data=b""):
    if not isinstance(header, (bytes, str)):
        header = json.dumps(header, separators=(",", ":"))
    if isinstance(header, str):
        header = header.encode()
    return struct.pack("<Q", len(header)) + header + data


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors_seeds():
    put("safetensors", "empty", b"")
    put("safetensors", "no-tensors", tensors("{}      "))
    put("safetensors", "three-tensors", tensors(
        {"__metadata__": {"format": "pt"}, "a": entry("F32", [2, 2], 0, 16),
         "b": entry("BF16", [3], 16, 22), "none": entry("I64", [0, 4], 22, 22)}, bytes(range(22))))
    dtypes = ["BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "I16", "U16", "F16", "BF16", "I32", "U32",
              "F32", "F64", "I64", "U64"]
    put("safetensors", "every-dtype", tensors({name: entry(name, [0], 0, 0) for name in dtypes}))
    put("safetensors", "unknown-dtype", tensors({"a": entry("F7", [1], 0, 1)}, b"x"))
    put("safetensors", "overlap", tensors(
        {"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)}, b"xyz"))
    put("safetensors", "hole", tensors(
        {"a": entry("U8", [1], 0, 1), "b": entry("U8", [1], 2, 3)}, b"xyz"))
    put("safetensors", "leftover", tensors({"a": entry("U8", [1], 0, 1)}, b"xyz"))
    put("safetensors", "backwards", tensors({"a": entry("U8", [1], 1, 0)}, b"x"))
    put("safetensors", "beyond-the-end", tensors({"a": entry("U8", [9], 0, 9)}, b"x"))
    put("safetensors", "shape-overflow", tensors({"a": entry("U8", [2**32, 2**32], 0, 0)}))
    put("safetensors", "negative", tensors({"a": entry("U8", [-1], 0, 1)}, b"x"))
    put("safetensors", "fraction", tensors({"a": entry("U8", [1.5], 0, 1)}, b"x"))
    put("safetensors", "repeated", tensors('{"a":{"dtype":"U8","dtype":"U8"}}'))
    put("safetensors", "deep", tensors("{\"a\":" + "[" * 40 + "]" * 40 + "}"))
    put("safetensors", "metadata-number", tensors('{"__metadata__":{"k":1}}'))
    put("safetensors", "bad-utf8", tensors(b'{"\xff":{}}'))
    put("safetensors", "huge-size", b"\xff" * 8 + b"{}")
    put("safetensors", "size-beyond-end", struct.pack("<Q", 99) + b"{}")


def compensation(layers, metadata=None, value=b"\x80\x3f", **tensor_shapes):
    """A file of `layers`, every BF16 tensor full of `value` (1), a permutation in rising order."""
    header = {"__metadata__": {
        "format": "rtlynx compensation", "format_version": "1", "pattern": "2:4",
        "method": "joint", "transform": "none", "recipe": "paper", "rank": "2", "alpha": "2",
        "base_model": "small", "base_revision": "0123456789abcdef",
        "targets": json.dumps(layers, separators=(",", ":")), **(metadata or {})}}
    data = b""
    for name, shape in tensor_shapes.items():
        index = name.endswith("permutation")
        count = 1
        for size in shape:
            count *= size
        body = struct.pack(f"<{count}q", *range(count)) if index else value * count
        header["rtlynx." + name.replace("_", ".")] = entry(
            "I64" if index else "BF16", shape, len(data), len(data) + len(body))
        data += body
    return tensors(header, data)


def compensation_seeds():
    target = {"norm": True, "input": "i"}
    low_rank = {"a_down": [2, 4], "a_up": [3, 2]}
    whole = {**low_rank, "a_weight": [3, 4]}
    put("compensation", "empty", b"")
    put("compensation", "no-tensors", compensation({"a": target}, {"rank": "0", "alpha": "0"}))
    put("compensation", "low-rank", compensation({"a": target}, **low_rank))
    put("compensation", "blocks", compensation({"a": target}, i_transform=[1, 4, 4], **whole))
    put("compensation", "permuted", compensation(
        {"a": target}, i_permutation=[4], i_scale=[4], **whole))
    put("compensation", "two-layers", compensation(
        {"a": target, "b": {"norm": False, "input": "i"}}, i_scale=[4], b_weight=[2, 4], **whole))
    put("compensation", "alpha", compensation({"a": target}, {"alpha": "1000000"}, **low_rank))
    put("compensation", "alpha-overflow", compensation(
        {"a": target}, {"alpha": "1000000"}, value=b"\x7f\x7f", **low_rank))
    put("compensation", "rank-zero", compensation(
        {"a": target}, {"rank": "0", "alpha": "1"}, a_down=[0, 4], a_up=[3, 0]))
    put("compensation", "wrong-rank", compensation({"a": target}, {"rank": "3"}, **low_rank))
    put("compensation", "newer", compensation({"a": target}, {"format_version": "99"}))
    put("compensation", "no-targets", compensation({}))
    put("compensation", "unasked", compensation({"a": target}, c_weight=[2, 4], **low_rank))
    put("compensation", "half-a-low-rank", compensation({"a": target}, a_down=[2, 4]))
    put("compensation", "other-format", tensors({"__metadata__": {"format": "pt"}}))


def json_seeds():
    put("json", "config", json.dumps(
        {"_class_name": "FluxTransformer2DModel", "num_layers": 19, "axes_dims_rope": [16, 56, 56],
         "guidance_embeds": True, "eps": 1e-6, "nothing": None, "text": "caf\u00e9"}, indent=2))
    put("json", "index", json.dumps(
        {"metadata": {"total_size": 2}, "weight_map": {"a": "m-00001-of-00001.safetensors"}}))
    put("json", "numbers", "[0, -0, 18446744073709551615, -9223372036854775808, 1e308, 0.1]")
    put("json", "too-large", "[1e999]")
    put("json", "escapes", r'["\u20ac\ud83d\udc08", "\"\\\/\b\f\n\r\t"]')
    put("json", "lone-surrogate", r'"\ud800"')
    put("json", "repeated", '{"a": 1, "a": 2}')
    put("json", "deep", "[" * 70 + "]" * 70)
    put("json", "nul", b"{}\0{}")
    put("json", "bom", b"\xef\xbb\xbf{}")
    put("json", "empty", b"")


def chunk(kind, data=b""):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(4)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND")


def png_seeds():
    put("png_texts", "empty", b"")
    put("png_texts", "no-texts", png())
    put("png_texts", "texts", png(chunk(b"tEXt", b"prompt\0caf\xe9"),
                                  chunk(b"iTXt", b"k\0\0\0en\0key\0" + "\u732b".encode())))
    put("png_texts", "compressed", png(chunk(b"zTXt", b"k\0\0" + zlib.compress(b"x")),
                                       chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(b"x"))))
    put("png_texts", "no-keyword", png(chunk(b"tEXt", b"\0text")))
    put("png_texts", "unended", png(chunk(b"iTXt", b"k\0\0\0en")))
    put("png_texts", "bad-utf8", png(chunk(b"iTXt", b"k\0\0\0\0\0\xff")))
    put("png_texts", "truncated", png()[:-6])
    put("png_texts", "huge-chunk", png()[:33] + b"\xff\xff\xff\xfftEXt")


def token(text, **options):
    return {"content": text, "normalized": False, **options}


def token_files(vocabulary, merges, added):
    config = {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": added}
    return "\0".join([json.dumps(vocabulary), merges, json.dumps(config)])


def token_file_seeds():
    printing = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    symbols = [chr(byte) for byte in printing] + [chr(0x100 + place) for place in range(68)]
    whole = {symbol: number for number, symbol in enumerate(symbols + ["ab", "\u0120ab"])}
    put("token_files", "empty", b"")
    put("token_files", "whole", token_files(
        whole, "#version: 0.2\na b\n\u0120 ab\n",
        {"258": token("<|endoftext|>"), "259": token("<x>", normalized=True, special=False)}))
    put("token_files", "no-merges", token_files({"a": 0}, "#version: 0.2\n", {}))
    put("token_files", "missing-bytes", token_files({"a": 0, "b": 1, "ab": 2}, "a b\r\n", {}))
    put("token_files", "same-id", token_files({"a": 0, "b": 0}, "a b", {}))
    put("token_files", "negative-id", token_files({"a": -1}, "a b", {"-1": token("x")}))
    put("token_files", "three-symbols", token_files({"a": 0}, "a b c", {"1": token("")}))
    put("token_files", "strips", token_files({"a": 0}, "a a", {"1": token("x", lstrip=True)}))
    put("token_files", "added-twice", token_files(
        {"a": 0}, "a a\na a", {"1": token("x"), "2": token("x")}))


def byte_pair_seeds():
    put("byte_pair", "empty", b"")
    put("byte_pair", "words", "c a\nca t\n\u0120 cat\n\0cat cat  CAT's 12 \u732b e\u0301\n \n")
    put("byte_pair", "same-letter", "a a\naa aa\n\0" + "a" * 70)
    put("byte_pair", "suffix", "a b</w>\na b\0abab ab")
    put("byte_pair", "twice", "a b\na b\0ab")
    put("byte_pair", "bad-utf8", b"a b\0ab\xff")
    put("byte_pair", "spaces", "a b\0" + " " * 40 + "\u3000\u0085\t\r\n x")


def t5_model_seeds():
    model = (pathlib.Path(__file__).parents[1] / "goldens" / "text_flux" / "tokenizer_2" /
             "spiece.model").read_bytes()
    put("t5_model", "empty", b"")
    put("t5_model", "small", model)
    put("t5_model", "cut", model[:len(model) // 2])


if __name__ == "__main__":
    token_file_seeds()
    byte_pair_seeds()
    t5_model_seeds()
    safetensors_seeds()
    json_seeds()
    png_seeds()
    compensation_seeds()
