"""`dev.py test-device`: the tests that need ComfyUI, with ComfyUI on the second device."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from ..paths import ROOT
from ..say import DevError
from . import VARIABLE, missing

TESTS = ("tests/nodes", "tests/reliability", "tests/workflows")


def main(argv: Sequence[str]) -> int:
    """Run pytest with `argv`, or over `TESTS`. Returns the exit code.

    Raises DevError where the device cannot be built.
    """
    if missing():
        raise DevError(f"the second device needs {missing()}; a compiler is named in CXX or called c++.")
    command = [sys.executable, "-m", "pytest", "-rs", *(argv or TESTS)]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, VARIABLE: "1"}).returncode
