"""Keeping the source outside of a mask while sampling, from the inversion's own trajectory."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def latent_mask(mask: Tensor, frames: int, height: int, width: int) -> Tensor:
    """A mask (1 or frames, H, W) in 0..1, 1 where the edit may change, as (frames or 1, 1, height, width).

    A latent cell may change if any of its pixels may. Raises ValueError if the mask counts other frames than the clip
    or holds values that are not finite numbers.
    """
    mask = mask.reshape(-1, 1, *mask.shape[-2:]).float().clamp(0.0, 1.0)
    if len(mask) not in (1, frames):
        raise ValueError(
            f"the mask has {len(mask)} frames but the clip has {frames}; give one, or one per frame"
        )
    if not bool(torch.isfinite(mask).all()):
        raise ValueError("the mask holds values that are not finite numbers")
    return functional.adaptive_max_pool2d(mask, (height, width))


class LatentBlend:
    """An ``after_step`` for `tav_core.diffusion.ddim.ddim_sample` that puts the source back outside of a mask.

    ``trajectory`` holds the latents x_0 + sigma noise of every level of the inversion, from the clean end on; ``mask``
    is from `latent_mask`. Sampling must use the same levels downwards. What lies outside is then the source at every
    level, so that the inside is drawn to fit it.
    """

    def __init__(self, trajectory: Sequence[Tensor], mask: Tensor) -> None:
        self.trajectory = trajectory
        self.mask = mask

    def __call__(self, i: int, x: Tensor) -> Tensor:
        """``x`` (frames, channels, height, width) after step ``i``, with the outside from the source."""
        source = self.trajectory[len(self.trajectory) - 2 - i].to(x)
        mask = self.mask.to(x)
        return x * mask + source * (1.0 - mask)
