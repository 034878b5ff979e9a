"""Files that are whole or not there."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file beside ``path`` and moves it there in one go. Raises OSError if it cannot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        temporary.touch()
        # The mode of any new file here; the library would make it its writer's alone.
        mode = temporary.stat().st_mode
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            temporary,
            metadata=dict(metadata),
        )
        temporary.chmod(mode)
        os.replace(temporary, path)
    except SafetensorError as error:  # what a full disk raises
        raise OSError(f"{path.name} could not be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def save_text(path: Path, text: str) -> None:
    """Writes a text file beside ``path`` and moves it there in one go. Raises OSError if it cannot."""
    temporary = _beside(path)
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.parent / f".tav-{secrets.token_hex(8)}.tmp"
