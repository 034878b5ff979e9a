"""Text to image with the small checkpoint: deterministic DDIM with guidance."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel

from .checkpoint import Models, scheduler
from .models import prediction_type
from .tokens import tokenize
from .vae import decode

STEPS = 25
GUIDANCE = 2.5


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
