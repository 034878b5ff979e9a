"""`dev.py lint`: ruff over the checkout, mypy over tav_core; how they are set up is in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from .paths import COMFYUI_HOME, ROOT
from .say import print_error, say

# mypy's cache is kept with what dev.py makes; with one, a second run takes seconds.
_MYPY_CACHE = COMFYUI_HOME / "mypy"
CHECKS = {
    "ruff": ("ruff", "check", "."),
    "mypy": ("mypy", "--cache-dir", str(_MYPY_CACHE)),
}


def main(argv: Sequence[str]) -> int:
    """Run every check, or those named in `argv`; returns the exit code of the last one that found something."""
    unknown = [name for name in argv if name not in CHECKS]
    if unknown:
        print_error(f"dev.py lint knows {', '.join(CHECKS)}, not {', '.join(unknown)}.")
        return 2
    code = 0
    for name in argv or CHECKS:
        say(" ".join(CHECKS[name][:2]))
        found = subprocess.run([sys.executable, "-m", *CHECKS[name]], cwd=ROOT).returncode
        if found:
            print_error(f"{name} found something.")
            code = found
    return code
