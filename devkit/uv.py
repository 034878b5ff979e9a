"""uv, which installs everything: fetched with pip, started with pip's configuration. Standard library only."""

from __future__ import annotations

import ast
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .paths import COMFYUI_HOME, ROOT
from .say import DevError, say

VERSION = "0.13.9"
FOLDER = COMFYUI_HOME / f"uv-{VERSION}"

# The Python that pip belongs to, also where this process runs in a virtual environment (uv's have no pip).
BASE_PYTHON: str = getattr(sys, "_base_executable", sys.executable)

# uv does not read pip's configuration: what is passed on, to which variable, and what stands between several values.
_FROM_PIP = {
    "index-url": ("UV_DEFAULT_INDEX", ""),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "constraint": ("UV_CONSTRAINT", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", ""),
    "default-timeout": ("UV_HTTP_TIMEOUT", ""),
    "timeout": ("UV_HTTP_TIMEOUT", ""),
}


def run(*arguments: str) -> None:
    """Run uv in the checkout's root; it reports by itself. Raises DevError if it fails."""
    command = [executable(), *arguments]
    if subprocess.run(command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL).returncode:
        raise DevError(f"uv {' '.join(arguments[:2])} failed; it says why above.")


@functools.cache
def executable() -> str:
    """The path of uv: the pinned one, installed if need be; without pip, the one on the PATH.

    Raises DevError where there is neither pip nor uv.
    """
    if not _found() and _pip("--version").returncode:
        if there := shutil.which("uv"):
            return there
        raise DevError(
            "This Python has neither pip nor uv: install one of them (Debian and Ubuntu: apt install python3-pip) "
            "or start dev.py with another Python."
        )
    if not _found():
        _install()
    return _found() or ""


def environment() -> dict[str, str]:
    """The environment variables of a process that may start uv: ours, and pip's configuration in uv's words."""
    variables = dict(os.environ)
    for name, value in pip_configuration().items():
        if name in _FROM_PIP:
            variable, separator = _FROM_PIP[name]
            variables.setdefault(variable, separator.join(value.split()) if separator else value)
    # As pip does: the best version of all indexes, not that of the first one which has the package.
    variables.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    variables.setdefault("UV_PYTHON_DOWNLOADS", "never")
    return variables


@functools.cache
def pip_configuration() -> dict[str, str]:
    """The settings of pip's configuration files and variables, by option; empty where there is no pip."""
    found: dict[tuple[int, str], str] = {}
    for line in _pip("config", "list").stdout.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.rpartition(".")
        if section in (order := ["global", "install", ":env:"]):
            found[order.index(section), option] = ast.literal_eval(value)
    return {option: value for (_, option), value in sorted(found.items())}


def _found() -> str | None:
    return shutil.which("uv", path=os.pathsep.join([str(FOLDER / "bin"), str(FOLDER / "Scripts")]))


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [BASE_PYTHON, "-m", "pip", *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def _install() -> None:
    """Install the pinned uv beside its place and move it there: `FOLDER` is whole or not there."""
    say(f"Installing uv {VERSION}.")
    COMFYUI_HOME.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="uv-", dir=COMFYUI_HOME) as scratch:
        done = _pip("install", "--target", f"{scratch}/uv", f"uv=={VERSION}")
        if done.returncode:
            raise DevError(f"uv could not be installed:\n{done.stdout}{done.stderr}".rstrip())
        try:
            Path(scratch, "uv").replace(FOLDER)
        except OSError:  # another dev.py was faster, or a part of it lies there
            if not _found():
                shutil.rmtree(FOLDER)
                Path(scratch, "uv").replace(FOLDER)
