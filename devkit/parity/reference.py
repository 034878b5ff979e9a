"""A folder of reference numbers: what lies in it and in which layout."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from tav_core.diffusion.schedule import NoiseSchedule

FRESH, NEUTRAL, TUNED = "fresh", "fresh_zero_bias", "tuned"
_BIAS = ".attn_temp.to_out.0.bias"


def rows(video: Tensor) -> Tensor:
    """(batch, channels, frames, height, width) to frames on the batch axis, clip by clip."""
    return video.transpose(1, 2).flatten(0, 1)


class Reference:
    """Numbers computed with the official implementation; see the folder's own README for each tensor."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unet_config = {k: v for k, v in self.json("unet_config.json").items() if not k.startswith("_")}
        self.facts = self.json("facts.json")

    def json(self, name: str) -> dict:
        """A JSON file of the folder."""
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def tensors(self, name: str) -> dict[str, Tensor]:
        """A safetensors file of the folder, without its suffix."""
        return load_file(self.folder / f"{name}.safetensors")

    def has(self, name: str) -> bool:
        """Whether the folder holds this safetensors file."""
        return (self.folder / f"{name}.safetensors").is_file()

    def names(self, prefix: str) -> list[str]:
        """The safetensors files whose names start with `prefix`, without their suffix."""
        return sorted(path.stem for path in self.folder.glob(f"{prefix}*.safetensors"))

    @cached_property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule that the scheduler configuration describes."""
        config = self.json("scheduler_config.json")
        if (
            config.get("beta_schedule", "linear") != "scaled_linear"
            or config.get("trained_betas") is not None
        ):
            raise ValueError("scheduler_config.json: only the scaled_linear schedule is Stable Diffusion's")
        return NoiseSchedule.scaled_linear(
            config["beta_start"],
            config["beta_end"],
            config["num_train_timesteps"],
            config.get("prediction_type", self.facts.get("prediction_type", "epsilon")),
        )

    def weights(self, variant: str) -> dict[str, Tensor]:
        """All weights, image and temporal, of FRESH, NEUTRAL (fresh with a zero output bias) or TUNED."""
        if variant == TUNED:
            return self.tensors("unet3d")
        weights = self.tensors("unet2d") | self.tensors("temp_fresh")
        if variant == NEUTRAL:
            weights |= {name: torch.zeros_like(t) for name, t in weights.items() if name.endswith(_BIAS)}
        return weights


def split(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Image weights and temporal weights."""
    image = {name: tensor for name, tensor in weights.items() if "_temp." not in name}
    temporal = {name: tensor for name, tensor in weights.items() if "_temp." in name}
    return image, temporal
