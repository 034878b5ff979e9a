"""The virtual environments: `.venv`, and one for each other ComfyUI version. Standard library only.

What goes into them: the packages that the pack and the ComfyUI declare, and the dependency groups of pyproject.toml.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from . import uv
from .comfyui import COMFYUI_PINNED, is_ours, version_of
from .paths import COMFYUI_HOME, ROOT, VENV
from .say import DevError, say


def folder_for(comfyui: Path) -> Path:
    """The environment's folder: `.venv` for the pinned ComfyUI and for a user's own."""
    if is_ours(comfyui) and comfyui.name != COMFYUI_PINNED:
        return COMFYUI_HOME / f"{comfyui.name}-venv"
    return VENV


def python_path(folder: Path) -> Path:
    """The interpreter inside the virtual environment `folder`."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def ensure(comfyui: Path) -> Path:
    """The interpreter of the environment for this ComfyUI, made and filled if need be; instant when it is complete.

    The mark of a complete one is removed first and set last, so that a set-up that is interrupted is taken up again.
    Two at once wait for each other, which is uv's doing.
    """
    folder = folder_for(comfyui)
    python = python_path(folder)
    wanted = ["-r", "pyproject.toml", "-r", str(comfyui / "requirements.txt"), "--group", "dev"]
    wanted += ["--group", "torch-nvidia" if has_nvidia_gpu() else "torch"]
    content = b"".join(path.read_bytes() for path in (ROOT / "pyproject.toml", comfyui / "requirements.txt"))
    digest = hashlib.sha256(content + repr(wanted).encode()).hexdigest()
    mark = folder / "installed.sha256"
    if python.exists() and mark.exists() and mark.read_text(encoding="ascii").strip() == digest:
        return python
    started = time.monotonic()
    mark.unlink(missing_ok=True)
    if not python.exists():
        uv.run("venv", "--allow-existing", "--python", uv.BASE_PYTHON, str(folder))
    say(f"Installing what ComfyUI {version_of(comfyui)}, the pack and its tests need.")
    uv.run("pip", "install", "--python", str(python), *wanted)
    mark.write_text(digest + "\n", encoding="ascii")
    say(f"Installed in {time.monotonic() - started:.0f} s.")
    return python


def interpreter(comfyui: Path) -> Path:
    """The Python that runs this ComfyUI: the one of this process, or that of the version's own environment."""
    if os.environ.get("DEV_PYTHON") or folder_for(comfyui) == VENV:
        return Path(sys.executable)
    return ensure(comfyui)


def add(group: str) -> None:
    """Install one more dependency group of pyproject.toml into this process's environment.

    Raises DevError where that fails, and where the environment is DEV_PYTHON's, which is used as it is.
    """
    if os.environ.get("DEV_PYTHON"):
        raise DevError(f"The environment in DEV_PYTHON lacks the packages of the dependency group {group!r}.")
    uv.run("pip", "install", "--python", sys.executable, "--group", group)


def has_nvidia_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU with a driver."""
    program = shutil.which("nvidia-smi")
    if program is None or sys.platform == "darwin":
        return False
    try:
        listed = subprocess.run([program, "-L"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and b"GPU" in listed.stdout
