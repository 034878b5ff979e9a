"""The LoRA: low-rank changes of the UNet that teach it a style which no caption names."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import nn
from torch.func import functional_call

from .checkpoint import Models
from .diffusion import noise_loss
from .pool import scenes
from .styles import NEW_STYLE
from .training import Settings, device, fit
from .variants import POOL, captioned, save, trainable

SETTINGS = Settings(steps=600, batch=24, lr=2e-3, warmup=30, ema=0.99, seed=12)

RANK = 8
"""Rank of the LoRA."""


def train_lora(models: Models, folder: Path, out: Path, settings: Settings = SETTINGS) -> None:
    """Teach a LoRA the new style and write it with kohya's keys (as core's LoraLoader reads)."""
    data = captioned(models, scenes(POOL, settings.seed, style=NEW_STYLE, pair_share=0))
    unet, text = trainable(models)
    lora = Lora(unet).to(device())
    text.requires_grad_(False)
    unet.requires_grad_(False)
    loss = noise_loss(lora.around(unet), text, data, settings)
    fit("lora", dict(lora.named_parameters()), loss, settings, folder)
    save(lora.kohya(), out)


class Lora(nn.Module):
    """Low-rank changes of all linear layers and convolutions within a UNet's blocks."""

    def __init__(self, unet: UNet2DConditionModel, rank: int = RANK) -> None:
        super().__init__()
        self.rank = rank
        self.names = [
            name
            for name, module in unet.named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d)
            and (".attentions." in name or name.endswith(("conv1", "conv2")))
        ]
        self.down, self.up = nn.ParameterList(), nn.ParameterList()
        for name in self.names:
            weight = unet.get_submodule(name).weight
            down = torch.randn(rank, *weight.shape[1:]) * weight[0].numel() ** -0.5
            self.down.append(nn.Parameter(down))
            self.up.append(nn.Parameter(torch.zeros(len(weight), rank)))

    def around(self, unet: UNet2DConditionModel) -> nn.Module:
        """Return the UNet with these changes, trainable through them."""
        return _Changed(unet, self)

    def changes(self) -> dict[str, torch.Tensor]:
        """Return what is added to each weight, by the weight's name in the UNet."""
        pairs = zip(self.names, self.up, self.down, strict=True)
        return {
            f"{name}.weight": (up @ down.flatten(1)).view(len(up), *down.shape[1:])
            for name, up, down in pairs
        }

    def kohya(self) -> dict[str, torch.Tensor]:
        """Return the weights under the keys of kohya's scripts, scaled by alpha / rank = 1."""
        weights = {}
        for name, up, down in zip(self.names, self.up, self.down, strict=True):
            prefix = "lora_unet_" + name.replace(".", "_")
            ones = (1,) * (down.ndim - 2)
            weights[prefix + ".lora_up.weight"] = up.detach().reshape(*up.shape, *ones)
            weights[prefix + ".lora_down.weight"] = down.detach()
            weights[prefix + ".alpha"] = torch.tensor(float(self.rank))
        return weights


def apply_lora(unet: UNet2DConditionModel, path: str | os.PathLike, strength: float = 1.0) -> None:
    """Add a LoRA that `train_lora` wrote to the UNet's weights, in place."""
    weights = load_file(path)
    for name, module in unet.named_modules():
        prefix = "lora_unet_" + name.replace(".", "_")
        if prefix + ".lora_up.weight" in weights:
            up = weights[prefix + ".lora_up.weight"].float().flatten(1)
            down = weights[prefix + ".lora_down.weight"].float()
            change = (up @ down.flatten(1)).view(module.weight.shape)
            module.weight.data += strength * change.to(module.weight)


class _Changed(nn.Module):
    def __init__(self, unet: UNet2DConditionModel, lora: Lora) -> None:
        super().__init__()
        self.unet, self.lora = unet, lora
        self.config = unet.config

    def forward(self, *args: torch.Tensor, **more: torch.Tensor):
        weights = dict(self.unet.named_parameters())
        changed = {key: weights[key] + value for key, value in self.lora.changes().items()}
        return functional_call(self.unet, changed, args, more)
