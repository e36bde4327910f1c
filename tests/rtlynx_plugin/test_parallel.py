# SPDX-License-Identifier: Apache-2.0
"""Two processes on one model: context parallelism runs, tensor parallelism is refused."""

import pathlib
import tempfile
import unittest
import warnings
from unittest import mock

import torch
from torch import distributed, multiprocessing

import rtlynx
import tiny_models
from reference import Counts, relative_error
from test_sparsify import random_compensation, run, sparsify

PROCESSES = 2
# Streams of which each process takes a half, and the packs and weights of a step.
CASES = ((tiny_models.flux, tiny_models.flux_arguments(), (7, 14)),
         (tiny_models.qwen_image, tiny_models.qwen_image_arguments(text=8), (12, 20)))
SMALL = 1e-5  # of float32
NARROW = 5e-2  # of bfloat16, whose rounding decides some of the choices


def _on(device, step):
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    move = lambda value: value.to(device, dtype if value.is_floating_point() else None) \
        if isinstance(value, torch.Tensor) else value
    return {name: move(value) for name, value in step.items()}


def _context_parallel(device):
    from diffusers import ContextParallelConfig
    for make, step, counted in CASES:
        step = _on(device, {name: value for name, value in step.items() if "mask" not in name})
        model = make()
        compensation = random_compensation(model)
        model.to(device, torch.float32 if device == "cpu" else torch.bfloat16)
        sparsify(model, compensation)
        expected = run(model, step)
        model.enable_parallelism(config=ContextParallelConfig(ulysses_degree=PROCESSES))
        with Counts() as counts:
            error = relative_error(run(model, step), expected)
        assert (counts.packs, counts.weights) == counted, (counts.packs, counts.weights)
        assert error < (SMALL if device == "cpu" else NARROW), error


def _context_parallel_and_offload(device):
    """Parallel first, then offload, as diffusers wants it."""
    from diffusers import ContextParallelConfig
    make, step, counted = CASES[0]
    step, model = _on(device, step), make()
    sparsify(model, random_compensation(model))
    expected = run(model, step)
    model.enable_parallelism(config=ContextParallelConfig(ulysses_degree=PROCESSES))
    model.enable_group_offload(onload_device=torch.device(device), offload_type="block_level",
                               num_blocks_per_group=1)
    with Counts() as counts:
        error = relative_error(run(model, step), expected)
    assert (counts.packs, counts.weights) == counted, (counts.packs, counts.weights)
    assert error < SMALL, error


def _tensor_parallel(device):
    from diffusers import TensorParallelConfig
    model = tiny_models.flux()
    sparsify(model)
    try:
        model.enable_parallelism(config=TensorParallelConfig(tp_degree=PROCESSES))
    except (NotImplementedError, ValueError) as error:
        assert "quantiz" in str(error), error
    else:
        raise AssertionError("tensor parallelism was not refused")


def _sharded_weights(device):
    """A model that torch has spread over processes is refused and left as it was."""
    from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh
    model, name = tiny_models.flux(), "transformer_blocks.0.attn.to_k"
    linear = model.get_submodule(name)
    linear.weight = torch.nn.Parameter(
        distribute_tensor(linear.weight.data, init_device_mesh(device, (PROCESSES,)), [Shard(0)]))
    try:
        sparsify(model)
    except rtlynx.Error as error:
        assert f"got a DTensor in {name}" in str(error), error
    else:
        raise AssertionError("a DTensor was not refused")
    assert type(linear) is torch.nn.Linear


def _process(rank, check, backend, folder):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    device = "cpu" if backend == "gloo" else f"cuda:{rank}"
    if backend != "gloo":
        torch.cuda.set_device(rank)
    distributed.init_process_group(backend, f"file://{folder}/store", rank=rank,
                                   world_size=PROCESSES)
    # Without an accelerator diffusers divides by their number.
    with mock.patch.object(torch.accelerator, "device_count",
                           return_value=max(1, torch.accelerator.device_count())):
        check(device)
    distributed.destroy_process_group()


class ParallelTest(unittest.TestCase):
    def spawn(self, check, backend):
        with tempfile.TemporaryDirectory() as folder:
            multiprocessing.spawn(_process, (check, backend, pathlib.Path(folder)), PROCESSES)

    @unittest.skipIf(torch.cuda.is_available(), "diffusers takes the GPU where there is one")
    def test_context_parallel(self):
        self.spawn(_context_parallel, "gloo")

    @unittest.skipIf(torch.cuda.is_available(), "diffusers takes the GPU where there is one")
    def test_context_parallel_and_offload(self):
        self.spawn(_context_parallel_and_offload, "gloo")

    @unittest.skipIf(torch.cuda.is_available(), "diffusers takes the GPU where there is one")
    def test_tensor_parallel(self):
        self.spawn(_tensor_parallel, "gloo")

    def test_sharded_weights(self):
        self.spawn(_sharded_weights, "gloo")

    @unittest.skipIf(torch.cuda.device_count() < PROCESSES, "requires two GPUs")
    def test_context_parallel_on_gpus(self):
        self.spawn(_context_parallel, "nccl")


if __name__ == "__main__":
    unittest.main()
