"""The TAESD-format autoencoder: 128x128 pictures to 4x16x16 latents of unit variance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny

from .compose import Scene
from .data import pictures, to_tensor
from .models import build_vae
from .training import Settings, device, fit, half_precision

SETTINGS = Settings(steps=1600, batch=16, lr=1e-3, seed=1, ema=0.995)
DECODER_SETTINGS = Settings(steps=2400, batch=16, lr=5e-4, seed=6, ema=0.99)
DECODER_STYLES = {"plain": 2, "sketch": 2, "pixel art": 3}
"""How often the decoder's own stage shows a picture of each style."""

GRID = 8
"""Pixels of a latent's side. Pixel art's blocks lie on this grid."""

CROP = 64
"""Side of the squares cut from the pictures for training, in pixels."""

LATENT_NOISE = 0.05
"""Noise added to the latents in training: the decoder has to bear a sampler's errors."""


def train_vae(
    pool: list[Scene], pictures_path: Path, folder: Path, settings: Settings = SETTINGS
) -> AutoencoderTiny:
    """Train encoder and decoder together on square cuts of the pool's pictures."""
    torch.manual_seed(settings.seed)
    model = build_vae().to(device(), memory_format=torch.channels_last).train()
    images = pictures(pool, pictures_path)

    def loss(step: int) -> torch.Tensor:
        target = _batch(images, pool, settings, step)
        with half_precision():
            latents = model.encoder(target).float()
            output = model.decoder(_noisy(latents)).float()
        return _distance(output, target) + 0.02 * _unlike_noise(latents)

    fit("vae", dict(model.named_parameters()), loss, settings, folder)
    return model.eval()


def train_decoder(
    model: AutoencoderTiny,
    pool: list[Scene],
    pictures_path: Path,
    folder: Path,
    settings: Settings = DECODER_SETTINGS,
    workers: int = 1,
) -> AutoencoderTiny:
    """Train the decoder on; the encoder, on which a UNet's latents rest, stays as it is."""
    model.train()
    images = pictures(pool, pictures_path)
    rows = np.repeat(np.arange(len(pool)), [DECODER_STYLES[scene.style] for scene in pool])

    def loss(step: int) -> torch.Tensor:
        rng = np.random.default_rng([settings.seed, step])
        chosen = rng.choice(rows, settings.batch)
        target = to_tensor(_cuts(images, pool, rng, chosen, GRID)).to(device())
        with half_precision():
            output = model.decoder(_noisy(encode(model, target))).float()
        return _distance(output, target) + 0.1 * _edge_distance(output, target)

    parameters = {key: value for key, value in model.named_parameters() if key.startswith("decoder.")}
    fit("decoder", parameters, loss, settings, folder, workers=workers)
    return model.eval()


@torch.no_grad()
def encode(model: AutoencoderTiny, images: torch.Tensor) -> torch.Tensor:
    """Return the latents (N, 4, H/8, W/8), unit variance, of pictures (N, 3, H, W) in -1..1."""
    with half_precision():
        return model.encoder(images).float()


@torch.no_grad()
def decode(model: AutoencoderTiny, latents: torch.Tensor) -> torch.Tensor:
    """Return the pictures (N, 3, H, W) in -1..1 of latents (N, 4, H/8, W/8)."""
    return model.decoder(latents).float().clamp(-1, 1)


@torch.no_grad()
def reconstruction_psnr(model: AutoencoderTiny, images: torch.Tensor) -> torch.Tensor:
    """Return the PSNR in dB (N,) of each picture (N, 3, H, W) in -1..1 after a round trip."""
    output = decode(model, model.encoder(images))
    error = (output - images).div(2).square().mean(dim=(1, 2, 3))
    return -10 * error.log10()


def _batch(images: np.ndarray, pool: list[Scene], settings: Settings, step: int) -> torch.Tensor:
    rng = np.random.default_rng([settings.seed, step])
    chosen = rng.integers(len(pool), size=settings.batch)
    return to_tensor(_cuts(images, pool, rng, chosen)).to(device())


def _noisy(latents: torch.Tensor) -> torch.Tensor:
    return latents + LATENT_NOISE * torch.randn_like(latents)


def _distance(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    error = output - target
    return error.square().mean() + 0.1 * error.abs().mean()


def _edge_distance(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return how far the differences of neighbouring pixels are off: blurred edges cost."""
    error = output - target
    return error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()


def _unlike_noise(latents: torch.Tensor) -> torch.Tensor:
    """Return how far the latents' mean and channel covariance are from white noise's."""
    flat = latents.transpose(0, 1).flatten(1)
    mean = flat.mean(dim=1)
    centred = flat - mean[:, None]
    covariance = centred @ centred.T / flat.shape[1]
    identity = torch.eye(len(mean), device=latents.device)
    return mean.square().mean() + (covariance - identity).square().mean()


def _cuts(
    images: np.ndarray, pool: list[Scene], rng: np.random.Generator, rows: np.ndarray, grid: int = 1
) -> np.ndarray:
    """Cut a square from each chosen picture, most of them around a sprite: there the detail is.

    The squares' corners are multiples of `grid`.
    """
    side = images.shape[1]
    out = np.empty((len(rows), CROP, CROP, 3), np.uint8)
    for index, chosen in enumerate(rows):
        corner = rng.uniform(0, side - CROP, 2)
        if rng.random() < 0.7:
            sprite = pool[chosen].sprites[0]
            corner = np.array(sprite.centre) - CROP / 2 + rng.uniform(-24, 24, 2)
        left, top = np.clip(corner, 0, side - CROP).astype(int) // grid * grid
        out[index] = images[chosen, top : top + CROP, left : left + CROP]
    return out
