"""Folders in models/tune_a_video that the official code may have saved."""

import os
from pathlib import Path

import folder_paths

from ...tav_core.files.official import weights_file
from ...tav_core.files.weights import WeightsError
from .files import FOLDER


def official_folders() -> list[str]:
    """The folders by their path inside models/tune_a_video."""
    return sorted(_found())


def official_folder(name: str) -> Path:
    """Where one of `official_folders` is. Raises WeightsError if it is not one."""
    if name not in (found := _found()):
        raise WeightsError(
            f"There is no official Tune-A-Video folder named {name!r:.90} in models/{FOLDER}; "
            "copy one there, with its unet folder inside."
        )
    return found[name]


def _found() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for root in folder_paths.get_folder_paths(FOLDER):
        for folder, inner, _ in os.walk(root, followlinks=True):
            relative = Path(folder).relative_to(root)
            if relative.parts and _has_weights(Path(folder)):
                inner.clear()
                found.setdefault(relative.as_posix(), Path(folder))
    return found


def _has_weights(folder: Path) -> bool:
    try:
        weights_file(folder)
    except WeightsError:
        return False
    return True
