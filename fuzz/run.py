"""What the targets share: seeds to begin with, and the fuzzer's start."""

import atexit
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import atheris


def fuzz(one_input: Callable[[bytes], None], seeds: Mapping[str, bytes]) -> None:
    """Feeds ``one_input`` with ``seeds`` and what the fuzzer makes of them; does not come back."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, data in seeds.items():
        (folder / name).write_bytes(data)
    atheris.Setup([*sys.argv, str(folder)], one_input)
    atheris.Fuzz()


def assert_plain(message: str, start: str = "", longest: int = 400) -> None:
    """Raises AssertionError unless ``message`` is one line, not too long, that begins with ``start``."""
    if not message.startswith(start) or "\n" in message or len(message) > longest:
        raise AssertionError(f"not one plain sentence: {message!r}")
