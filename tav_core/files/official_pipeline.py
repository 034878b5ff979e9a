"""What lies around the UNet in a folder of the official code: a diffusers pipeline's other parts."""

import json
import shutil
from pathlib import Path

from ..atomic import save_text
from .weights import TunedMetadata, WeightsError

_PARTS = ("vae", "text_encoder", "tokenizer", "scheduler")


def prediction_type(pipeline: Path) -> str:
    """What the scheduler of the folder ``pipeline`` says the network predicts; noise where it does not say."""
    try:
        config = json.loads((pipeline / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return TunedMetadata.prediction_type
    known = config if isinstance(config, dict) else {}
    return str(known.get("prediction_type", TunedMetadata.prediction_type))


def pipeline_index(pipeline: Path) -> dict:
    """The parts of the folder ``pipeline`` by name. Raises WeightsError if it is no diffusers folder."""
    try:
        index = json.loads((pipeline / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        index = None
    if not isinstance(index, dict):
        raise WeightsError(f"{pipeline.name}: it is no diffusers folder with a model_index.json")
    return index


def copy_pipeline(source: Path, index: dict, folder: Path) -> None:
    """Copies ``source`` but for its UNet to ``folder``, as a pipeline of the official code. Raises OSError.

    ``index`` is the source's `pipeline_index`.
    """
    for part in _PARTS:
        if (source / part).is_dir():
            shutil.copytree(source / part, folder / part, dirs_exist_ok=True)
    ours: dict[str, object] = {"_class_name": "TuneAVideoPipeline", "_diffusers_version": "0.11.1"}
    ours |= {part: index[part] for part in _PARTS if part in index}
    ours |= {"unet": ["models", "UNet3DConditionModel"]}
    save_text(folder / "model_index.json", json.dumps(ours, indent=2) + "\n")
