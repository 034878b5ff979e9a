"""Warping error: whether what moves keeps its look."""

import numpy as np
from torch import Tensor

from .flow import occluded, optical_flow, warp


def warping_error(frames: Tensor, source: Tensor | None = None) -> float:
    """Mean squared difference between each frame and the next one carried back along the optical flow.

    ``frames`` (F, H, W, 3) in 0..1. The flow, and with it the pixels left out because they are covered or leave
    the picture, is that of ``source`` (same shape), so that an edit that moves otherwise or flickers is found
    out; without it, that of ``frames``. Lai et al. 2018 (arXiv 1808.00449, eq. 8, and their evaluate_WarpError.py):
    averaged over pixels and channels of each pair, then over the pairs; here with OpenCV's flow in place of
    FlowNet2. Published tables often show it times 1000. NaN for fewer than two frames.
    Raises ValueError if the shapes differ.
    """
    motion = frames if source is None else source
    if motion.shape != frames.shape or frames.ndim != 4:
        raise ValueError(f"the frames are {list(frames.shape)} but the source is {list(motion.shape)}")
    pictures, sources = _bytes(frames).astype(np.float32) / 255, _bytes(motion)
    errors = [
        _pair_error(*pictures[index : index + 2], *sources[index : index + 2])
        for index in range(len(pictures) - 1)
    ]
    return float(np.mean(errors)) if errors else float("nan")


def _pair_error(first: np.ndarray, second: np.ndarray, source: np.ndarray, source_next: np.ndarray) -> float:
    forward = optical_flow(source, source_next)
    seen = ~occluded(forward, optical_flow(source_next, source))
    difference = np.square(warp(second, forward) - first)
    # As in the original: if nothing is seen twice, the pair says nothing and counts as zero.
    return float(difference[seen].mean()) if seen.any() else 0.0


def _bytes(frames: Tensor) -> np.ndarray:
    return (frames.detach().cpu().float().clamp(0, 1) * 255).round().byte().numpy()
