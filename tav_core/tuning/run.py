"""The state of a tuning run that was stopped, on disk, for the same run to go on from."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .. import __version__
from ..atomic import save_tensors
from ..inflation.attach import InflationMode
from .settings import TuningSettings

# What changes the cost of a run but not its result.
_IRRELEVANT = ("gradient_checkpointing",)
# Settings that came later count only where they do something: runs of before keep their fingerprint.
_LATER = {"frames_per_step": 0, "timesteps": "random", "temporal_lr_scale": 1.0}


def run_fingerprint(
    weights: Mapping[str, Tensor],
    latents: Tensor,
    context: Tensor,
    settings: TuningSettings,
    mode: InflationMode,
) -> str:
    """32 hex digits over everything that shapes a tuning run's result.

    ``weights`` is the UNet's state dict with LoRAs merged; ``latents`` and ``context`` are what `Tuner` gets. The
    program's version counts as well.
    """
    digest = hashlib.sha256()
    shaping = {k: v for k, v in dataclasses.asdict(settings).items() if k not in _IRRELEVANT}
    shaping = {k: v for k, v in shaping.items() if k not in _LATER or v != _LATER[k]}
    digest.update(json.dumps([__version__, shaping, dataclasses.asdict(mode)], sort_keys=True).encode())
    for name, tensor in sorted({**weights, "latents": latents, "context": context}.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def save_unfinished(path: Path, state: Mapping[str, Tensor], run: str) -> None:
    """Writes a tuner's state for the run ``run``. Raises OSError if it cannot."""
    save_tensors(path, state, {"run": run})


def load_unfinished(path: Path, run: str) -> dict[str, Tensor] | None:
    """The state of `save_unfinished`; None if there is none, it is damaged, or is another run's."""
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            if (file.metadata() or {}).get("run") != run:
                return None
            return {name: file.get_tensor(name).clone() for name in file.keys()}
    except (OSError, SafetensorError):
        return None
