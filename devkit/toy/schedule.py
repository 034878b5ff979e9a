"""SD 1.x's noise schedule."""

from __future__ import annotations

import torch

from .models import SCHEDULE


def alphas_cumprod() -> torch.Tensor:
    """Return alpha-bar of the 1000 timesteps, float32, falling from 0.9991 to 0.0047."""
    roots = torch.linspace(
        SCHEDULE["beta_start"] ** 0.5,
        SCHEDULE["beta_end"] ** 0.5,
        SCHEDULE["num_train_timesteps"],
        dtype=torch.float64,
    )
    return (1 - roots**2).cumprod(dim=0).float()
