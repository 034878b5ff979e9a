"""What the commands write to the terminal, and the errors that end them."""

import logging
import sys
from typing import Any

import diffusers
import transformers
from diffusers.utils.logging import tqdm

from ..tuning.run import is_out_of_memory
from ..tuning.tuner import NonFiniteLossError


class CliError(ValueError):
    """Something that the user can put right; the message is one or two plain sentences."""


class UsageError(ValueError):
    """A wrong command line."""


def explain(error: Exception) -> str | None:
    """One or two plain sentences for what may go wrong without a mistake in the program, else None."""
    if is_out_of_memory(error):
        return "The device has too little memory; use fewer --frames, a smaller --size or --dtype bf16."
    return str(error) if isinstance(error, ValueError | OSError | NonFiniteLossError) else None


def say(text: str) -> None:
    """Writes a line to the standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_error(text: str) -> None:
    """Writes a line to the standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class LogLines(logging.Handler):
    """What the library logs, as lines: notes on the standard output, warnings on the standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        if record.levelno < logging.WARNING:
            say(record.getMessage())
        else:
            print_error(f"{record.levelname.lower()}: {record.getMessage()}")

    def __enter__(self) -> None:
        self._library = logging.getLogger(__package__.split(".")[0])
        self._before = self._library.level
        self._library.setLevel(logging.INFO)
        self._library.addHandler(self)
        self._library.propagate = False
        # The libraries' own notes and loading bars.
        diffusers.utils.logging.set_verbosity_error()
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()

    def __exit__(self, *error: object) -> None:
        self._library.removeHandler(self)
        self._library.setLevel(self._before)
        self._library.propagate = True


class Bar:
    """A progress bar on the standard error, made at its first call; ``quiet`` shows none."""

    def __init__(self, label: str, quiet: bool) -> None:
        self._label = label
        self._quiet = quiet
        self._bar: Any = None

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Shows that ``done`` of ``total`` steps are done."""
        if self._quiet:
            return
        if self._bar is None:
            # A resumed run begins in the middle.
            self._bar = tqdm(total=total, initial=done - 1, desc=self._label, dynamic_ncols=True)
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
