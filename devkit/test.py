"""`dev.py test`: the linter and the type checker, then the whole test suite."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from . import lint
from .paths import ROOT
from .say import print_error


def main(argv: Sequence[str]) -> int:
    """Run `dev.py lint` and pytest over tests/; `argv` goes to pytest. Returns the exit code.

    With arguments (a file, -k, ...) only pytest runs, for a quick answer.
    """
    if not argv:
        linted = lint.main([])
        if linted:
            print_error("The tests were not started.")
            return linted
    command = [sys.executable, "-m", "pytest", "-rs", "--durations=10", *argv]
    return subprocess.run(command, cwd=ROOT).returncode
