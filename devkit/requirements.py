"""Which packages the environment needs: the pack's own, ComfyUI's, the tests'. Standard library only."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .paths import ROOT
from .pins import DEVELOPMENT, LEFT_OUT, TORCH
from .say import DevError

_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


def package_name(requirement: str) -> str:
    """The normalised package name of a requirement line such as `SQLAlchemy>=2.0`."""
    match = _NAME.match(requirement)
    if match is None:
        raise DevError(f"Not a requirement: {requirement!r}.")
    return re.sub(r"[-_.]+", "-", match.group(1)).lower()


def read_requirements(path: Path) -> list[str]:
    """The requirement lines of a pip requirements file, without comments and options."""
    lines = (line.split("#", 1)[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("-")]


def pack_dependencies(pyproject: Path = ROOT / "pyproject.toml") -> list[str]:
    """The packages that the pack declares in pyproject.toml.

    Python 3.10 has no TOML reader; a list of strings is also a Python literal, so it is read as one.
    """
    text = pyproject.read_text(encoding="utf-8")
    start = re.search(r"^\[project\][^\[]*?^dependencies\s*=\s*\[", text, re.MULTILINE | re.DOTALL)
    if start is None:
        raise DevError(f"{pyproject} declares no dependencies.")
    begin = start.end() - 1
    for end in re.finditer(r"\]", text[begin:]):
        try:
            return list(ast.literal_eval(text[begin : begin + end.end()]))
        except SyntaxError:
            continue
    raise DevError(f"The list of dependencies in {pyproject} is not closed.")


def has_nvidia_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU with a driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return False
    try:
        listed = subprocess.run(
            [program, "-L"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and b"GPU" in listed.stdout


def torch_requirements() -> list[str]:
    """torch and its companions, pinned.

    `==` also takes a local CPU build (2.13.0+cpu) where pip's configuration offers one, which saves gigabytes
    on a machine without a GPU; `===` on a machine with one takes the plain build only.
    """
    equals = "===" if has_nvidia_gpu() and sys.platform != "darwin" else "=="
    return [f"{name}{equals}{version}" for name, version in TORCH.items()]


def all_requirements(comfyui: Path) -> list[str]:
    """Every requirement of the development environment for the ComfyUI in `comfyui`."""
    wanted = torch_requirements()
    others = [*pack_dependencies(), *read_requirements(comfyui / "requirements.txt"), *DEVELOPMENT]
    for line in others:
        if package_name(line) not in TORCH and package_name(line) not in LEFT_OUT and line not in wanted:
            wanted.append(line)
    return wanted
