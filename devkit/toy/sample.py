"""Text to image with the small checkpoint: deterministic DDIM with guidance."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel

from ..say import say
from .captions import Meaning, caption
from .checkpoint import Models, load_checkpoint, scheduler
from .export import models_in_training
from .figures import FIGURES
from .grounds import GROUNDS
from .models import prediction_type
from .pool import STYLE_SHARES
from .poses import VERBS
from .styles import STYLES
from .tokens import tokenize
from .vae import decode

STEPS = 25
GUIDANCE = 3.0


@torch.no_grad()
def encode_text(text_encoder: CLIPTextModel, captions: list[str]) -> torch.Tensor:
    """Return the context (N, 77, 96) of captions; an empty caption is allowed."""
    tokens = torch.stack([tokenize(text) for text in captions])
    return text_encoder(tokens.to(text_encoder.device)).last_hidden_state


@torch.no_grad()
def sample_latents(
    unet: UNet2DConditionModel,
    context: torch.Tensor,
    empty: torch.Tensor,
    noise: torch.Tensor,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
) -> torch.Tensor:
    """Return latents (N, 4, 16, 16) from unit noise of that shape by DDIM.

    `context` (N, 77, 96) is the captions', `empty` (1, 77, 96) the empty caption's.
    """
    plan = scheduler(prediction_type(unet))
    plan.set_timesteps(steps, device=noise.device)
    both = torch.cat([empty.expand_as(context), context])
    latents = noise
    for timestep in plan.timesteps:
        output = unet(torch.cat([latents, latents]), timestep, both).sample
        without, with_text = output.chunk(2)
        output = without + guidance * (with_text - without)
        latents = plan.step(output, timestep, latents).prev_sample
    return latents


def text_to_image(
    models: Models,
    captions: list[str],
    seed: int,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
) -> torch.Tensor:
    """Return one picture per caption, float32 (N, 128, 128, 3) in 0..1."""
    generator = torch.Generator().manual_seed(seed)
    place = models.unet.device
    noise = torch.randn(len(captions), 4, 16, 16, generator=generator).to(place)
    context = encode_text(models.text_encoder, captions)
    empty = encode_text(models.text_encoder, [""])
    latents = sample_latents(models.unet, context, empty, noise, steps, guidance)
    return decode(models.vae, latents).add(1).div(2).permute(0, 2, 3, 1)


def prompts(count: int, seed: int) -> list[Meaning]:
    """Return `count` seeded compositions of one figure; figures, verbs and grounds are equally likely."""
    rng = np.random.default_rng(seed)
    return [
        Meaning(
            (str(rng.choice(FIGURES)),),
            str(rng.choice(VERBS)),
            str(rng.choice(GROUNDS)),
            str(rng.choice(STYLES, p=STYLE_SHARES)),
        )
        for _ in range(count)
    ]


def sheet(pictures: np.ndarray, columns: int = 8) -> np.ndarray:
    """Return pictures (N, H, W, 3) side by side, (rows * H, columns * W, 3); the last row may be filled up."""
    missing = -len(pictures) % columns
    filled = np.concatenate([pictures, np.repeat(255 * np.ones_like(pictures[:1]), missing, axis=0)])
    rows = [np.hstack(list(filled[start : start + columns])) for start in range(0, len(filled), columns)]
    return np.vstack(rows)


def write_png(pictures: np.ndarray, path: Path, columns: int = 8) -> None:
    """Write pictures, uint8 RGB (N, H, W, 3), side by side. Raises OSError if that fails."""
    if not cv2.imwrite(str(path), np.ascontiguousarray(sheet(pictures, columns)[..., ::-1])):
        raise OSError(f"cannot write {path}")


def main() -> None:
    """Write a sheet of seeded samples: ``python -m devkit.toy.sample --work DIR --out SHEET.png``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint, or else:")
    parser.add_argument("--work", type=Path, help="the folder of a training that may still run")
    parser.add_argument("--stage", default="base")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--seed", type=int, default=912)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    options = parser.parse_args()
    if options.checkpoint:
        models = load_checkpoint(options.checkpoint)
    else:
        models = models_in_training(options.work, options.stage)
    asked = prompts(options.count, options.seed)
    texts = [caption(*meaning) for meaning in asked]
    pictures = text_to_image(models, texts, options.seed, guidance=options.guidance)
    write_png(pictures.mul(255).round().byte().numpy(), options.out)
    for text in texts:
        say(text)


if __name__ == "__main__":
    main()
