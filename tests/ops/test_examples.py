# SPDX-License-Identifier: Apache-2.0
"""examples/python/compensation.py on a file of every part that the format has."""

import contextlib
import io
import json
import pathlib
import struct
import sys
import tempfile
import unittest

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "examples" / "python"))
import compensation  # noqa: E402
import operators  # noqa: E402

K, N, RANK = 64, 24, 4
NAMES = {torch.bfloat16: "BF16", torch.float32: "F32", torch.int64: "I64"}


def write(path, tensors, metadata):
    header, data = {"__metadata__": metadata}, b""
    for name, tensor in tensors.items():
        body = bytes(tensor.contiguous().flatten().view(torch.uint8).tolist())
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [len(data), len(data) + len(body)]}
        data += body
    text = json.dumps(header).encode()
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def bf16(*shape):
    return torch.randn(shape).to(torch.bfloat16)


def keep_two_of_four(z):
    groups = z.view(-1, 4)
    kept = groups.abs().topk(2, dim=1).indices
    return torch.zeros_like(groups).scatter(1, kept, groups.gather(1, kept)).view(z.shape)


class CompensationTest(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(5)
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name) / "compensation.safetensors"
        self.state = {f"{name}.{part}": torch.randn(shape) for name in "abc"
                      for part, shape in (("weight", (N, K)), ("bias", (N,)))}
        self.tensors = {"rtlynx.a.down": bf16(RANK, K), "rtlynx.a.up": bf16(N, RANK),
                        "rtlynx.b.weight": bf16(N, K), "rtlynx.i.transform": bf16(4, 16, 16),
                        "rtlynx.c.weight": bf16(N, K), "rtlynx.j.scale": bf16(K),
                        "rtlynx.j.permutation": torch.randperm(K)}
        targets = {"a": {"norm": True, "input": "x"}, "b": {"norm": False, "input": "i"},
                   "c": {"norm": True, "input": "j"}}
        self.metadata = {"format": "rtlynx compensation", "format_version": "1", "pattern": "2:4",
                         "rank": str(RANK), "alpha": str(2 * RANK), "targets": json.dumps(targets)}
        write(self.path, self.tensors, self.metadata)

    def tearDown(self):
        self.folder.cleanup()

    def expected(self, name, z, norm):
        weight = self.tensors.get(f"rtlynx.{name}.weight", self.state[f"{name}.weight"]).double()
        kept = keep_two_of_four(z)
        s = z.norm(dim=1, keepdim=True) / kept.norm(dim=1, keepdim=True) if norm else 1
        return s * kept @ weight.T + self.state[f"{name}.bias"].double()

    def test_layers_are_what_the_file_says(self):
        linears = compensation.sparse_linears(self.path, self.state)
        x = torch.randn(9, K)
        wide = {name: tensor.double() for name, tensor in self.tensors.items()}
        low = 2 * x.double() @ wide["rtlynx.a.down"].T @ wide["rtlynx.a.up"].T
        blocks = x.double().view(9, 4, 1, 16) @ wide["rtlynx.i.transform"]
        permuted = (x.double() * wide["rtlynx.j.scale"])[:, self.tensors["rtlynx.j.permutation"]]
        for name, exact in (("a", self.expected("a", x.double(), True) + low),
                            ("b", self.expected("b", blocks.view(9, K), False)),
                            ("c", self.expected("c", permuted, True))):
            torch.testing.assert_close(linears[name](x).double(), exact, rtol=1e-4, atol=1e-3)

    def test_other_files_are_refused(self):
        write(self.path, {}, {"format": "pt"})
        with self.assertRaisesRegex(ValueError, "required a compensation file, got pt"):
            compensation.sparse_linears(self.path, self.state)

    def test_command(self):
        model = pathlib.Path(self.folder.name) / "model"
        model.mkdir()
        write(model / "model.safetensors", self.state, {})
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            compensation.main(self.path, model)
        self.assertRegex(output.getvalue(), r"^a: error .*\nb: error .*\nc: error .*\n$")


class OperatorsTest(unittest.TestCase):
    def test_it_is_near_the_dense_layer_and_compiles(self):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            operators.main()
        self.assertRegex(output.getvalue(), r"^error against dense 0\.[0-9]+, compiled alike\n$")


if __name__ == "__main__":
    unittest.main(verbosity=2)
