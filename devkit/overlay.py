"""Packages that one ComfyUI version wants in other versions than the virtual environment has.

The environment fits one ComfyUI. Another one (the version matrix, a user's own) gets the few packages whose
requirement it does not meet in a folder of its own, which comes first on the path of that server only: the
exact versions without a whole environment for each.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
from pathlib import Path

from . import venv
from .lock import locked
from .paths import COMFYUI_HOME
from .pins import LEFT_OUT, TORCH
from .requirements import package_name, read_requirements
from .say import say


def unmet(comfyui: Path) -> list[str]:
    """The requirement lines of `comfyui` that this environment does not meet."""
    from packaging.requirements import Requirement

    missing = []
    for line in read_requirements(comfyui / "requirements.txt"):
        requirement = Requirement(line)
        if package_name(line) in (*TORCH, *LEFT_OUT):
            continue
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            installed = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(line)
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            missing.append(line)
    return missing


def ensure(comfyui: Path) -> Path | None:
    """The folder with the packages that `comfyui` misses here, filled if need be; None if it misses none."""
    if os.environ.get("DEV_PYTHON"):
        return None  # that environment is used as it is
    lines = unmet(comfyui)
    if not lines:
        return None
    key = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
    folder = COMFYUI_HOME / "overlay" / key
    done = folder / "complete"
    with locked(COMFYUI_HOME / "set-up.lock"):
        if not done.exists():
            say(f"Installing {', '.join(lines)} for this ComfyUI only.")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            venv.pip(["install", "--no-deps", f"--target={folder}", *lines], log=COMFYUI_HOME / "overlay.log")
            done.touch()
    return folder
