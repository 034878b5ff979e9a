"""The folder that a server works in: models, input, output, nodes, all outside the ComfyUI tree."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from .paths import BASE, ROOT, TINY_NODE

PACK_NAME = "comfyui-tune-a-video"
TINY_NODE_NAME = "tune-a-video-tiny-world"

_FOLDERS = ("models/checkpoints", "input", "output", "temp", "user", "custom_nodes")
_NOT_COPIED = shutil.ignore_patterns(".git", ".venv", ".comfyui", "output", "__pycache__", ".*_cache")


def prepare(base: Path = BASE, checkpoints: Iterable[Path] = ()) -> Path:
    """Make the folder `base` ready for a server and return it.

    The pack (this checkout) and the development-only node for tiny checkpoints are linked into custom_nodes,
    each of `checkpoints` into models/checkpoints. Nothing else in the folder is touched.
    """
    for name in _FOLDERS:
        (base / name).mkdir(parents=True, exist_ok=True)
    link(ROOT, base / "custom_nodes" / PACK_NAME)
    if TINY_NODE.is_dir():
        link(TINY_NODE, base / "custom_nodes" / TINY_NODE_NAME)
    for checkpoint in checkpoints:
        link(checkpoint, base / "models" / "checkpoints" / checkpoint.name)
    return base


def link(source: Path, target: Path) -> None:
    """Make `target` stand for the file or folder `source`.

    A symbolic link; where the system does not allow one (Windows without developer mode) a junction or a hard
    link; else a copy. An earlier link or copy at `target` is replaced.
    """
    source = source.absolute()
    if source == target.absolute():
        return
    if target.is_symlink() and Path(os.readlink(target)) == source:
        return
    _remove(target)
    try:
        os.symlink(source, target, target_is_directory=source.is_dir())
    except OSError:
        if source.is_dir():
            _link_folder(source, target)
        else:
            _link_file(source, target)


def _remove(target: Path) -> None:
    """Remove a link, a junction (never what it points to), a copy or a file."""
    if target.is_symlink() or target.is_file():
        target.unlink()
    elif target.is_dir():
        try:
            target.rmdir()  # a junction goes away like an empty folder
        except OSError:
            shutil.rmtree(target)  # refuses links and junctions


def _link_folder(source: Path, target: Path) -> None:
    try:
        from _winapi import CreateJunction
    except ImportError:
        shutil.copytree(source, target, ignore=_NOT_COPIED)
    else:
        CreateJunction(str(source), str(target))


def _link_file(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
