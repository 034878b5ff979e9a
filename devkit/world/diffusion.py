"""Train the UNet and the text encoder together on cached latents."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextModel

from .data import to_tensor
from .fast import speed_up
from .models import CONTEXT, EOS_TOKEN, TOKENS, build_text_encoder, build_unet, prediction_type
from .schedule import alphas_cumprod
from .tokens import USED, tokenize
from .training import Settings, device, fit, half_precision
from .vae import encode

SETTINGS = Settings(
    steps=7000, batch=32, lr=8e-4, warmup=300, ema=0.999, seed=3, save_every=250, log_every=50
)
REFINE = Settings(steps=6500, batch=32, lr=6e-4, warmup=200, ema=0.999, seed=5, save_every=250, log_every=50)
EMPTY_SHARE = 0.1
"""Share of captions left empty, for classifier-free guidance."""

STRANGE_SHARE = 0.15
"""Share of captions into which a word from outside the world is put."""


class SmallVocabulary(nn.Module):
    """The text encoder in training, with embeddings only for the world's own tokens.

    The last embedding stands for every other token of CLIP's vocabulary.
    """

    def __init__(self, encoder: CLIPTextModel | None = None) -> None:
        super().__init__()
        self.encoder = encoder or build_text_encoder()
        table = nn.Embedding(len(USED) + 1, CONTEXT)
        full = self.encoder.get_input_embeddings().weight.data
        if encoder is None:
            # Orthogonal words are apart from the first step on.
            nn.init.orthogonal_(table.weight, gain=CONTEXT**0.5 * 0.5)
        else:
            table.weight.data[:-1] = full[list(USED)]
            table.weight.data[-1] = full[0]
        self.encoder.set_input_embeddings(table)
        rows = torch.full((len(full),), len(USED))
        rows[list(USED)] = torch.arange(len(USED))
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the context (N, 77, 96) of CLIP tokens (N, 77)."""
        return self.encoder(self.rows[tokens]).last_hidden_state

    def full(self) -> CLIPTextModel:
        """Return a text encoder over CLIP's whole vocabulary with the same outputs."""
        whole = build_text_encoder()
        table = self.encoder.get_input_embeddings().weight.detach()[self.rows]
        weights = {
            key: value
            for key, value in self.encoder.state_dict().items()
            if not key.endswith("token_embedding.weight")
        }
        whole.load_state_dict(weights, strict=False)
        whole.get_input_embeddings().weight.data.copy_(table)
        return whole.eval()


@dataclass
class Captioned:
    """Latents float16 (N, 4, 16, 16) and the tokens int64 (N, 77) of their captions."""

    latents: torch.Tensor
    tokens: torch.Tensor


def cache_latents(vae: AutoencoderTiny, images: np.ndarray, path: Path) -> torch.Tensor:
    """Return the latents of pictures (see `latents_of`), computed once and kept at `path`."""
    if not path.exists():
        temporary = path.with_suffix(".part.npy")
        np.save(temporary, latents_of(vae, images).numpy())
        os.replace(temporary, path)
    return torch.from_numpy(np.load(path))


def latents_of(vae: AutoencoderTiny, images: np.ndarray) -> torch.Tensor:
    """Return the latents, float16 (N, 4, 16, 16), of pictures uint8 (N, 128, 128, 3)."""
    vae = vae.to(device(), memory_format=torch.channels_last)
    parts = []
    for start in range(0, len(images), 64):
        batch = to_tensor(images[start : start + 64]).to(device())
        parts.append(encode(vae, batch).half().cpu())
    return torch.cat(parts)


def noise_loss(
    unet: UNet2DConditionModel,
    text: SmallVocabulary,
    data: Captioned,
    settings: Settings,
    residuals: Callable[..., dict] | None = None,
) -> Callable[[int], torch.Tensor]:
    """Return the loss of a step: the weighted squared error of the predicted noise or velocity.

    Noisy timesteps, where the composition is decided, are drawn more often. There an error of
    the noise also weighs more (by 1 / sqrt(alpha_bar)); a velocity's does by what it is.
    `residuals(index, noisy, timesteps, context)` may give further
    arguments to the UNet, such as a ControlNet's.
    """
    alpha_bar = alphas_cumprod().to(device())
    velocity = prediction_type(unet) == "v_prediction"

    def loss(step: int) -> torch.Tensor:
        rng = np.random.default_rng([settings.seed, step])
        index = torch.from_numpy(rng.integers(len(data.latents), size=settings.batch))
        tokens = disturb(data.tokens[index], rng).to(device())
        latents = data.latents[index].float().to(device())
        # One draw per stratum: the mix of timesteps is the same in every step.
        quantile = (np.arange(settings.batch) + rng.random(settings.batch)) / settings.batch
        timesteps = torch.from_numpy((1000 * quantile**0.7).astype(np.int64)).to(device())
        noise = torch.randn_like(latents)
        share = alpha_bar[timesteps].view(-1, 1, 1, 1)
        noisy = share.sqrt() * latents + (1 - share).sqrt() * noise
        with half_precision():
            context = text(tokens)
            more = residuals(index, noisy, timesteps, context) if residuals else {}
            output = unet(noisy, timesteps, context, **more).sample
        target = share.sqrt() * noise - (1 - share).sqrt() * latents if velocity else noise
        error = F.mse_loss(output.float(), target, reduction="none").mean(dim=(1, 2, 3))
        return (error if velocity else error / share.flatten().sqrt()).mean()

    return loss


def train_base(
    data: Captioned, folder: Path, settings: Settings = SETTINGS, workers: int = 1
) -> tuple[UNet2DConditionModel, SmallVocabulary]:
    """Train UNet and text encoder from scratch and return them with averaged weights."""
    torch.manual_seed(settings.seed)
    unet = ready(build_unet())
    text = SmallVocabulary().to(device()).train()
    parameters = named(unet, text)
    loss = noise_loss(unet, text, data, settings)
    fit("base", parameters, loss, settings, folder, text_learns_faster, workers)
    return unet.eval(), text.eval()


def refine_base(
    data: Captioned,
    weights: dict[str, torch.Tensor],
    folder: Path,
    settings: Settings = REFINE,
    workers: int = 1,
) -> tuple[UNet2DConditionModel, SmallVocabulary]:
    """Train UNet and text encoder on from `weights`, those that `train_base` left."""
    unet = ready(build_unet())
    text = SmallVocabulary().to(device()).train()
    parameters = named(unet, text)
    with torch.no_grad():
        for key, value in parameters.items():
            value.copy_(weights[key])
    loss = noise_loss(unet, text, data, settings)
    fit("refine", parameters, loss, settings, folder, text_learns_faster, workers)
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


def captions_tokens(captions: list[str]) -> torch.Tensor:
    """Return the tokens int64 (N, 77) of captions, each distinct one tokenised once."""
    distinct = {text: tokenize(text) for text in set(captions)}
    return torch.stack([distinct[text] for text in captions])


def disturb(tokens: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Empty some of the captions and put an unknown word into others."""
    tokens = tokens.clone()
    for row in tokens:
        draw = rng.random()
        if draw < EMPTY_SHARE:
            row[1:] = EOS_TOKEN
        elif draw < EMPTY_SHARE + STRANGE_SHARE:
            length = int((row != EOS_TOKEN).sum())
            place = int(rng.integers(1, length + 1))
            row[place + 1 :] = row[place : TOKENS - 1].clone()
            row[place] = 0
    return tokens
