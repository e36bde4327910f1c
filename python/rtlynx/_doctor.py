# SPDX-License-Identifier: Apache-2.0
"""What is installed, what would run, and why not: ``python -m rtlynx``."""

import importlib.metadata
import os
import platform

import torch

from . import _ops

_PACKAGES = ("rtlynx", "diffusers", "transformers", "peft", "accelerate", "safetensors")
_LEAST_DRIVER = 580  # of GPU code by nvcc 13.0


def doctor():
    """Prints it, and returns the lines."""
    lines = [*_versions(), f"operators    {_ops.library} ({_ops.library_reason})", *_gpus()]
    print("\n".join(lines))
    return lines


def _versions():
    yield f"python       {platform.python_version()}, {platform.platform()}"
    yield f"torch        {torch.__version__}, CUDA {torch.version.cuda or 'none'}"
    for name in _PACKAGES:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            version = "from a source tree" if name == "rtlynx" else "not installed"
        yield f"{name:12} {version}"


def _has_gpu_code():
    return torch._C._dispatch_has_kernel_for_dispatch_key("rtlynx::pack", "CUDA")


def _gpus():
    if not _has_gpu_code():
        yield ("GPU          none of the operators: this library was built without nvcc or by a torch "
               "without CUDA. Sparse layers run on the CPU, right and not fast.")
    if not torch.cuda.is_available():
        yield f"GPU          torch finds none{_driver_hint()}"
        return
    for index in range(torch.cuda.device_count()):
        yield f"GPU {index}        {torch.cuda.get_device_name(index)}: {_verdict(index)}"


def _verdict(index):
    major, minor = torch.cuda.get_device_capability(index)
    if (major, minor) < (8, 0):
        return f"compute capability {major}.{minor}: required 8.0 or later, no sparse kernel runs"
    kernels = "wgmma.sp kernels" if (major, minor) == (9, 0) else "mma.sp kernels"
    if not _has_gpu_code():
        return f"compute capability {major}.{minor}, but no operators for it"
    properties = torch.cuda.get_device_properties(index)
    _, _, _, reason = torch.ops.rtlynx.choose_product(
        4096, 12288, 3072, 64, 10 * major + minor, properties.multi_processor_count,
        getattr(properties, "shared_memory_per_block_optin", 0))
    return f"compute capability {major}.{minor}, {kernels}; FLUX's MLP up: {reason}"


def _driver_hint():
    path = "/proc/driver/nvidia/version"
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as file:
        words = file.readline().split()
    version = next((word for word in words if word.split(".")[0].isdecimal() and "." in word), "?")
    if version != "?" and int(version.split(".")[0]) < _LEAST_DRIVER:
        return f"; its driver is {version}, and CUDA 13 needs {_LEAST_DRIVER} or later"
    return f"; driver {version}"
