"""Group norm whose statistics run over all frames of a clip, as in the official 3D network: whole, or in parts."""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor


def joint_group_norm(norm: Callable[[Tensor], Tensor], x: Tensor, frames: int) -> Tensor:
    """Applies a per-picture group ``norm`` to (batch * frames, channels, height, width), jointly over frames.

    A group norm over (batch, channels, frames, height, width) has the same statistics as one over
    (batch, channels, frames * height, width), so the host's own layer does the arithmetic.
    """
    if frames == 1:
        return norm(x)
    y = norm(rearrange(x, "(b f) c h w -> b c (f h) w", f=frames))
    return rearrange(y, "b c (f h) w -> (b f) c h w", f=frames)


class GroupStatistics:
    """Mean and variance over all frames of a clip, per group of channels, gathered in parts.

    Parts are combined as in Chan, Golub, LeVeque: "Updating formulae and a pairwise algorithm for computing sample
    variances" (1979), in float32, which unlike sums of squares loses no digits.
    """

    def __init__(self, groups: int) -> None:
        self.groups = groups
        self._count = 0
        self._mean = self._variance = torch.zeros(())  # until the first frames

    def add(self, x: Tensor) -> None:
        """Takes some more frames into account: (clips, frames, channels, height, width)."""
        values = x.unflatten(2, (self.groups, -1)).transpose(1, 2).flatten(2).float()
        variance, mean = torch.var_mean(values, dim=2, correction=0)
        if self._count == 0:
            self._count, self._mean, self._variance = values.shape[2], mean, variance
            return
        count = self._count + values.shape[2]
        share = values.shape[2] / count
        apart = mean - self._mean
        self._mean = self._mean + apart * share
        self._variance = torch.lerp(self._variance, variance, share) + apart**2 * (share * (1 - share))
        self._count = count

    def normalise(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        """Group norm of some of the frames, (clips, frames, channels, height, width), to the same shape and dtype."""
        width = x.shape[2] // self.groups

        def per_channel(statistic: Tensor) -> Tensor:
            return statistic.repeat_interleave(width, dim=1)

        scale = per_channel((self._variance + eps).rsqrt()) * weight.float()
        shift = bias.float() - per_channel(self._mean) * scale
        shape = (len(x), 1, x.shape[2], 1, 1)
        return torch.addcmul(shift.view(shape), x.float(), scale.view(shape)).to(x.dtype)
