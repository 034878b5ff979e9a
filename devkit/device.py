"""Whether the installed torch can use a GPU here."""

from __future__ import annotations

import functools
import importlib.metadata
import subprocess
import sys

_PROBE = (
    "import torch, sys; mps = getattr(torch.backends, 'mps', None);"
    "sys.exit(not (torch.cuda.is_available() or (mps and mps.is_available())))"
)


@functools.cache
def has_gpu() -> bool:
    """Whether ComfyUI can run on a GPU; otherwise its server needs `--cpu`.

    Asked in a process of its own: importing torch here would cost memory as long as this process lives.
    """
    try:
        if importlib.metadata.version("torch").endswith("+cpu"):
            return False
    except importlib.metadata.PackageNotFoundError:
        return False
    return subprocess.run([sys.executable, "-c", _PROBE], stdin=subprocess.DEVNULL).returncode == 0
