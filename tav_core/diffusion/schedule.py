"""The diffusion noise schedule a model was trained with."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

PredictionType = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """Cumulative signal levels of a discrete diffusion process and what its network predicts.

    ``alphas_cumprod`` is (T,) float32, decreasing, in (0, 1); T is 1000 for every Stable Diffusion.
    Latents ``x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise`` (DDPM, arXiv 2006.11239, eq. 4) are what the network
    sees. The samplers work in the equivalent scale ``x_t / sqrt(a_t) = x_0 + sigma_t noise``.
    """

    alphas_cumprod: Tensor
    prediction_type: PredictionType = "epsilon"

    @classmethod
    def scaled_linear(
        cls,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        timesteps: int = 1000,
        prediction_type: PredictionType = "epsilon",
    ) -> "NoiseSchedule":
        """Stable Diffusion's schedule: betas linear in their square root, from start to end."""
        betas = torch.linspace(beta_start**0.5, beta_end**0.5, timesteps, dtype=torch.float32) ** 2
        return cls(torch.cumprod(1.0 - betas, dim=0), prediction_type)

    @classmethod
    def from_sigmas(cls, sigmas: Tensor, prediction_type: PredictionType = "epsilon") -> "NoiseSchedule":
        """The schedule whose noise-to-signal ratios are ``sigmas``, (T,) increasing."""
        sigmas = sigmas.detach().cpu().double()
        return cls((1.0 / (1.0 + sigmas**2)).float(), prediction_type)

    @property
    def timesteps(self) -> int:
        """Number T of training timesteps."""
        return len(self.alphas_cumprod)

    @property
    def sigmas(self) -> Tensor:
        """(T,) float32 noise-to-signal ratios sqrt((1 - a) / a), increasing."""
        a = self.alphas_cumprod.double()
        return ((1.0 - a) / a).sqrt().float()

    def add_noise(self, x0: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """Latents at ``timestep`` in 0..T-1, same shape as ``x0`` and ``noise``."""
        signal, level = self._levels(timestep)
        return signal * x0 + level * noise

    def target(self, x0: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """What the network should answer at ``timestep``: the noise, or the velocity (arXiv 2202.00512)."""
        if self.prediction_type == "epsilon":
            return noise
        signal, level = self._levels(timestep)
        return signal * noise - level * x0

    def denoised(self, output: Tensor, x: Tensor, sigma: float) -> Tensor:
        """The clean latents implied by a network ``output`` for latents ``x`` = x_0 + sigma noise."""
        if self.prediction_type == "epsilon":
            return x - sigma * output
        scale = 1.0 + sigma**2
        return x / scale - output * sigma / scale**0.5

    def timestep_of(self, sigma: float) -> int:
        """The timestep whose sigma is nearest on a logarithmic axis."""
        return int((self.sigmas.log() - torch.tensor(sigma).clamp_min(1e-10).log()).abs().argmin())

    def snr(self, timestep: int) -> float:
        """Signal-to-noise ratio a / (1 - a) at ``timestep``."""
        a = float(self.alphas_cumprod[timestep].double())
        return a / (1.0 - a)

    def _levels(self, timestep: int) -> tuple[float, float]:
        if not 0 <= timestep < self.timesteps:
            raise ValueError(f"timestep {timestep} is outside 0..{self.timesteps - 1}")
        a = self.alphas_cumprod[timestep]
        return float(a.sqrt()), float((1.0 - a).sqrt())
