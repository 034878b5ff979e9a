"""The diffusers host under check."""

from __future__ import annotations

from functools import cache

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from tav_core.diffusion.ddim import ddim_invert, ddim_sample, inversion_sigmas, sampling_sigmas
from tav_core.inflation.attach import attach
from tav_core.inflation.mode import InflationMode
from tav_core.inflation.temporal import TemporalLayers, temporal_sizes
from tav_core.patching import Overrides
from tav_core.pipeline.unet import DiffusersHost
from tav_core.tuning.settings import TuningSettings
from tav_core.tuning.tuner import Tuner

from .reference import TUNED, Reference, split


class DiffusersSide:
    """See `checks.Side`."""

    name = "diffusers"

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self._model = cache(self._build)
        sigmas = reference.schedule.sigmas
        self._sigmas, self._clean = sigmas, float(sigmas[0])

    def forward(self, variant: str, x: Tensor, timesteps: Tensor, context: Tensor, frames: int) -> Tensor:
        """See `Side.forward`."""
        host, layers = self._model(variant)
        with torch.no_grad(), Overrides() as overrides:
            attach(overrides, host, InflationMode(), named(layers), frames)
            return host.predict(x, timesteps, context)

    def modules(self, variant: str, names: list[str]) -> dict[str, tuple[nn.Module, nn.Module]]:
        """See `Side.modules`."""
        host, layers = self._model(variant)
        found = {}
        for name in names:
            root = layers if name.endswith("attn_temp") else host.unet
            module = root.get_submodule(name)
            found[name] = (module, module)
        return found

    def tuner(
        self, variant: str, latents: Tensor, context: Tensor, settings: TuningSettings, **options
    ) -> Tuner:
        """See `Side.tuner`."""
        host, layers = self._build(variant)
        return Tuner(host, latents, context, settings, temporal=layers, **options)

    def invert(self, latents: Tensor, context: Tensor, steps: int) -> list[Tensor]:
        """See `Side.invert`."""
        trajectory: list[Tensor] = []
        sigmas = inversion_sigmas(self._sigmas, steps)
        ddim_invert(self._denoiser(context), latents, sigmas, clean_sigma=self._clean, trajectory=trajectory)
        return [x / (1 + sigma**2) ** 0.5 for x, sigma in zip(trajectory, sigmas, strict=True)]

    def sample(
        self, start: Tensor, context: Tensor, uncond: Tensor | None, guidance: float, steps: int
    ) -> list[Tensor]:
        """See `Side.sample`."""
        sigmas = sampling_sigmas(self._sigmas, steps)
        latents = []
        final = ddim_sample(
            self._denoiser(context, uncond, guidance),
            start * (1 + sigmas[0] ** 2) ** 0.5,
            sigmas,
            callback=lambda state: latents.append(state["x"] / (1 + state["sigma"] ** 2) ** 0.5),
            clean_sigma=self._clean,
        )
        return [*latents[1:], final]

    def _denoiser(self, context: Tensor, uncond: Tensor | None = None, guidance: float = 1.0):
        host, layers = self._model(TUNED)
        return host.denoiser(context, uncond, guidance, layers=named(layers))

    def _build(self, variant: str) -> tuple[DiffusersHost, TemporalLayers]:
        image, temporal = split(self.reference.weights(variant))
        unet = UNet2DConditionModel.from_config(self.reference.unet_config)
        unet.load_state_dict(image)
        host = DiffusersHost(unet, self.reference.schedule)
        blocks = host.transformer_blocks()
        heads = {name: block.attn1.heads for name, block in blocks.items()}
        layers = TemporalLayers(temporal_sizes(blocks, temporal, heads))
        layers.load(temporal)
        return host, layers


def named(layers: TemporalLayers) -> dict[str, nn.Module]:
    """The layers by block name."""
    return {name: layers[name] for name in layers.names}
