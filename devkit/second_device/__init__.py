"""A device beside the CPU that stands in for a GPU where there is none.

On a machine without a GPU every tensor lies on the CPU, and one that was left on the wrong device is not noticed.
Torch keeps this device apart from the CPU as it keeps a GPU apart, and computes on the CPU with the CPU's results
(second_device.cpp). ComfyUI takes it for its GPU by its option --directml: torch_directml.py of this folder has the
name of the library that the option asks for. Standard library only.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
VARIABLE = "TAV_SECOND_DEVICE"
"""Environment variable: with any value, ComfyUI runs on the second device, in this process and in servers.

A value that begins with a dash is more arguments for servers, --gpu-only say.
"""


def wanted() -> bool:
    """Whether `VARIABLE` is set."""
    return bool(os.environ.get(VARIABLE))


def arguments(comfyui: Path) -> list[str]:
    """What a server of the ComfyUI in that folder is started with for the second device.

    The oldest versions cannot be asked for dynamic VRAM and do without.
    """
    known = (comfyui / "comfy" / "cli_args.py").read_text(encoding="utf-8")
    dynamic = [name for name in ("--enable-dynamic-vram", "--disable-pinned-memory") if f'"{name}"' in known]
    more = os.environ.get(VARIABLE, "")
    return ["--directml", "0", *dynamic, *(shlex.split(more) if more.startswith("-") else [])]


def missing() -> str:
    """What the device would need and is not here, or nothing. It was built on Linux only."""
    if sys.platform != "linux":
        return "Linux"
    return "" if shutil.which(os.environ.get("CXX") or "c++") else "a C++ compiler"
