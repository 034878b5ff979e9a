"""What the commands write to the terminal, and the errors that end them."""

import sys
from typing import Any

import torch
from diffusers.utils.logging import tqdm

from ..tuning.tuner import NonFiniteLossError


class CliError(ValueError):
    """Something that the user can put right; the message is one or two plain sentences."""


class UsageError(ValueError):
    """A wrong command line."""


EXPECTED_ERRORS = (ValueError, OSError, NonFiniteLossError, torch.cuda.OutOfMemoryError)
"""What may go wrong without a mistake in the program."""


def explain(error: Exception) -> str:
    """One of `EXPECTED_ERRORS` in plain words."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return "The device has too little memory; use fewer --frames, a smaller --size or --dtype bf16."
    return str(error)


def say(text: str) -> None:
    """Writes a line to the standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_error(text: str) -> None:
    """Writes a line to the standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def bar(total: int, label: str, quiet: bool, done: int = 0) -> Any:
    """A tqdm progress bar on the standard error; ``quiet`` shows none."""
    return tqdm(total=total, initial=done, desc=label, disable=quiet, dynamic_ncols=True)
