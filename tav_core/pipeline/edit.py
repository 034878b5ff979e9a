"""Inversion and sampling with a diffusers model, and the file that holds inverted noise between them."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..atomic import save_tensors
from ..cli.say import CliError, bar, print_error
from ..diffusion.ddim import ddim_invert, ddim_sample, inversion_sigmas, sampling_sigmas
from ..diffusion.settings import Inversion, Sampling, Strengths
from ..files.weights import TunedWeights
from ..video.clip import Clip
from .apply import applied
from .model import Model

_FORMAT = "tune-a-video-noise"


@dataclass(frozen=True)
class Noise:
    """Inverted latents (F, 4, H, W) = x_0 + sigma noise, and the rate at which the clip plays.

    strength: the share of the way to noise that they went, as in `tav_core.diffusion.ddim.inversion_sigmas`.
    """

    latents: Tensor
    sigma: float
    fps: float
    strength: float = 1.0

    def save(self, path: Path) -> None:
        """Writes a safetensors file. Raises OSError if it cannot."""
        numbers = {"sigma": self.sigma, "fps": self.fps, "strength": self.strength}
        header = {"format": _FORMAT, **{name: repr(value) for name, value in numbers.items()}}
        save_tensors(path, {"latents": self.latents.cpu()}, header)

    @classmethod
    def load(cls, path: Path) -> "Noise":
        """Reads `save`'s file. Raises CliError if it is none."""
        try:
            with safe_open(str(path), framework="pt", device="cpu") as file:
                header = file.metadata() or {}
                if header.get("format") == _FORMAT:
                    numbers = (float(header[name]) for name in ("sigma", "fps", "strength"))
                    return cls(file.get_tensor("latents").clone(), *numbers)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise CliError(f"{path} cannot be read; make it again with the command invert.") from error
        raise CliError(f"{path} holds no inverted noise; make it with the command invert.")


def invert(
    model: Model,
    clip: Clip,
    weights: TunedWeights | None,
    inversion: Inversion,
    strengths: Strengths,
    quiet: bool,
) -> Noise:
    """DDIM inversion without guidance (Tune-A-Video, section 3.3)."""
    schedule = model.host.schedule
    sigmas = inversion_sigmas(schedule.sigmas, inversion.steps, inversion.strength)
    latents = model.encode(clip.frames)
    with (
        applied(model.host, weights, strengths.query_strength, strengths.temporal_strength) as (mode, layers),
        bar(len(sigmas) - 1, "invert", quiet) as progress,
    ):
        denoiser = model.host.denoiser(model.embed(inversion.prompt), mode=mode, layers=layers)
        result = ddim_invert(
            denoiser,
            latents,
            sigmas.to(latents.device),
            callback=lambda state: progress.update(),
            clean_sigma=float(schedule.sigmas[0]),
        )
    return Noise(result, float(sigmas[-1]), clip.fps, inversion.strength)


def sample(
    model: Model,
    noise: Noise,
    weights: TunedWeights | None,
    prompt: str,
    sampling: Sampling,
    strengths: Strengths,
    quiet: bool,
) -> Tensor:
    """DDIM from inverted noise under ``prompt``; frames (F, H, W, 3) in 0..1 on the CPU."""
    schedule, device = model.host.schedule, model.host.device
    sigmas = sampling_sigmas(schedule.sigmas, sampling.steps, noise.strength)
    # Another step count starts at another level; what the network sees stays the same.
    scale = math.sqrt((1 + float(sigmas[0]) ** 2) / (1 + noise.sigma**2))
    generator = torch.Generator().manual_seed(sampling.seed)
    with (
        applied(model.host, weights, strengths.query_strength, strengths.temporal_strength) as (mode, layers),
        bar(len(sigmas) - 1, "sample", quiet) as progress,
    ):
        denoiser = model.host.denoiser(
            model.embed(prompt), model.embed(sampling.negative), sampling.cfg, mode, layers
        )
        latents = ddim_sample(
            denoiser,
            noise.latents.to(device) * scale,
            sigmas.to(device),
            callback=lambda state: progress.update(),
            clean_sigma=float(schedule.sigmas[0]),
            eta=sampling.eta,
            noise_sampler=lambda like: torch.randn(like.shape, generator=generator).to(like),
        )
    return model.decode(latents)


def warn_of_another_base(model: Model, weights: TunedWeights) -> None:
    """A warning, not a refusal: relatives of the base work."""
    if weights.metadata.base_fingerprint not in ("", model.fingerprint()):
        print_error(
            "warning: these weights were tuned on another base model; relatives of it work, others give noise"
        )
