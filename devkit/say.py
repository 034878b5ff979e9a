"""The command line's own output: one line for each thing that is done."""

from __future__ import annotations

import sys


class DevError(Exception):
    """Something the user can put right; the message is plain and is shown without a traceback."""


def say(line: str) -> None:
    """Print one line at once, also when the output goes into a pipe."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def print_error(line: str) -> None:
    """Print one line to the error stream."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
