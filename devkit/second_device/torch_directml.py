"""The second device under the name of the library that ComfyUI's option --directml imports.

This folder is put on the path of the process that is to have the device; nothing of the checkout is, so that this
file stands alone. Raises RuntimeError with the compiler's words if the device cannot be built.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import types
from pathlib import Path

import torch
from torch.utils.cpp_extension import include_paths, library_paths

NAME = "second"
SOURCE = Path(__file__).with_name("second_device.cpp")
BUILT = SOURCE.parents[2] / ".comfyui" / "second_device"


def device(index: int = 0) -> torch.device:
    """The device; there is one only."""
    return torch.device(NAME, 0)


def device_name(index: int = 0) -> str:
    """What ComfyUI's log calls it."""
    return "the second device of the tests"


def _build() -> Path:
    """The library, compiled unless it lies there already for this torch."""
    content = SOURCE.read_bytes() + torch.__version__.encode()
    library = BUILT / f"{hashlib.sha256(content).hexdigest()[:16]}.so"
    if library.exists():
        return library
    BUILT.mkdir(parents=True, exist_ok=True)
    unfinished = library.with_suffix(f".{os.getpid()}")
    command = [os.environ.get("CXX") or "c++", "-shared", "-fPIC", "-std=c++20", "-O1", str(SOURCE)]
    command += ["-o", str(unfinished)]
    command += [f"-I{path}" for path in include_paths()]
    command += [f"-L{path}" for path in library_paths()]
    done = subprocess.run([*command, "-ltorch", "-ltorch_cpu", "-lc10"], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"The second device could not be compiled:\n{done.stderr[-2000:]}")
    unfinished.replace(library)
    return library


def _module() -> types.SimpleNamespace:
    """What torch and ComfyUI ask a device's module for, as `torch.cuda` is one."""
    return types.SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: 1,
        current_device=lambda: 0,
        device=lambda index: contextlib.nullcontext(),
        synchronize=lambda *device: None,
        manual_seed_all=lambda seed: None,
        get_rng_state=lambda *device: torch.get_rng_state(),
        set_rng_state=lambda *state: None,
        get_amp_supported_dtype=lambda: [torch.float16, torch.bfloat16],
        _is_in_bad_fork=lambda: False,
    )


def _movable_data() -> property:
    """`Tensor.data` that takes tensors of another device, which torch allows between the devices it knows."""
    data = torch.Tensor.data

    def assign(tensor: torch.Tensor, value: torch.Tensor) -> None:
        if torch._has_compatible_shallow_copy_type(tensor, value):
            data.__set__(tensor, value)
        else:
            torch.utils.swap_tensors(tensor, torch.nn.Parameter(value, tensor.requires_grad))

    return property(data.__get__, assign)


torch.ops.load_library(str(_build()))
torch.utils.rename_privateuse1_backend(NAME)
torch._register_device_module(NAME, _module())
torch.utils.generate_methods_for_privateuse1_backend()
torch.Tensor.data = _movable_data()
