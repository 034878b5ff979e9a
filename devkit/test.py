"""`dev.py test`: the linter and the type checker, then the whole test suite."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from . import browser, lint
from .paths import ROOT
from .say import print_error, say

_INSTALL = "--install-browser"


def main(argv: Sequence[str]) -> int:
    """Run `dev.py lint` and pytest over tests/; `argv` goes to pytest. Returns the exit code.

    With arguments (a file, -k, ...) only pytest runs, for a quick answer. `--install-browser`, which may stand beside
    all of it, first installs Chromium for the browser tests from the system's packages, as root.
    """
    arguments = [argument for argument in argv if argument != _INSTALL]
    if not arguments:
        linted = lint.main([])
        if linted:
            print_error("The tests were not started.")
            return linted
    if _INSTALL in argv:
        try:
            browser.install()
        except browser.NoBrowserError as error:
            say(f"{error} The browser tests are skipped.")
    command = [sys.executable, "-m", "pytest", "-rs", "--durations=10", *arguments]
    return subprocess.run(command, cwd=ROOT).returncode
