"""Fine-tuned companions of the base checkpoint: DreamBooth, ControlNet and SD 2.x's layout; the LoRA is in `lora`."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from .canvas import SIDE
from .captions import NEW_WORD, caption, caption_of
from .checkpoint import UNET_PREFIX, Models, from_sd_layout, to_sd_layout, unet_key
from .diffusion import named, noise_loss, ready
from .figures import NEW_FIGURE
from .models import build_unet
from .pool import rendered, scenes
from .scene import Scene
from .shards import Captioned, captions_tokens, latents_of
from .skeleton import BONES
from .text import SmallVocabulary
from .training import Settings, device, fit

DREAMBOOTH = Settings(steps=600, batch=24, lr=3e-4, warmup=30, ema=0.99, seed=11)
CONTROLNET = Settings(steps=900, batch=24, lr=5e-4, warmup=30, ema=0.99, seed=13)
SECOND = Settings(steps=600, batch=16, lr=6e-4, warmup=30, ema=0.99, seed=14, save_every=40, log_every=20)

POOL = 1500
"""Pictures that each variant learns from."""


def captioned(models: Models, pool: list[Scene], texts: list[str] | None = None) -> Captioned:
    """Return the scenes' latents with their captions, or with `texts` instead."""
    texts = texts or [caption_of(scene) for scene in pool]
    return Captioned(latents_of(models.vae, rendered(pool)), captions_tokens(texts))


def train_dreambooth(models: Models, folder: Path, out: Path, settings: Settings = DREAMBOOTH) -> None:
    """Teach the checkpoint a new figure under a new word and write the changed tensors.

    Half of the pictures show the new figure, half the old ones: the prior is kept. Only
    the UNet's transformers and the new word's embedding change.
    """
    new = scenes(POOL // 2, settings.seed, figure=NEW_FIGURE, pair_share=0)
    pool = new + scenes(POOL // 2, settings.seed + 1)
    data = captioned(models, pool, [_in_new_word(scene) for scene in pool])
    before = to_sd_layout(models)
    unet, text = trainable(models)
    table = text.encoder.get_input_embeddings().weight
    stranger = table.detach()[-1].clone()
    parameters = {
        key: value
        for key, value in named(unet, text).items()
        if ".attentions." in key or key.endswith("token_embedding.weight")
    }
    fit("dreambooth", parameters, noise_loss(unet, text, data, settings), settings, folder)
    # The last row stands for all words outside the dataset: left as it was, the file stays small.
    table.data[-1] = stranger
    after = to_sd_layout(Models(unet, text.full(), models.vae))
    changed = {key: value for key, value in after.items() if not torch.equal(value, before[key])}
    save(_only_new_rows(changed, before), out)


def assemble(base: str | os.PathLike, changes: str | os.PathLike, out: str | os.PathLike) -> None:
    """Write the full checkpoint of the base file with the changes in it that a DreamBooth or SD 2.x file holds."""
    weights = load_file(base)
    for key, value in load_file(changes).items():
        if key.endswith(_ROWS):
            name = key.removesuffix(_ROWS)
            weights[name][value] = load_file(changes)[name + _VALUES]
        elif not key.endswith(_VALUES):
            weights[key] = value
    save(weights, Path(out))


def train_controlnet(models: Models, folder: Path, out: Path, settings: Settings = CONTROLNET) -> None:
    """Train a ControlNet on the figures' skeletons and write it with the original's keys."""
    pool = scenes(POOL, settings.seed)
    data = captioned(models, pool)
    hints = np.stack([skeleton_hint(scene) for scene in pool])
    unet, text = trainable(models)
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
    _, text = trainable(models)
    text.requires_grad_(False)
    unet = ready(in_second_layout(models.unet))
    parameters = dict(unet.named_parameters())
    loss = noise_loss(unet, text, data, settings)
    fit("second", parameters, loss, settings, folder, workers=workers)
    weights = to_sd_layout(Models(unet, text.full(), models.vae))
    save({key: value for key, value in weights.items() if key.startswith(UNET_PREFIX)}, out)


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
    save({_control_key(key): value for key, value in control.state_dict().items()}, Path(path))


def skeleton_hint(scene: Scene) -> np.ndarray:
    """Return the ControlNet's hint, float32 (128, 128, 3) in 0..1: each bone in its colour on black."""
    hint = np.zeros((SIDE, SIDE, 3), np.uint8)
    for figure in scene.figures:
        points = scene.camera.place().after(figure.place())(figure.rig().joints)
        corners = np.round(np.stack([points.real, points.imag], axis=1) * 16).astype(int)
        for index, (start, end) in enumerate(BONES):
            hue = np.uint8([[[180 * index // len(BONES), 255, 255]]])
            colour = cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0].tolist()
            cv2.line(hint, corners[start].tolist(), corners[end].tolist(), colour, 4, cv2.LINE_AA, 4)
    return hint.astype(np.float32) / 255


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
    names = [NEW_WORD if figure.name == NEW_FIGURE else figure.name for figure in scene.figures]
    return caption(names, scene.figures[0].verb, scene.ground, scene.style)


def trainable(models: Models) -> tuple[UNet2DConditionModel, SmallVocabulary]:
    """Return copies of UNet and text encoder to train: a variant must not change the base."""
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


def save(weights: dict[str, torch.Tensor], path: Path) -> None:
    """Write weights to a .safetensors file, floating-point ones as float16, replacing an old one at once."""
    half = {
        key: (value.half() if value.is_floating_point() and value.ndim else value).contiguous()
        for key, value in weights.items()
    }
    temporary = path.with_suffix(".part")
    save_file(half, temporary, {"format": "pt"})
    temporary.chmod(0o644)
    os.replace(temporary, path)
