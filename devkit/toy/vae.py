"""The TAESD-format autoencoder: 128x128 pictures to 4x16x16 latents of unit variance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny

from .figures import NEW_FIGURE
from .pool import pictures, scenes, to_tensor
from .scene import Scene
from .styles import NEW_STYLE
from .training import Settings, device, fit, half_precision

# Without norms the networks bear no high rate: 3e-4 and more lost what they had learned before.
SETTINGS = Settings(steps=10_000, batch=8, lr=3.5e-4, clip=0.5, seed=1, ema=0.99, warmup=40, save_every=100)
DECODER_SETTINGS = Settings(steps=2000, batch=16, lr=2e-4, seed=6, ema=0.995, warmup=100, save_every=50)

CROP = 64
"""Side of the squares cut from the pictures for training, in pixels."""

LATENT_NOISE = 0.05
"""Noise added to the latents in training: the decoder has to bear a sampler's errors."""

POOL, POOL_SEED = 3000, 200


def pool() -> list[Scene]:
    """Return the scenes that the autoencoder learns from: also those that only the variants know."""
    few = POOL // 12
    new = scenes(few, POOL_SEED + 1, figure=NEW_FIGURE) + scenes(few, POOL_SEED + 2, style=NEW_STYLE)
    return scenes(POOL - len(new), POOL_SEED) + new


def train_vae(
    model: AutoencoderTiny,
    folder: Path,
    settings: Settings = SETTINGS,
    workers: int = 1,
) -> AutoencoderTiny:
    """Train encoder and decoder together, from the model's weights on, and return the model."""
    return _train(model, "vae", dict(model.named_parameters()), folder, settings, workers)


def train_decoder(
    model: AutoencoderTiny,
    folder: Path,
    settings: Settings = DECODER_SETTINGS,
    workers: int = 1,
) -> AutoencoderTiny:
    """Train the decoder on; the encoder, on which a UNet's latents rest, stays as it is."""
    model.encoder.requires_grad_(False)
    parameters = {key: value for key, value in model.named_parameters() if key.startswith("decoder.")}
    return _train(model, "decoder", parameters, folder, settings, workers)


def _train(
    model: AutoencoderTiny,
    name: str,
    parameters: dict[str, torch.nn.Parameter],
    folder: Path,
    settings: Settings,
    workers: int,
) -> AutoencoderTiny:
    torch.manual_seed(settings.seed)
    model = model.to(device(), memory_format=torch.channels_last).train()
    known = pool()
    images = pictures(known, folder / "vae-pictures.npy")

    def loss(step: int) -> torch.Tensor:
        rng = np.random.default_rng([settings.seed, step])
        chosen = rng.integers(len(known), size=settings.batch)
        target = to_tensor(_cuts(images, known, rng, chosen)).to(device())
        with half_precision():
            latents = model.encoder(target).float()
            output = model.decoder(latents + LATENT_NOISE * torch.randn_like(latents)).float()
        total = _distance(output, target)
        return total + 0.02 * _unlike_noise(latents) if latents.requires_grad else total

    fit(name, parameters, loss, settings, folder, workers=workers)
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


def _distance(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return squared and absolute error, and how far neighbours' differences are off: blur costs."""
    error = output - target
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return error.square().mean() + 0.1 * error.abs().mean() + 0.05 * edges


def _unlike_noise(latents: torch.Tensor) -> torch.Tensor:
    """Return how far the latents' mean and channel covariance are from white noise's."""
    flat = latents.transpose(0, 1).flatten(1)
    mean = flat.mean(dim=1)
    centred = flat - mean[:, None]
    covariance = centred @ centred.T / flat.shape[1]
    identity = torch.eye(len(mean), device=latents.device)
    return mean.square().mean() + (covariance - identity).square().mean()


def _cuts(images: np.ndarray, known: list[Scene], rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    """Cut a square from each chosen picture, most of them around a figure: there the detail is."""
    side = images.shape[1]
    out = np.empty((len(rows), CROP, CROP, 3), np.uint8)
    for index, row in enumerate(rows):
        corner = rng.uniform(0, side - CROP, 2)
        if rng.random() < 0.75:
            scene = known[row]
            figure = scene.figures[rng.integers(len(scene.figures))]
            middle = scene.camera.place()(complex(figure.x, figure.y - 50 * figure.size))
            corner = np.array([middle.real, middle.imag]) - CROP / 2 + rng.uniform(-32, 32, 2)
        left, top = np.clip(corner, 0, side - CROP).astype(int)
        cut = images[row, top : top + CROP, left : left + CROP]
        out[index] = cut[:, ::-1] if rng.random() < 0.5 else cut
    return out
