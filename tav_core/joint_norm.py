"""Group norm whose statistics run over all frames of a clip, as the official 3-D network's do."""

from collections.abc import Callable

from torch import Tensor

NORM_MODES = ("joint", "per frame")


def joint_group_norm(norm: Callable[[Tensor], Tensor], x: Tensor, frames: int) -> Tensor:
    """Applies a per-picture group ``norm`` to (batch * frames, channels, height, width), jointly over frames.

    A group norm over (batch, channels, frames, height, width) has the same statistics as one over
    (batch, channels, frames * height, width), so the host's own layer does the arithmetic.
    """
    if frames == 1:
        return norm(x)
    rows, channels, height, width = x.shape
    clips = x.reshape(-1, frames, channels, height, width).transpose(1, 2)
    y = norm(clips.reshape(-1, channels, frames * height, width))
    return (
        y.reshape(-1, channels, frames, height, width).transpose(1, 2).reshape(rows, channels, height, width)
    )
