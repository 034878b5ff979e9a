"""The small Stable Diffusion of the closed world, ready for the method."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from devkit.world.checkpoint import load_checkpoint
from devkit.world.sample import encode_text
from tav_core.diffusion.schedule import NoiseSchedule
from tav_core.pipeline.unet import DiffusersHost


class Model:
    """UNet, text encoder and autoencoder of a checkpoint file. Frames are (F, H, W, 3) in 0..1 on the CPU."""

    def __init__(self, path: Path, device: torch.device) -> None:
        models = load_checkpoint(path)
        self.device = device
        self.text_encoder = models.text_encoder.to(device)
        self.vae = models.vae.to(device)
        self.host = DiffusersHost(models.unet.to(device), NoiseSchedule.scaled_linear())
        self.embed = cache(self._embed)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Clean latents (F, 4, H/8, W/8)."""
        return self.vae.encoder(frames.to(self.device).permute(0, 3, 1, 2) * 2 - 1)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """The frames of latents."""
        pictures = self.vae.decoder(latents.to(self.device)).clamp(-1, 1)
        return (pictures.permute(0, 2, 3, 1) / 2 + 0.5).cpu()

    def _embed(self, prompt: str) -> Tensor:
        """The embedding (1, 77, width) of a sentence."""
        return encode_text(self.text_encoder, [prompt])


def as_frames(pictures: np.ndarray) -> Tensor:
    """uint8 (F, H, W, 3) as frames in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).float() / 255
