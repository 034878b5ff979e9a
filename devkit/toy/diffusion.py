"""Train the UNet and the text encoder together on captioned latents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import nn
from torch.nn import functional as F

from .checkpoint import Models
from .fast import speed_up
from .models import build_unet, prediction_type
from .schedule import alphas_cumprod
from .shards import Captioned
from .text import SmallVocabulary, disturb
from .training import Settings, averaged_weights, device, fit, half_precision

SETTINGS = Settings(
    steps=40_000, batch=32, lr=5e-4, lr_end=1.0, warmup=200, ema=0.999, seed=3, save_every=50, log_every=25
)
"""The long stage: a constant rate, so that it can end at any step or go on beyond."""

ANNEAL = Settings(steps=2500, batch=32, lr=6e-4, lr_end=0.01, warmup=1, ema=0.998, seed=5, save_every=100)
"""The last stage: the rate falls to nothing, which takes the remaining noise out of the weights."""

NOISY_WEIGHT = 1.0
"""How much more an error of the noise costs at noisy timesteps, where the composition is decided."""


def noise_loss(
    unet: UNet2DConditionModel,
    text: SmallVocabulary,
    data: Captioned,
    settings: Settings,
    residuals: Callable[..., dict] | None = None,
) -> Callable[[int], torch.Tensor]:
    """Return the loss of a step: the weighted squared error of the predicted noise or velocity.

    An error of the noise weighs min(1, 5 / SNR) plus `NOISY_WEIGHT` / sqrt(alpha_bar); a velocity's
    weighs min(5, SNR) / (SNR + 1) plus the same share of 1. `residuals(index, noisy, timesteps, context)`
    may give further arguments to the UNet, such as a ControlNet's.
    """
    alpha_bar = alphas_cumprod().to(device())
    velocity = prediction_type(unet) == "v_prediction"
    snr = alpha_bar / (1 - alpha_bar)
    if velocity:
        weights = snr.clamp(max=5) / (snr + 1) + NOISY_WEIGHT
    else:
        weights = (5 / snr).clamp(max=1) + NOISY_WEIGHT / alpha_bar.sqrt()
    weights = weights / weights.mean()

    def loss(step: int) -> torch.Tensor:
        rng = np.random.default_rng([settings.seed, step])
        index = torch.from_numpy(rng.integers(len(data.latents), size=settings.batch))
        tokens = disturb(data.tokens[index], rng).to(device())
        latents = data.latents[index].float().to(device())
        # One draw per stratum: the mix of timesteps is the same in every step.
        quantile = (np.arange(settings.batch) + rng.random(settings.batch)) / settings.batch
        timesteps = torch.from_numpy((1000 * quantile).astype(np.int64)).to(device())
        noise = torch.randn_like(latents)
        share = alpha_bar[timesteps].view(-1, 1, 1, 1)
        noisy = share.sqrt() * latents + (1 - share).sqrt() * noise
        with half_precision():
            context = text(tokens)
            more = residuals(index, noisy, timesteps, context) if residuals else {}
            output = unet(noisy, timesteps, context, **more).sample
        target = share.sqrt() * noise - (1 - share).sqrt() * latents if velocity else noise
        error = F.mse_loss(output.float(), target, reduction="none").mean(dim=(1, 2, 3))
        return (error * weights[timesteps]).mean()

    return loss


def train_base(
    data: Captioned, folder: Path, start: Models | None, settings: Settings = SETTINGS, workers: int = 1
) -> tuple[UNet2DConditionModel, SmallVocabulary]:
    """Train UNet and text encoder and return them with averaged weights.

    They begin with the weights of `start`, if given, and take its networks; the words' embeddings
    begin anew in any case.
    """
    torch.manual_seed(settings.seed)
    unet = ready(start.unet if start else build_unet())
    text = SmallVocabulary(start.text_encoder if start else None, new_words=True).to(device()).train()
    loss = noise_loss(unet, text, data, settings)
    fit("base", named(unet, text), loss, settings, folder, text_learns_faster, workers)
    return unet.eval(), text.eval()


def anneal_base(
    data: Captioned, folder: Path, settings: Settings = ANNEAL, workers: int = 1
) -> tuple[UNet2DConditionModel, SmallVocabulary]:
    """Train on from what `train_base` has left so far, at a rate that falls to nothing."""
    unet, text = averaged_base("base", folder)
    unet, text = ready(unet), text.to(device()).train()
    loss = noise_loss(unet, text, data, settings)
    fit("anneal", named(unet, text), loss, settings, folder, text_learns_faster, workers)
    return unet.eval(), text.eval()


def averaged_base(stage: str, folder: Path) -> tuple[UNet2DConditionModel, SmallVocabulary]:
    """Return the averaged networks of a stage's latest saved state, finished or not, on the CPU."""
    unet, text = build_unet(), SmallVocabulary()
    weights = averaged_weights(stage, folder)
    with torch.no_grad():
        for key, value in named(unet, text).items():
            value.copy_(weights[key])
    return unet.eval(), text.eval()


def ready(model: nn.Module) -> nn.Module:
    """Return a diffusers model on the training device, in the form that is quickest there."""
    if device().type == "cpu":
        return speed_up(model).train()
    return model.to(device(), memory_format=torch.channels_last).train()


def named(unet: UNet2DConditionModel, text: SmallVocabulary) -> dict[str, nn.Parameter]:
    """Return the parameters of both networks under one set of names."""
    parameters = {f"unet.{key}": value for key, value in unet.named_parameters()}
    for key, value in text.named_parameters():
        parameters[f"text.{key}"] = value
    return parameters


def text_learns_faster(name: str) -> float:
    """Return the factor on the learning rate of a parameter."""
    return 2.0 if name.startswith("text.") else 1.0
