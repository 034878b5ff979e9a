"""What dev.py does: set everything up, then run the command inside the virtual environment.

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from . import comfyui, venv
from .commands import COMMANDS, usage
from .paths import ROOT, SHIMS
from .say import DevError, print_error, say


def environment() -> dict[str, str]:
    """The environment variables of a process started by us: our packages and shims can be imported."""
    variables = dict(os.environ)
    paths = [str(SHIMS), str(ROOT)]
    paths += [p for p in variables.get("PYTHONPATH", "").split(os.pathsep) if p and p not in paths]
    variables["PYTHONPATH"] = os.pathsep.join(paths)
    variables["PYTHONUNBUFFERED"] = "1"
    # Threads that spin while they wait make a busy machine many times slower, and an idle one hardly faster.
    variables.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return variables


def set_up() -> Path:
    """Make the environment ready and return its Python interpreter; a second call is instant."""
    chosen = os.environ.get("DEV_PYTHON")
    return Path(chosen) if chosen else venv.ensure(comfyui.locate())


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        say(usage())
        return 0 if argv else 2
    if argv[0] not in COMMANDS:
        print_error(f"dev.py has no command {argv[0]!r}.\n\n{usage()}")
        return 2
    try:
        python = set_up()
        return _hand_over([str(python), "-m", "devkit", *argv])
    except DevError as error:
        print_error(f"dev.py: {error}")
        return 1
    except KeyboardInterrupt:
        print_error("Interrupted; the next start takes up from here.")
        return 130


def _hand_over(command: list[str]) -> int:
    """Become `command`, so that signals reach it; Windows has no such thing, so there it is a child."""
    if os.name != "nt":
        sys.stdout.flush()
        os.execve(command[0], command, environment())  # noqa: S606
    process = subprocess.Popen(command, env=environment())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
