"""Peak signal-to-noise ratio, of whole pictures or of a part of them."""

import math

import torch
from torch import Tensor


def psnr(frames: Tensor, reference: Tensor, mask: Tensor | None = None) -> float:
    """PSNR in dB of ``frames`` against ``reference`` (F, H, W, 3) in 0..1: -10 log10 of the mean squared error.

    The error is averaged over all frames before the logarithm. With ``mask`` (F, H, W) or (H, W), only pixels
    where it is above one half count: "masked PSNR", with a mask of what an edit should leave alone, is the usual
    measure of how well it did (FateZero, arXiv 2303.09535, and later video editors). Infinite for equal pixels,
    NaN if no pixel counts.
    Raises ValueError if the shapes differ.
    """
    error, weight = _squared_error(frames, reference, mask)
    return _decibels(float(error.sum()), float(weight.sum()) * frames.shape[-1])


def frame_psnr(frames: Tensor, reference: Tensor, mask: Tensor | None = None) -> list[float]:
    """`psnr` of each frame by itself."""
    error, weight = _squared_error(frames, reference, mask)
    channels = frames.shape[-1]
    return [_decibels(float(e.sum()), float(w.sum()) * channels) for e, w in zip(error, weight, strict=True)]


def _squared_error(frames: Tensor, reference: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Squared error (F, H, W, C) where the mask is, zero elsewhere; and the mask (F, H, W) as 0 or 1."""
    if frames.shape != reference.shape or frames.ndim != 4:
        raise ValueError(
            f"the frames are {list(frames.shape)} and the reference {list(reference.shape)}; both must be the "
            "same (frames, height, width, channels)"
        )
    shape = frames.shape[:3]
    if mask is None:
        weight = torch.ones(shape, dtype=torch.float64)
    elif mask.shape not in (shape, shape[1:], (1, *shape[1:])):
        raise ValueError(f"the mask is {list(mask.shape)} for frames of {list(shape)}")
    else:
        weight = (mask.detach().cpu() > 0.5).double().expand(shape)
    difference = frames.detach().cpu().double() - reference.detach().cpu().double()
    return difference.square() * weight[..., None], weight


def _decibels(total: float, count: float) -> float:
    if count == 0:
        return math.nan
    return math.inf if total == 0 else -10 * math.log10(total / count)
