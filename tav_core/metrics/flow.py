"""Dense optical flow by OpenCV, warping along it, and where it cannot be trusted."""

import cv2
import numpy as np

_LEAST_SIDE = 32


def optical_flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Flow (H, W, 2) in pixels (x, y) that carries ``first`` to ``second``, both uint8 RGB (H, W, 3).

    Dense inverse search (Kroeger et al., arXiv 1603.03590) in OpenCV's medium preset, down to full resolution.
    Pictures smaller than 32 pixels are enlarged for it.
    """
    height, width = first.shape[:2]
    scale = max(1, -(-_LEAST_SIDE // min(height, width)))
    greys = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in (first, second)]
    if scale > 1:
        greys = [cv2.resize(grey, None, fx=scale, fy=scale) for grey in greys]
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    flow = search.calc(*greys, None)
    if scale > 1:
        flow = cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA) / scale
    return flow


def warp(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """``picture`` (H, W, C), float32, looked up where ``flow`` (H, W, 2) leads: result(p) = picture(p + flow(p))."""
    height, width = flow.shape[:2]
    across, down = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(
        np.ascontiguousarray(picture, np.float32),
        across + flow[..., 0].astype(np.float32),
        down + flow[..., 1].astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def occluded(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Where (bool (H, W)) the pixels of the first picture have no counterpart in the second.

    There, flow and flow back do not cancel, or lead outside, or the flow has an edge (Ruder et al.,
    arXiv 1604.08610, section 3.4, whose constants these are; Lai et al. 2018 use them too).
    """
    height, width = forward.shape[:2]
    back = warp(backward, forward)
    sum_squared = np.square(forward + back).sum(-1)
    lengths = np.square(forward).sum(-1) + np.square(back).sum(-1)
    differs = sum_squared > 0.01 * lengths + 0.5
    down, across = np.gradient(forward, axis=(0, 1))
    edge = np.square(down).sum(-1) + np.square(across).sum(-1) > 0.01 * np.square(forward).sum(-1) + 0.002
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    x, y = columns + forward[..., 0], rows + forward[..., 1]
    outside = (x < 0) | (y < 0) | (x > width - 1) | (y > height - 1)
    return differs | edge | outside
