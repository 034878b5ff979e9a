"""Fine-tuned companions of the base checkpoint: DreamBooth, LoRA, ControlNet and SD 2.x's layout."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn
from torch.func import functional_call

from .checkpoint import UNET_PREFIX, Models, from_sd_layout, to_sd_layout, unet_key
from .compose import Scene, compose
from .data import rendered, scenes
from .diffusion import (
    Captioned,
    SmallVocabulary,
    captions_tokens,
    latents_of,
    named,
    noise_loss,
    ready,
)
from .models import build_unet
from .training import Settings, device, fit
from .vocabulary import NEW_OBJECT, NEW_STYLE, NEW_WORD, caption

DREAMBOOTH = Settings(steps=500, batch=24, lr=3e-4, warmup=30, ema=0.99, seed=11)
LORA = Settings(steps=600, batch=24, lr=2e-3, warmup=30, ema=0.99, seed=12)
CONTROLNET = Settings(steps=900, batch=24, lr=5e-4, warmup=30, ema=0.99, seed=13)
SECOND = Settings(steps=600, batch=16, lr=6e-4, warmup=30, ema=0.99, seed=14, save_every=40, log_every=20)

RANK = 8
"""Rank of the LoRA."""

POOL = 1500
"""Pictures that each variant learns from."""


def train_dreambooth(models: Models, folder: Path, out: Path, settings: Settings = DREAMBOOTH) -> None:
    """Teach the checkpoint a new sprite under a new word and write the changed tensors.

    Half of the pictures show the new sprite, half the old world: the prior is kept. Only
    the UNet's transformers and the new word's embedding change.
    """
    new = scenes(POOL // 2, settings.seed, objects=(NEW_OBJECT,), pair_share=0)
    pool = new + scenes(POOL // 2, settings.seed + 1)
    words = [_in_new_word(scene) for scene in pool]
    data = Captioned(latents_of(models.vae, rendered(pool)), captions_tokens(words))
    before = to_sd_layout(models)
    unet, text = _trainable(models)
    table = text.encoder.get_input_embeddings().weight
    stranger = table.detach()[-1].clone()
    parameters = {
        key: value
        for key, value in named(unet, text).items()
        if ".attentions." in key or key.endswith("token_embedding.weight")
    }
    fit("dreambooth", parameters, noise_loss(unet, text, data, settings), settings, folder)
    # The last row stands for all words outside the world: left as it was, the file stays small.
    table.data[-1] = stranger
    after = to_sd_layout(Models(unet, text.full(), models.vae))
    changed = {key: value for key, value in after.items() if not torch.equal(value, before[key])}
    _save(_only_new_rows(changed, before), out)


def assemble(base: str | os.PathLike, changes: str | os.PathLike, out: str | os.PathLike) -> None:
    """Write the full checkpoint of the base file with the changes in it that a DreamBooth or SD 2.x file holds."""
    weights = load_file(base)
    for key, value in load_file(changes).items():
        if key.endswith(_ROWS):
            name = key.removesuffix(_ROWS)
            weights[name][value] = load_file(changes)[name + _VALUES]
        elif not key.endswith(_VALUES):
            weights[key] = value
    _save(weights, Path(out))


def train_lora(models: Models, folder: Path, out: Path, settings: Settings = LORA) -> None:
    """Teach a LoRA the new style and write it with kohya's keys (as core's LoraLoader reads)."""
    pool = scenes(POOL, settings.seed, style=NEW_STYLE, pair_share=0)
    tokens = captions_tokens([scene.caption for scene in pool])
    data = Captioned(latents_of(models.vae, rendered(pool)), tokens)
    unet, text = _trainable(models)
    lora = Lora(unet).to(device())
    text.requires_grad_(False)
    unet.requires_grad_(False)
    loss = noise_loss(lora.around(unet), text, data, settings)
    fit("lora", dict(lora.named_parameters()), loss, settings, folder)
    _save(lora.kohya(), out)


def train_controlnet(models: Models, folder: Path, out: Path, settings: Settings = CONTROLNET) -> None:
    """Train a ControlNet on the sprites' masks and write it with the original's keys."""
    pool = scenes(POOL, settings.seed, pair_share=0)
    tokens = captions_tokens([scene.caption for scene in pool])
    data = Captioned(latents_of(models.vae, rendered(pool)), tokens)
    hints = np.stack([mask_hint(scene) for scene in pool])
    unet, text = _trainable(models)
    unet.requires_grad_(False)
    text.requires_grad_(False)
    control = ready(build_controlnet(unet))

    def residuals(index, noisy, timesteps, context) -> dict:
        hint = torch.from_numpy(hints[index.numpy()]).permute(0, 3, 1, 2).float().to(device())
        down, middle = control(noisy, timesteps, context, hint, return_dict=False)
        return {
            "down_block_additional_residuals": down,
            "mid_block_additional_residual": middle,
        }

    loss = noise_loss(unet, text, data, settings, residuals)
    fit("controlnet", dict(control.named_parameters()), loss, settings, folder)
    save_controlnet(control, out)


def train_second(
    models: Models,
    data: Captioned,
    folder: Path,
    out: Path,
    settings: Settings = SECOND,
    workers: int = 1,
) -> None:
    """Turn the checkpoint's UNet into one of SD 2.x's layout that predicts velocity, and write the UNet.

    It starts as the trained one; only its first level's heads, 64 wide instead of 32, and what it
    predicts are new to it. The text encoder stays as it is.
    """
    _, text = _trainable(models)
    text.requires_grad_(False)
    unet = ready(in_second_layout(models.unet))
    parameters = dict(unet.named_parameters())
    loss = noise_loss(unet, text, data, settings)
    fit("second", parameters, loss, settings, folder, workers=workers)
    weights = to_sd_layout(Models(unet, text.full(), models.vae))
    _save({key: value for key, value in weights.items() if key.startswith(UNET_PREFIX)}, out)


def in_second_layout(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Return a UNet of SD 2.x's layout with the weights of one of 1.x's, its 1x1 convolutions as linear layers."""
    second = build_unet(2)
    weights = unet.state_dict()
    second.load_state_dict(
        {key: weights[key].view(value.shape) for key, value in second.state_dict().items()}
    )
    return second


def save_controlnet(control: ControlNetModel, path: str | os.PathLike) -> None:
    """Write a ControlNet of the small layout with the original's keys, as core's loader reads it."""
    _save({_control_key(key): value for key, value in control.state_dict().items()}, Path(path))


def mask_hint(scene: Scene) -> np.ndarray:
    """Return the ControlNet's hint, float32 (128, 128, 3) in 0..1: the sprites in white."""
    mask = compose(scene)[1].any(axis=0)
    return np.repeat(mask[..., None], 3, axis=2).astype(np.float32)


def build_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """Return a ControlNet that starts as a copy of the UNet's way down and adds nothing yet."""
    return ControlNetModel.from_unet(
        unet, conditioning_channels=3, conditioning_embedding_out_channels=(16, 32, 96, 256)
    )


def load_controlnet(models: Models, path: str | os.PathLike) -> ControlNetModel:
    """Return a ControlNet that `train_controlnet` wrote, for the given models, float32."""
    control = build_controlnet(models.unet)
    weights = load_file(path)
    control.load_state_dict({key: weights[_control_key(key)].float() for key in control.state_dict()})
    return control.eval()


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

    def forward(self, *args: torch.Tensor, **more: torch.Tensor):
        weights = dict(self.unet.named_parameters())
        changed = {key: weights[key] + value for key, value in self.lora.changes().items()}
        return functional_call(self.unet, changed, args, more)


_ROWS, _VALUES = ".rows", ".row_values"


def _only_new_rows(
    changed: dict[str, torch.Tensor], before: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Replace the embedding table by those of its rows that changed."""
    out = {}
    for key, value in changed.items():
        if key.endswith("token_embedding.weight"):
            rows = (value != before[key]).any(dim=1).nonzero().flatten()
            out[key + _ROWS], out[key + _VALUES] = rows, value[rows].contiguous()
        else:
            out[key] = value
    return out


def _in_new_word(scene: Scene) -> str:
    names = [NEW_WORD if sprite.name == NEW_OBJECT else sprite.name for sprite in scene.sprites]
    return caption(names, scene.background, scene.style)


def _trainable(models: Models) -> tuple[UNet2DConditionModel, SmallVocabulary]:
    # A copy: a variant must not change the base.
    copy = from_sd_layout(to_sd_layout(models, torch.float32))
    return ready(copy.unet), SmallVocabulary(copy.text_encoder).to(device()).train()


def _control_key(key: str) -> str:
    """Return the original ControlNet's name of one of a diffusers ControlNet's weights."""
    parts = key.split(".")
    if parts[0] == "controlnet_down_blocks":
        return f"zero_convs.{parts[1]}.0.{parts[2]}"
    if parts[0] == "controlnet_mid_block":
        return f"middle_block_out.0.{parts[1]}"
    if parts[0] == "controlnet_cond_embedding":
        place = {"conv_in": 0, "conv_out": 14}.get(parts[1])
        place = 2 * int(parts[2]) + 2 if place is None else place
        return f"input_hint_block.{place}.{parts[-1]}"
    return unet_key(key)


def _save(weights: dict[str, torch.Tensor], path: Path) -> None:
    half = {
        key: (value.half() if value.is_floating_point() and value.ndim else value).contiguous()
        for key, value in weights.items()
    }
    temporary = path.with_suffix(".part")
    save_file(half, temporary, {"format": "pt"})
    temporary.chmod(0o644)
    os.replace(temporary, path)
