"""Whole CLIP models as transformers saves them, in folders of models/clip_vision."""

import json
from pathlib import Path

import comfy.model_management
import folder_paths

from ...tav_core.metrics.clip_score import ClipScore


def clip_models() -> list[str]:
    """The names of the folders."""
    return sorted(_found())


def clip_score(name: str) -> ClipScore:
    """The CLIP score with one of `clip_models`, with room made for its weights. Raises ValueError if it is not one."""
    folder = _found().get(name)
    if folder is None:
        raise ValueError(f"There is no CLIP model {name!r:.90} in models/clip_vision.")
    device = comfy.model_management.text_encoder_device()
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    comfy.model_management.free_memory(1.5 * size, device)
    return ClipScore(folder, device)


def _found() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for root in folder_paths.get_folder_paths("clip_vision"):
        for config in Path(root).glob("*/config.json"):
            if _is_clip(config):
                found.setdefault(config.parent.name, config.parent)
    return found


def _is_clip(config: Path) -> bool:
    try:
        return json.loads(config.read_text(encoding="utf-8")).get("model_type") == "clip"
    except (OSError, ValueError, AttributeError):
        return False
