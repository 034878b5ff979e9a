"""The stages of the method as functions to be timed, on the host for diffusers, and the plain image model."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn

from tav_core.diffusion.ddim import ddim_invert, ddim_sample, inversion_sigmas, sampling_sigmas
from tav_core.diffusion.schedule import NoiseSchedule
from tav_core.inflation.attach import BlockResidual
from tav_core.inflation.temporal import TemporalLayers
from tav_core.pipeline.unet import DiffusersHost
from tav_core.tuning.settings import CHECKPOINTING_MODES, TuningSettings
from tav_core.tuning.tuner import Tuner

from .sizes import Size

Stage = Callable[[], object]
GUIDANCE = 7.5
FRAMES_AT_ONCE = 4
TUNING = tuple(f"tuning, checkpointing {mode}" for mode in CHECKPOINTING_MODES)


def compute_dtype(size: Size, device: torch.device) -> torch.dtype:
    """The dtype that the networks compute in."""
    return getattr(torch, size.dtype) if device.type == "cpu" else torch.bfloat16


def build_unet(size: Size, device: torch.device) -> UNet2DConditionModel:
    """The untouched image model with the seeded weights that all stages and hosts share."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(sample_size=size.side, **size.unet).eval().requires_grad_(False)
    return nn.Module.to(unet, device, compute_dtype(size, device))


class Inputs:
    """A random clip (frames, 4, side, side) and two random prompts (1, 77, width), float32."""

    def __init__(
        self, size: Size, device: torch.device, frames: int | None = None, side: int | None = None
    ) -> None:
        generator = torch.Generator().manual_seed(1)
        side = side or size.side
        self.latents = torch.randn(frames or size.frames, 4, side, side, generator=generator).to(device)
        self.prompt, self.empty = (
            torch.randn(1, 77, size.context, generator=generator).to(device) for _ in range(2)
        )


def plain(unet: UNet2DConditionModel, inputs: Inputs) -> Stage:
    """One forward pass of the image model over the frames as a batch: the yardstick P."""

    @torch.no_grad()
    def run() -> None:
        latents = inputs.latents.to(unet.dtype)
        unet(latents, 500, inputs.prompt.to(unet.dtype).expand(len(latents), -1, -1))

    return run


def fresh_layers(host: DiffusersHost) -> dict[str, BlockResidual]:
    """Temporal layers for every block, in the network's dtype."""
    blocks = host.transformer_blocks()
    layers = TemporalLayers({n: (b.attn1.to_q.weight.shape[1], b.attn1.heads) for n, b in blocks.items()})
    layers.reset(0)
    layers.requires_grad_(False).to(host.device, host.dtype)
    return {name: layers[name] for name in layers.names}


def inflated(unet: UNet2DConditionModel, inputs: Inputs, temporal: bool = True, steps: int = 1) -> Stage:
    """Steps of inversion: each one forward pass of the inflated model under one prompt."""
    host = DiffusersHost(unet, NoiseSchedule.scaled_linear())
    denoiser = host.denoiser(inputs.prompt, layers=fresh_layers(host) if temporal else {})
    sigmas = inversion_sigmas(host.schedule.sigmas, 50)[25 : 26 + steps].to(inputs.latents.device)

    def run() -> None:
        ddim_invert(denoiser, inputs.latents, sigmas)

    return run


def guided(unet: UNet2DConditionModel, inputs: Inputs) -> Stage:
    """One step of sampling with guidance."""
    host = DiffusersHost(unet, NoiseSchedule.scaled_linear())
    denoiser = host.denoiser(inputs.prompt, inputs.empty, GUIDANCE, layers=fresh_layers(host))
    sigmas = sampling_sigmas(host.schedule.sigmas, 50)[25:27].to(inputs.latents.device)

    def run() -> None:
        ddim_sample(denoiser, inputs.latents, sigmas)

    return run


def tuning(unet: UNet2DConditionModel, inputs: Inputs, checkpointing: str) -> Stage:
    """One optimiser step."""
    host = DiffusersHost(unet, NoiseSchedule.scaled_linear())
    tuner = Tuner(host, inputs.latents, inputs.prompt, TuningSettings(gradient_checkpointing=checkpointing))

    def run() -> None:
        with tuner:
            tuner.step()

    return run


def diffusers_stages(unet: UNet2DConditionModel, inputs: Inputs) -> dict[str, Callable[[], Stage]]:
    """What makes each stage, by its name."""
    return {
        "inversion": lambda: inflated(unet, inputs),
        "guided sampling": lambda: guided(unet, inputs),
        **{
            name: lambda mode=mode: tuning(unet, inputs, mode)
            for name, mode in zip(TUNING, CHECKPOINTING_MODES, strict=True)
        },
    }


def codec_stages(size: Size, device: torch.device) -> dict[str, tuple[int, Stage]]:
    """Coding frames with a random autoencoder of Stable Diffusion's kind: how many at once, and the work."""
    torch.manual_seed(0)
    levels = len(size.codec["block_out_channels"])
    whole = AutoencoderKL(
        latent_channels=4,
        # Tiles have half the picture's width and height.
        sample_size=4 * size.side,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        **size.codec,
    ).eval()
    whole = nn.Module.to(whole, device, compute_dtype(size, device))
    tiled = copy.copy(whole)
    tiled.enable_tiling()
    generator = torch.Generator().manual_seed(1)
    pictures = torch.rand(FRAMES_AT_ONCE, 3, 8 * size.side, 8 * size.side, generator=generator)
    latents = torch.randn(FRAMES_AT_ONCE, 4, size.side, size.side, generator=generator)
    pictures, latents = (t.to(device, compute_dtype(size, device)) for t in (pictures, latents))

    def encoding(vae: AutoencoderKL, count: int) -> Stage:
        return torch.no_grad()(lambda: vae.encode(pictures[:count]).latent_dist.mean)

    def decoding(vae: AutoencoderKL, count: int) -> Stage:
        return torch.no_grad()(lambda: vae.decode(latents[:count]).sample)

    ways = {"": (whole, 1), f", {FRAMES_AT_ONCE} at once": (whole, FRAMES_AT_ONCE), ", in tiles": (tiled, 1)}
    return {
        f"{name}{way}": (count, work(vae, count))
        for name, work in (("encoding a frame", encoding), ("decoding a frame", decoding))
        for way, (vae, count) in ways.items()
    }
