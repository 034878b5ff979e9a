"""`dev.py test`: the linter, then the whole test suite."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from .paths import ROOT
from .say import complain, say


def main(argv: Sequence[str]) -> int:
    """Run ruff over the checkout and pytest over tests/; `argv` goes to pytest. Returns the exit code.

    With arguments (a file, -k, ...) only pytest runs, for a quick answer.
    """
    if not argv:
        say("ruff check")
        linted = subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=ROOT).returncode
        if linted:
            complain("ruff found something; the tests were not started.")
            return linted
    command = [sys.executable, "-m", "pytest", "-rs", "--durations=10", *argv]
    return subprocess.run(command, cwd=ROOT).returncode
