"""Latent blending: while sampling, the region outside of a mask is taken from the inversion's trajectory."""

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, eq=False)
class LatentBlend:
    """An ``after_step`` for `tav_core.diffusion.ddim.ddim_sample` that puts the source back outside of a mask.

    ``trajectory`` is from `tav_core.diffusion.ddim.ddim_invert`: the latents of every level, from the clean end on.
    ``mask`` is from `latent_mask`. Sampling must use the same levels downwards. The outside is then the source at
    every level, and the network draws the inside to fit it.
    """

    trajectory: Sequence[Tensor]
    mask: Tensor

    def __call__(self, i: int, x: Tensor) -> Tensor:
        """``x`` (frames, channels, height, width) after step ``i``, with the outside from the source."""
        # Step 0 ends one level below the last of the trajectory.
        source = self.trajectory[len(self.trajectory) - 2 - i].to(x)
        mask = self.mask.to(x)
        return x * mask + source * (1.0 - mask)
