"""One .safetensors file in SD 1.x's key layout, and the same weights as a diffusers folder.

Keys: ``model.diffusion_model.*`` (UNet), ``cond_stage_model.transformer.text_model.*``
(CLIP text encoder) and ``first_stage_model.taesd_encoder.*`` / ``taesd_decoder.*``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from .models import LAYERS, SCHEDULE, TOKENS, build_text_encoder, build_unet, build_vae, prediction_type

UNET_PREFIX = "model.diffusion_model."
TEXT_PREFIX = "cond_stage_model.transformer.text_model."
VAE_PREFIX = "first_stage_model."

_LATENT_SCALE = 0.18215
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


@dataclass
class Models:
    """The three networks of a checkpoint, float32, in evaluation mode."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    vae: AutoencoderTiny


def save_checkpoint(models: Models, path: str | os.PathLike, dtype: torch.dtype = torch.float16) -> None:
    """Write the models to one .safetensors file in SD 1.x's layout."""
    _write(to_sd_layout(models, dtype), Path(path))


def load_checkpoint(path: str | os.PathLike) -> Models:
    """Return the models of a file that `save_checkpoint` wrote, in SD 1.x's or 2.x's layout.

    Raises RuntimeError if keys or shapes are not those of this small layout.
    """
    return from_sd_layout(load_file(path))


def make_random(path: str | os.PathLike, seed: int = 0) -> None:
    """Write a checkpoint of the same layout with seeded random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        models = Models(build_unet(), build_text_encoder(), build_vae())
    save_checkpoint(models, path)


def to_sd_layout(models: Models, dtype: torch.dtype = torch.float16) -> dict[str, torch.Tensor]:
    """Return the models' weights under SD 1.x's keys."""
    weights = {UNET_PREFIX + unet_key(key): value for key, value in models.unet.state_dict().items()}
    for key, value in _text_weights(models.text_encoder).items():
        weights[TEXT_PREFIX + key] = value
    for key, value in models.vae.state_dict().items():
        weights[VAE_PREFIX + _vae_key(key)] = value
    weights = {key: value.detach().to("cpu", dtype).contiguous() for key, value in weights.items()}
    # ComfyUI multiplies latents by 0.18215; this takes it back, so that encoder and UNet meet.
    weights[VAE_PREFIX + "vae_scale"] = torch.tensor(_LATENT_SCALE)
    weights[VAE_PREFIX + "vae_shift"] = torch.tensor(0.0)
    return weights


def from_sd_layout(weights: dict[str, torch.Tensor]) -> Models:
    """Return the models of weights under SD 1.x's keys; 2.x's layout is known by its linear projections.

    Raises RuntimeError if keys or shapes are not those of this small layout.
    """
    projection = weights.get(UNET_PREFIX + "input_blocks.1.1.proj_in.weight")
    version = 2 if projection is not None and projection.ndim == 2 else 1
    unet, text_encoder, vae = build_unet(version), build_text_encoder(), build_vae()
    _load(unet, {key: UNET_PREFIX + unet_key(key) for key in unet.state_dict()}, weights)
    text_keys = {key: TEXT_PREFIX + _short_text_key(key) for key in text_encoder.state_dict()}
    _load(text_encoder, text_keys, weights)
    _load(vae, {key: VAE_PREFIX + _vae_key(key) for key in vae.state_dict()}, weights)
    return Models(unet.eval(), text_encoder.eval(), vae.eval())


def to_diffusers(
    single_file: str | os.PathLike, out_dir: str | os.PathLike, tokenizer_dir: str | os.PathLike
) -> None:
    """Write the weights of a checkpoint as a folder for diffusers' StableDiffusionPipeline.

    `tokenizer_dir` holds CLIP's vocab.json and merges.txt; ComfyUI's folder
    comfy/sd1_tokenizer is such a one. Raises FileNotFoundError if they are not there.
    """
    out, source = Path(out_dir), Path(tokenizer_dir)
    missing = [name for name in ("vocab.json", "merges.txt") if not (source / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{source} lacks {' and '.join(missing)}")
    models = load_checkpoint(single_file)
    models.unet.save_pretrained(out / "unet")
    models.text_encoder.save_pretrained(out / "text_encoder")
    models.vae.save_pretrained(out / "vae")
    scheduler(prediction_type(models.unet)).save_pretrained(out / "scheduler")
    _copy_tokenizer(source, out / "tokenizer")
    (out / "model_index.json").write_text(_MODEL_INDEX)


def scheduler(prediction_type: str = SCHEDULE["prediction_type"]) -> DDIMScheduler:
    """Return the DDIM scheduler of SD 1.x or, for "v_prediction", of 2.x."""
    plan = SCHEDULE | {"prediction_type": prediction_type}
    return DDIMScheduler(**plan, clip_sample=False, set_alpha_to_one=False, steps_offset=1)


def unet_key(key: str) -> str:
    """Return SD 1.x's name of one of a diffusers UNet's weights, without the prefix."""
    for ours, theirs in _ENDS.items():
        if key.startswith(ours + "."):
            return theirs + key.removeprefix(ours)
    match = re.fullmatch(r"(down|mid|up)_blocks?(?:\.(\d+))?\.(\w+)\.(\d+)\.(.+)", key)
    if match is None:
        raise KeyError(key)
    side, level, kind, index, rest = match.groups()
    level, index = int(level or 0), int(index)
    if kind == "resnets":
        rest = re.sub(r"^\w+", lambda name: _RESNET[name.group()], rest)
    part = {"resnets": 0, "attentions": 1}.get(kind)
    if side == "mid":
        return f"middle_block.{2 * index if kind == 'resnets' else 1}.{rest}"
    blocks = LAYERS + 1
    if side == "down":
        if part is None:
            return f"input_blocks.{blocks * (level + 1)}.0.op.{rest.removeprefix('conv.')}"
        return f"input_blocks.{blocks * level + index + 1}.{part}.{rest}"
    if part is None:
        # The first way up starts without attention, like SD 1.x's.
        return f"output_blocks.{blocks * level + LAYERS}.{1 if level == 0 else 2}.{rest}"
    return f"output_blocks.{blocks * level + index}.{part}.{rest}"


def _vae_key(key: str) -> str:
    side, _, index, rest = re.fullmatch(r"(\w+)\.(layers)\.(\d+)\.(.+)", key).groups()
    # The original counts the decoder's clamp as a layer.
    return f"taesd_{side}.{int(index) + (side == 'decoder')}.{rest}"


def _short_text_key(key: str) -> str:
    # Whether names start with "text_model." depends on the version of transformers.
    return key.removeprefix("text_model.")


def _text_weights(model: CLIPTextModel) -> dict[str, torch.Tensor]:
    weights = {_short_text_key(key): value for key, value in model.state_dict().items()}
    weights.pop("embeddings.position_ids", None)
    return weights


def _load(model: torch.nn.Module, keys: dict[str, str], weights: dict[str, torch.Tensor]) -> None:
    missing = [name for name in keys.values() if name not in weights]
    missing = [name for name in missing if not name.endswith("position_ids")]
    if missing:
        raise RuntimeError(f"not a checkpoint of this small layout: {missing[0]} is missing")
    model.load_state_dict(
        {key: weights[name].float() for key, name in keys.items() if name in weights}, strict=False
    )


def _copy_tokenizer(source: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.suffix in (".json", ".txt"):
            shutil.copyfile(file, out / file.name)
    path = out / "tokenizer_config.json"
    config = json.loads(path.read_text()) if path.exists() else {}
    # ComfyUI's copy names a larger one; pipelines pad to this length.
    config["model_max_length"] = TOKENS
    path.write_text(json.dumps(config, indent=2) + "\n")


def _write(weights: dict[str, torch.Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    save_file(weights, temporary, {"format": "pt"})
    temporary.chmod(0o644)
    os.replace(temporary, path)


_MODEL_INDEX = """{
  "_class_name": "StableDiffusionPipeline",
  "feature_extractor": [null, null],
  "image_encoder": [null, null],
  "requires_safety_checker": false,
  "safety_checker": [null, null],
  "scheduler": ["diffusers", "DDIMScheduler"],
  "text_encoder": ["transformers", "CLIPTextModel"],
  "tokenizer": ["transformers", "CLIPTokenizer"],
  "unet": ["diffusers", "UNet2DConditionModel"],
  "vae": ["diffusers", "AutoencoderTiny"]
}
"""


def main() -> None:
    """Write a random checkpoint or a diffusers folder from the command line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    random = commands.add_parser("random", help="write a random checkpoint")
    random.add_argument("out")
    random.add_argument("--seed", type=int, default=0)
    folder = commands.add_parser("diffusers", help="write a diffusers folder")
    folder.add_argument("single_file")
    folder.add_argument("out_dir")
    folder.add_argument("tokenizer_dir")
    options = parser.parse_args()
    if options.command == "random":
        make_random(options.out, options.seed)
    else:
        to_diffusers(options.single_file, options.out_dir, options.tokenizer_dir)


if __name__ == "__main__":
    main()
