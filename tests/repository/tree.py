"""The checkout's files, without what dev.py and tools make."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_MADE = {"__pycache__", "output", "build", "dist"}


def files(*suffixes: str, under: str = "") -> list[Path]:
    """Files with one of `suffixes`, in the folder `under` of the checkout."""
    return sorted(path for path in _walk(ROOT / under) if path.suffix in suffixes)


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        # Folders that begin with a dot are other programs'; only .github is ours. pip makes .egg-info.
        made = {n for n in folders if n in _MADE or n.startswith(".") or n.endswith(".egg-info")}
        folders[:] = [n for n in folders if n not in made or n == ".github"]
        yield from (Path(parent) / name for name in names)


def name(path: Path) -> str:
    """The path from the checkout's root, with slashes on every system."""
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(level, module) of every import of a Python file, those inside functions too.

    `from . import x` counts as x. Modules that are imported by a call are listed by their name, or as "?" where
    it is not written out.
    """
    for entry in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(entry, ast.Import):
            yield from ((0, alias.name) for alias in entry.names)
        elif isinstance(entry, ast.ImportFrom):
            yield from ((entry.level, n) for n in ([entry.module] if entry.module else _names(entry)))
        elif isinstance(entry, ast.Call) and _called(entry.func) in ("import_module", "__import__"):
            known = isinstance(entry.args[0], ast.Constant) if entry.args else False
            yield 0, str(entry.args[0].value) if known else "?"


def _names(entry: ast.ImportFrom) -> list[str]:
    return [alias.name for alias in entry.names]


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
