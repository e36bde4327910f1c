#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Table 2 of the RT-Lynx paper (arXiv 2605.26632) on this GPU: Y = X W^T with X 2:4 sparse, by shape.

    RTLYNX_OPS_LIBRARY=... python bench/table2.py --bench build/cuda/bin/rtlynx_bench --json table2.json

Contenders of this process, in turns: PyTorch's dense Linear; its semi-structured product by CUTLASS and
by cuSPARSELt (the algorithm searched), with the compression that the sparse activation needs online; the
operators of rtlynx without and with a low rank of 64. What chooses the values is inside our pack, and is
a gift to the others: they get X with its zeros already in place. Each call begins with a cold L2, data
are random, and every product is compared with fp32 before it is timed: it may be twice as far as
PyTorch's dense product of the same values. `--bench` adds what rtlynx_bench times in its own process:
cuBLASLt and cuSPARSELt by their C interfaces, both searched, and our kernels without torch. Needs torch
with CUDA and rtlynx; `--tiny` runs a small shape on the CPU, to try the script.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

import torch
from torch.nn.functional import linear
from torch.sparse import SparseSemiStructuredTensorCUSPARSELT, SparseSemiStructuredTensorCUTLASS

import rtlynx
from result_file import write_result

SHAPES = [(4096, 4096, 3072), (4096, 4096, 12288), (8192, 8192, 12288)]  # M, N, K
RANK = 64
EVICTION = 512 << 20  # bytes; while they are written, the host enqueues the call


class Problem:
    """X [M, K], its kept half, W [N, K], a low rank, and what Y is of them in fp32."""

    def __init__(self, shape, device):
        m, n, k = shape
        random = torch.Generator(device).manual_seed(1)

        def normal(*size):
            values = torch.randn(size, device=device, generator=random) * size[-1]**-0.25
            return values.to(torch.bfloat16)
        self.x, self.weight = normal(m, k), normal(n, k)
        self.down, self.up = normal(RANK, k), normal(n, RANK)
        self.kept, self.scale = rtlynx.sparsify24(self.x)
        self.dense = linear(self.x.float(), self.weight.float())
        self.product = linear(self.kept.float(), self.weight.float())
        self.scaled = self.product * self.scale[:, None]
        self.with_low_rank = self.scaled + linear(
            linear(self.x.float(), self.down.float()), self.up.float())


class Dense:
    """No online part: X as it is. Its zeros would save power, and so raise the clock."""
    name = "PyTorch, dense"

    def prepare(self, problem):
        self.problem = problem
        self.expected = problem.dense

    def online(self):
        return self.problem.x

    def product(self, x):
        return linear(x, self.problem.weight)


class SemiStructured:
    """X compressed, then X~ W^T with X~ as the sparse first operand."""

    def __init__(self, name, tensor_class):
        self.name, self.tensor_class, self.algorithm = name, tensor_class, None

    def prepare(self, problem):
        self.problem = problem
        self.expected = problem.product
        if self.tensor_class is SparseSemiStructuredTensorCUSPARSELT:
            self.algorithm = torch._cslt_sparse_mm_search(torch._cslt_compress(problem.kept),
                                                          problem.weight.t())

    def online(self):
        compressed = self.tensor_class.from_dense(self.problem.kept)
        if self.algorithm is not None:
            compressed.alg_id_cusparselt = self.algorithm
        return compressed

    def product(self, compressed):
        return torch.mm(compressed, self.problem.weight.t())


class Ours:
    def __init__(self, rank):
        self.name = f"rtlynx, rank {rank}" if rank else "rtlynx"
        self.rank = rank

    def prepare(self, problem):
        self.problem = problem
        self.expected = problem.with_low_rank if self.rank else problem.scaled

    def online(self):
        return rtlynx.pack(self.problem.x, down=self.problem.down if self.rank else None)

    def product(self, packed):
        ups = [self.problem.up] if self.rank else None
        return rtlynx.product(packed, [self.problem.weight], ups=ups)[0]


def contenders():
    return [Dense(), SemiStructured("PyTorch, CUTLASS", SparseSemiStructuredTensorCUTLASS),
            SemiStructured("PyTorch, cuSPARSELt", SparseSemiStructuredTensorCUSPARSELT),
            Ours(0), Ours(RANK)]


def relative_error(value, exact):
    return ((value.float() - exact).norm() / exact.norm()).item()


class Clock:
    """Times single calls with a cold L2."""

    def __init__(self):
        self.eviction = torch.empty(EVICTION, dtype=torch.uint8, device="cuda")

    def microseconds(self, call):
        begin, end = torch.cuda.Event(True), torch.cuda.Event(True)
        self.eviction.fill_(0x5a)
        begin.record()
        call()
        end.record()
        end.synchronize()
        return 1e3 * begin.elapsed_time(end)


class Entry:
    """A contender on a problem."""

    def __init__(self, contender, problem):
        self.contender = contender
        self.row = {"name": contender.name}
        self.times = {"product_us": [], "together_us": []}
        try:
            contender.prepare(problem)
            self.input = contender.online()
            value = contender.product(self.input)
        except (RuntimeError, NotImplementedError) as error:
            self.row["missing"] = str(error).strip().split("\n")[0]
            return
        self.row["relative_error"] = relative_error(value, contender.expected)

    def time(self, clock):
        product = self.contender.product
        self.times["product_us"].append(clock.microseconds(lambda: product(self.input)))
        self.times["together_us"].append(
            clock.microseconds(lambda: product(self.contender.online())))

    def finish(self, dense_us):
        if not self.times["product_us"]:
            return
        medians = {name: statistics.median(values) for name, values in self.times.items()}
        product, together = medians["product_us"], medians["together_us"]
        self.row.update(medians, online_share=1 - product / together,
                        product_over_dense=dense_us / product, over_dense=dense_us / together)


@torch.no_grad()
def measure(shape, device, rounds):
    problem = Problem(shape, device)
    entries = [Entry(contender, problem) for contender in contenders()]
    dense = entries[0]
    allowed = 2 * dense.row["relative_error"]
    if device == "cuda":
        clock = Clock()
        for _ in range(rounds):
            for entry in entries:
                if "missing" not in entry.row:
                    entry.time(clock)
        dense_us = statistics.median(dense.times["product_us"])
        for entry in entries:
            entry.finish(dense_us)
    return {"m": shape[0], "n": shape[1], "k": shape[2], "allowed_error": allowed,
            "contenders": [entry.row for entry in entries]}


def of_rtlynx_bench(binary):
    """The same shapes by C interfaces, in a process of their own."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "paper.json")
        subprocess.run([binary, "--shapes", "paper", "--json", path], check=True,
                       stdout=subprocess.DEVNULL)
        with open(path, encoding="utf-8") as file:
            return json.load(file)


def wrong(rows):
    return [f"{row['m']} x {row['n']} x {row['k']}, {entry['name']}: {entry['relative_error']} "
            f"from fp32, {row['allowed_error']} allowed"
            for row in rows for entry in row["contenders"]
            if "missing" not in entry and not entry["relative_error"] <= row["allowed_error"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bench", help="the program rtlynx_bench")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--tiny", action="store_true", help="a small shape on the CPU, untimed")
    parser.add_argument("--json", help="required without --tiny")
    options = parser.parse_args()
    if not options.tiny and not options.json:
        parser.error("--json: required, got none")
    device = "cpu" if options.tiny else "cuda"
    rows = []
    for shape in [(64, 96, 128)] if options.tiny else SHAPES:
        rows.append(measure(shape, device, options.rounds))
        print(json.dumps(rows[-1]), flush=True)
    complaint = "\n".join(wrong(rows)) or None
    if options.tiny:
        sys.exit(complaint)
    measured = {"dtype": "bf16", "shapes": rows,
                "cusparselt_of_torch": torch.backends.cusparselt.version()}
    if options.bench:
        measured["rtlynx_bench"] = of_rtlynx_bench(options.bench)
    write_result(options.json, measured)
    sys.exit(complaint)


if __name__ == "__main__":
    main()
