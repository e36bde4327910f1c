# SPDX-License-Identifier: Apache-2.0
"""Which GPUs, torches and libraries are taken, and what is said of the others."""

import contextlib
import io
import pathlib
import tempfile
import unittest
from types import SimpleNamespace
from unittest import mock

import torch

import rtlynx
import tiny_models
from rtlynx import _diffusers, _ops
from test_sparsify import sparsify

LEAST_GPU = "compute capability 8.0 or later"


def gpu_of(name, major, minor, multiprocessors=80, shared=101376):
    """Patches torch so that it has one such GPU, and the operators' code for it."""
    properties = SimpleNamespace(major=major, minor=minor, multi_processor_count=multiprocessors,
                                 shared_memory_per_block_optin=shared)
    faked = dict(is_available=lambda: True, device_count=lambda: 1,
                 get_device_name=lambda *_: name,
                 get_device_capability=lambda *_: (major, minor),
                 get_device_properties=lambda *_: properties)
    patches = [mock.patch.object(torch.cuda, key, value) for key, value in faked.items()]
    return [*patches, mock.patch("rtlynx._doctor._has_gpu_code", lambda: True)]


class GpuTest(unittest.TestCase):
    def pretend(self, *gpu):
        for patch in gpu_of(*gpu):
            patch.start()
            self.addCleanup(patch.stop)

    def doctor(self):
        with contextlib.redirect_stdout(io.StringIO()):
            return next(line for line in rtlynx.doctor() if line.startswith("GPU 0"))

    def test_doctor(self):
        self.pretend("Tesla T4", 7, 5, 40, 65536)
        self.assertIn(f"7.5: required {LEAST_GPU[19:]}, no sparse kernel runs", self.doctor())

    def test_doctor_of_a_gpu_that_was_not_measured(self):
        self.pretend("NVIDIA GeForce RTX 5090", 12, 0, 170)
        self.assertRegex(self.doctor(), "12.0, mma.sp kernels; FLUX's MLP up: .*not measured")

    def test_doctor_of_an_h200(self):
        self.pretend("NVIDIA H200", 9, 0, 132, 232448)
        self.assertRegex(self.doctor(), "9.0, wgmma.sp kernels; FLUX's MLP up: ")
        self.assertNotIn("not measured", self.doctor())

    def test_layers_stay_dense_where_nothing_was_measured(self):
        from diffusers import FluxTransformer2DModel
        with torch.device("meta"):
            model = FluxTransformer2DModel(num_layers=1, num_single_layers=1)
        self.pretend("NVIDIA GeForce RTX 5090", 12, 0, 170)
        report = sparsify(model, force=False)
        self.assertEqual(report.sparse_layers, [])
        self.assertTrue(any("not measured" in layer.reason for layer in report.layers))

    def test_an_old_gpu_is_refused(self):
        self.pretend("Tesla T4", 7, 5, 40, 65536)
        model = tiny_models.flux()
        with self.assertRaisesRegex(rtlynx.Error, f"{LEAST_GPU}.*got Tesla T4"):
            _diffusers.RTLynxQuantizer(
                rtlynx.RTLynxConfig(), pre_quantized=False).validate_environment()
        linear = model.transformer_blocks[0].attn.to_q
        with mock.patch.object(torch.nn.Parameter, "device", torch.device("cuda:0")), \
                self.assertRaisesRegex(rtlynx.Error, f"{LEAST_GPU}, got Tesla T4, 7.5"):
            rtlynx.sparsify(model)
        self.assertIs(type(linear), torch.nn.Linear)


class LibraryTest(unittest.TestCase):
    def test_a_torch_that_is_too_old(self):
        for version in ("2.10.1+cu128", "1.13.1"):
            with mock.patch.object(torch, "__version__", version), \
                    self.assertRaisesRegex(ImportError, f"2.11 or later, got {version[:6]}"):
                _ops._load()

    def test_no_library(self):
        with mock.patch.dict("os.environ", RTLYNX_OPS_LIBRARY="/nowhere/ops.so"), \
                self.assertRaisesRegex(ImportError, "library at /nowhere/ops.so .*no such file"):
            _ops._load()

    def test_half_a_library(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "ops.so"
            path.write_bytes(b"\x7fELF")
            with mock.patch.dict("os.environ", RTLYNX_OPS_LIBRARY=str(path)), \
                    self.assertRaisesRegex(ImportError, "required an operator library for torch"):
                _ops._load()


if __name__ == "__main__":
    unittest.main()
