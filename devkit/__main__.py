"""`python -m devkit COMMAND ...`: what dev.py hands over to, inside the virtual environment."""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Sequence

from .commands import COMMANDS, usage
from .say import DevError, print_error, say


def main(argv: Sequence[str]) -> int:
    """Import the module of the command (and only that one) and run it."""
    if not argv or argv[0] not in COMMANDS:
        say(usage())
        return 2
    signal.signal(signal.SIGTERM, _end)
    try:
        return importlib.import_module(COMMANDS[argv[0]].module).main(list(argv[1:]))
    except DevError as error:
        print_error(f"dev.py {argv[0]}: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


def _end(number: int, frame: object) -> None:
    """A request to end is treated like Ctrl-C, so that servers are stopped and files closed."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
