"""A Stable Diffusion model from a diffusers folder or a single file, offline."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from ..diffusion.schedule import NoiseSchedule
from ..files.weights import fingerprint
from .unet import DiffusersHost

_log = logging.getLogger(__name__)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_VAES = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
_FRAMES_AT_ONCE = 4


class ModelError(ValueError):
    """A model that cannot be loaded, or that the method does not work on; the message is one plain sentence."""


@dataclass(frozen=True)
class Model:
    """The networks of one checkpoint. Tuning, inversion and sampling leave them as they were loaded."""

    host: DiffusersHost
    vae: AutoencoderKL | AutoencoderTiny
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer

    @torch.no_grad()
    def embed(self, text: str) -> Tensor:
        """(1, tokens, width) float32. What is beyond the tokenizer's length is cut, with a warning."""
        length = self.tokenizer.model_max_length
        if len(self.tokenizer(text).input_ids) > length:
            _log.warning("only the first %d tokens of the prompt %.40r... are used", length, text)
        tokens = self.tokenizer(
            text, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        return self.text_encoder(tokens.input_ids.to(self.host.device))[0].float()

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """(F, H, W, 3) in 0..1 to clean latents (F, 4, H/8, W/8) in the network's scale."""

        def latents(pixels: Tensor) -> Tensor:
            encoded = self.vae.encode(pixels)
            # The mean, not a draw: the same clip always gives the same latents.
            return encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()

        pixels = (frames * 2 - 1).permute(0, 3, 1, 2)
        parts = [
            latents(part.to(self.vae.device, self.vae.dtype)) for part in pixels.split(self._frames_at_once)
        ]
        return torch.cat(parts).float() * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """`encode` backwards, to frames on the CPU."""
        latents = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        parts = [self.vae.decode(part).sample for part in latents.split(self._frames_at_once)]
        return (torch.cat(parts).float().cpu().permute(0, 2, 3, 1) / 2 + 0.5).clamp(0, 1)

    @property
    def _frames_at_once(self) -> int:
        # A CPU codes one frame as fast as several, with less memory (benchmarks/speed/README.md).
        return 1 if self.host.device.type == "cpu" else _FRAMES_AT_ONCE

    def fingerprint(self) -> str:
        """`tav_core.files.weights.fingerprint` of the UNet."""
        return fingerprint(self.host.unet.state_dict())


def load_model(
    path: Path | str,
    config: Path | str | None = None,
    vae: Path | str | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> Model:
    """Loads a diffusers folder or a single-file checkpoint; nothing is downloaded.

    ``config`` is a diffusers folder of the same kind with the small files (configurations, tokenizer) that a single
    file lacks; without it diffusers' own cache must hold them. ``vae`` is a folder with another VAE. ``device``
    and ``dtype`` "auto": CUDA in bf16 (fp16 where it has none), else the CPU in fp32; the VAE always runs in fp32.
    Raises ModelError for what cannot be loaded or is not a Stable Diffusion 1.x or 2.x model.
    """
    path = Path(path)
    place, kind = _placement(device, dtype)
    own_vae = _load_vae(Path(vae)) if vae is not None else None
    if not path.exists():
        raise ModelError(f"{path}: there is no such model; give a diffusers folder or a checkpoint file.")
    try:
        parts = _from_folder(path, own_vae) if path.is_dir() else _from_file(path, config, own_vae)
    except ModelError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{path} cannot be loaded: {_first_line(error)}") from error
    unet = parts["unet"]
    if unet.config.in_channels != 4 or unet.config.addition_embed_type is not None:
        raise ModelError(
            f"{path} is not a Stable Diffusion 1.x or 2.x model (SDXL, inpainting and others do not work)."
        )
    schedule = _schedule(parts["scheduler"])
    return Model(
        DiffusersHost(_placed(unet, place, kind), schedule),
        _placed(parts["vae"], place, torch.float32),
        _placed(parts["text_encoder"], place, torch.float32),
        parts["tokenizer"],
    )


def _placed(network: Any, place: str, dtype: torch.dtype) -> Any:
    # Not diffusers' own `to`, which warns of modules to keep in float32 where there are none.
    return nn.Module.to(network, place, dtype).requires_grad_(False).train(False)


def _from_folder(folder: Path, vae: AutoencoderKL | AutoencoderTiny | None) -> dict:
    missing = [part for part in _PARTS if not (folder / part).is_dir() and not (part == "vae" and vae)]
    if missing:
        raise ModelError(f"{folder} is not a diffusers folder: it lacks {', '.join(missing)}.")
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    return {
        "unet": UNet2DConditionModel.from_pretrained(folder / "unet", local_files_only=True),
        "vae": vae or _load_vae(folder / "vae"),
        "text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder", local_files_only=True),
        "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
        "scheduler": config,
    }


def _from_file(path: Path, config: Path | str | None, vae: AutoencoderKL | AutoencoderTiny | None) -> dict:
    options = {} if config is None else {"config": str(config)}
    if vae is not None:
        options["vae"] = vae
    try:
        pipeline = StableDiffusionPipeline.from_single_file(str(path), local_files_only=True, **options)
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError, TypeError) as error:
        hint = (
            "its parts do not fit the folder given as config (--config)"
            if config is not None
            else "a single file needs config (--config FOLDER), a diffusers folder of the same kind"
        )
        raise ModelError(f"{path.name} cannot be loaded: {hint} ({_first_line(error)}).") from error
    parts = {part: getattr(pipeline, part) for part in _PARTS}
    return {**parts, "scheduler": dict(pipeline.scheduler.config)}


def _load_vae(folder: Path) -> AutoencoderKL | AutoencoderTiny:
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("_class_name")
        return _VAES[kind].from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{folder} does not hold a VAE that works (AutoencoderKL or AutoencoderTiny)."
        ) from error


def _schedule(config: Mapping) -> NoiseSchedule:
    prediction = config.get("prediction_type", "epsilon")
    alphas = DDIMScheduler.from_config(dict(config)).alphas_cumprod.float()
    if prediction not in ("epsilon", "v_prediction") or not bool((alphas > 0).all()):
        raise ModelError(
            "The model's scheduler is neither noise nor velocity prediction on Stable Diffusion's schedule."
        )
    return NoiseSchedule(alphas, prediction)


def _placement(device: str, dtype: str) -> tuple[str, torch.dtype]:
    cuda = torch.cuda.is_available()
    if device == "auto":
        device = "cuda" if cuda else "cpu"
    if dtype != "auto":
        return device, DTYPES[dtype]
    if not device.startswith("cuda"):
        return device, torch.float32
    return device, torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200].rstrip(".") if lines else type(error).__name__
