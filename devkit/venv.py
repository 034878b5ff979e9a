"""The virtual environment in the checkout: made, repaired, filled. Standard library only."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from .paths import VENV
from .say import DevError, say

LOG = VENV / "pip.log"
STAMP = VENV / "installed.sha256"

_TAIL_LINES = 25
_ATTEMPTS = 3
# What pip says when the network, not the request, is at fault.
_NETWORK_TROUBLE = (
    "ConnectionError",
    "Connection reset",
    "Connection aborted",
    "ConnectTimeout",
    "IncompleteRead",
    "NewConnectionError",
    "ProtocolError",
    "ReadTimeout",
    "Read timed out",
    "Remote end closed",
    "Temporary failure in name resolution",
    " 502 ",
    " 503 ",
    " 504 ",
    "THESE PACKAGES DO NOT MATCH THE HASHES",
)


def python_path(folder: Path = VENV) -> Path:
    """The interpreter inside the virtual environment `folder`."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _works() -> bool:
    """Whether the environment is complete: an interpreter that starts and has pip."""
    python = python_path()
    if not python.exists():
        return False
    try:
        probe = subprocess.run(
            [str(python), "-c", "import pip, sys; sys.exit(sys.version_info < (3, 10))"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=120,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


def ensure() -> None:
    """Make the virtual environment, or make it anew where an earlier attempt was cut short.

    Raises DevError with the remedy when this Python cannot make one.
    """
    if STAMP.exists() and python_path().exists():
        return
    if _works():
        return
    try:
        import ensurepip  # noqa: F401  (only whether it is there)
        import venv  # noqa: F401
    except ImportError:
        raise DevError(
            "This Python cannot make virtual environments (no module ensurepip or venv): install them "
            "(Debian and Ubuntu: apt install python3-venv) or start dev.py with another Python."
        ) from None
    if VENV.exists():
        say("Removing the incomplete virtual environment .venv.")
        shutil.rmtree(VENV)
    say(f"Making a virtual environment in .venv (Python {sys.version_info[0]}.{sys.version_info[1]}).")
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(VENV)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if made.returncode or not _works():
        raise DevError(f"The virtual environment could not be made:\n{made.stdout.strip()}")


def pip(arguments: Sequence[str], log: Path = LOG, python: Path | None = None) -> None:
    """Run pip; its noise goes into `log`. Tries again when the network was at fault.

    Raises DevError with the end of the log when pip fails.
    """
    common = ["--disable-pip-version-check", "--no-input", "--retries", "5"]
    command = [str(python or python_path()), "-m", "pip", arguments[0], *common, *arguments[1:]]
    for attempt in range(1, _ATTEMPTS + 1):
        code, tail = _run_logged(command, log)
        if code == 0:
            return
        text = "\n".join(tail)
        if attempt < _ATTEMPTS and any(sign in text for sign in _NETWORK_TROUBLE):
            say(f"The network failed; trying again ({attempt + 1} of {_ATTEMPTS}).")
            time.sleep(3 * attempt)
            continue
        raise DevError(f"pip {arguments[0]} failed. The end of {log}:\n{text}")


def _run_logged(command: Sequence[str], log: Path) -> tuple[int, list[str]]:
    """Run `command`, append its output to `log`, return its exit code and last lines."""
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    live = sys.stdout.isatty()
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        open(log, "a", encoding="utf-8") as file,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        file.write("$ " + " ".join(command) + "\n")
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            tail.append(line.rstrip())
            if live and line.startswith(("Collecting", "  Downloading", "Installing")):
                sys.stdout.write("\r\x1b[K  " + line.strip()[:76])
                sys.stdout.flush()
        if live:
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()
    return process.returncode, list(tail)


def install_build_tools(packages: Sequence[str]) -> None:
    """Install the few packages that pip needs to unpack source distributions (once)."""
    marker = VENV / "build-tools"
    if marker.exists():
        return
    pip(["install", *packages])
    marker.touch()


def install(requirements: Sequence[str]) -> None:
    """Install `requirements` unless exactly this set was installed before (an instant check).

    The stamp is removed first, so that a set-up that is interrupted is taken up again.
    """
    text = "\n".join(requirements) + "\n"
    digest = hashlib.sha256(f"{sys.version_info[:2]}\n{text}".encode()).hexdigest()
    if STAMP.exists() and STAMP.read_text(encoding="ascii").strip() == digest:
        return
    STAMP.unlink(missing_ok=True)
    listed = VENV / "requirements.txt"
    listed.write_text(text, encoding="utf-8")
    started = time.monotonic()
    say(f"Installing {len(requirements)} packages and what they need (log: {LOG}).")
    pip(["install", "--prefer-binary", "-r", str(listed)])
    STAMP.write_text(digest + "\n", encoding="ascii")
    say(f"Installed in {time.monotonic() - started:.0f} s.")
