"""A classifier of the toy dataset: who does what, in which look, where, and where the joints are."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from .canvas import SIDE
from .figures import FIGURES, LOOKS
from .grounds import GROUNDS
from .poses import VERBS
from .skeleton import JOINTS
from .styles import STYLES

SLOTS = 2
"""Figures told apart in one picture; the first slot is the one further left, by its hip."""

CELL = 4
"""Side of one cell of the joints' maps, in pixels."""

_WIDE = 96
_NAMES = {"figure": len(FIGURES), "look": LOOKS, "verb": len(VERBS), "facing": 2}


@dataclass(frozen=True)
class Reading:
    """What a classifier says of N pictures.

    `there` float (N, 2) is each slot's probability of holding a figure. `figure`, `look`, `verb` and
    `facing` (0 left, 1 right) are dictionaries' entries in `slots`: logits (N, 2, classes).
    `joints` is float (N, 2, 11, 2), (x, y) in pixels of a 128x128 picture. `ground` and `style` are
    logits (N, classes).
    """

    there: torch.Tensor
    slots: dict[str, torch.Tensor]
    joints: torch.Tensor
    ground: torch.Tensor
    style: torch.Tensor

    def best(self, name: str) -> torch.Tensor:
        """Return the likeliest classes: (N, 2) of a slot's name, (N,) of "ground" or "style"."""
        logits = self.slots[name] if name in self.slots else getattr(self, name)
        return logits.argmax(dim=-1)


class Classifier(nn.Module):
    """Reads frames, float (N, H, W, 3) in 0..1, of any size; see `Reading`."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(*_layer(3, 32, stride=2), *_layer(32, 64, stride=2), *_layer(64, 64))
        self.coarse = nn.Sequential(
            *_layer(64, 128, stride=2),
            *_layer(128, 128),
            *_layer(128, 128, dilation=2),
            *_layer(128, 128, dilation=4),
            *_layer(128, _WIDE),
        )
        self.join = nn.Sequential(*_layer(64 + _WIDE, _WIDE), *_layer(_WIDE, _WIDE))
        self.maps = nn.Conv2d(_WIDE, SLOTS * len(JOINTS), 1)
        self.mix = nn.Sequential(nn.Linear(_WIDE * (len(JOINTS) + 1), 256), nn.SiLU())
        self.heads = nn.ModuleDict({name: nn.Linear(256, count) for name, count in _NAMES.items()})
        self.there = nn.Linear(256, 1)
        self.ground = nn.Linear(_WIDE, len(GROUNDS))
        self.style = nn.Linear(_WIDE, len(STYLES))

    @torch.no_grad()
    def forward(self, frames: torch.Tensor) -> Reading:
        """Read frames. Raises ValueError if they have another shape."""
        if frames.ndim != 4 or frames.shape[-1] != 3:
            raise ValueError(f"frames must be (N, H, W, 3), not {tuple(frames.shape)}")
        images = frames.to(self.style.weight).permute(0, 3, 1, 2)
        if images.shape[-2:] != (SIDE, SIDE):
            images = F.interpolate(images, (SIDE, SIDE), mode="area")
        parts = [self.read(part) for part in images.split(32)]
        slots = {name: torch.cat([part.slots[name] for part in parts]) for name in _NAMES}
        rest = [torch.cat([getattr(part, name) for part in parts]) for name in ("joints", "ground", "style")]
        return Reading(torch.cat([part.there for part in parts]).sigmoid(), slots, *rest)

    def read(self, images: torch.Tensor) -> Reading:
        """Read (N, 3, 128, 128) in 0..1 with gradients; `there` holds logits here."""
        fine = self.fine(images * 2 - 1)
        coarse = F.interpolate(self.coarse(fine), scale_factor=2, mode="bilinear")
        features = self.join(torch.cat([fine, coarse], dim=1)).float()
        maps = self.maps(features).flatten(2).softmax(dim=2)
        side = features.shape[-1]
        weights = maps.view(len(maps), SLOTS, len(JOINTS), side, side)
        grid = (torch.arange(side, device=maps.device) + 0.5) * CELL
        joints = torch.stack([(weights.sum(3) * grid).sum(3), (weights.sum(4) * grid).sum(3)], dim=3)
        # What is seen around each joint tells who it is, in which look.
        seen = (maps @ features.flatten(2).transpose(1, 2)).view(len(maps), SLOTS, -1)
        pooled = features.mean(dim=(2, 3))
        mixed = self.mix(torch.cat([seen, pooled[:, None].expand(-1, SLOTS, -1)], dim=2))
        slots = {name: head(mixed) for name, head in self.heads.items()}
        there = self.there(mixed).squeeze(2)
        return Reading(there, slots, joints, self.ground(pooled), self.style(pooled))


def load_classifier(path: str | os.PathLike) -> Classifier:
    """Return the trained classifier, float32, in evaluation mode."""
    model = Classifier()
    model.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    return model.eval().requires_grad_(False)


def save_classifier(model: Classifier, path: str | os.PathLike) -> None:
    """Write the classifier's weights as float16."""
    save_file({key: value.half().contiguous() for key, value in model.state_dict().items()}, path)


def _layer(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False),
        nn.GroupNorm(8, outputs),
        nn.SiLU(),
    )
