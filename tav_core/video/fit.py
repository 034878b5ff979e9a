"""Fitting single frames to a size: crop, pad or stretch to a multiple of 8."""

from collections.abc import Callable

import numpy as np
from PIL import Image

FITS = ("crop", "pad", "stretch")
MULTIPLE = 8


def target_size(source: tuple[int, int], size: tuple[int, int] | None, fit: str) -> tuple[int, int]:
    """Turns a wished (width, height) into one that both the VAE and ``fit`` can live with.

    A wished side is rounded down to a multiple of 8 (8 at least). A side of 0 follows the other one by
    the source's aspect. None, or (0, 0), keeps the source's size up to the next multiple of 8: the
    smaller one for "crop", the larger one for "pad", the nearest one for "stretch".

    Raises ValueError for an unknown fit or a negative side.
    """
    if fit not in FITS:
        raise ValueError(f"fit must be one of {', '.join(FITS)}, not {fit!r}")
    width, height = size or (0, 0)
    if width < 0 or height < 0:
        raise ValueError(f"width and height must not be negative, got {width} x {height}")
    rounding: Callable[[float], float]
    if not width and not height:
        rounding = np.floor if fit == "crop" else np.ceil if fit == "pad" else np.round
        return _multiple(source[0], rounding), _multiple(source[1], rounding)
    source_width, source_height = source
    wide = width or height * source_width / source_height
    high = height or width * source_height / source_width
    rounding = np.floor if size and all(size) else np.round
    return _multiple(wide, rounding), _multiple(high, rounding)


def fit_frame(frame: np.ndarray, size: tuple[int, int] | None, fit: str = "crop") -> np.ndarray:
    """Fits one frame (H, W, C), uint8 or float32 in 0..1, to a (width, height) as ``target_size`` reads it.

    "crop" keeps the centre, "pad" adds black bars, "stretch" changes the aspect. With no size asked for,
    "crop" and "pad" only cut or add a few pixels at the edges and never resample. The result may be a view.
    """
    height, width = frame.shape[:2]
    target = target_size((width, height), size, fit)
    keeps_size = not size or not any(size)
    if fit == "stretch":
        return resize(frame, *target)
    if keeps_size:
        return _place(frame, *target)
    if fit == "pad":
        return letterbox(frame, *target)
    scale = max(target[0] / width, target[1] / height)
    # Cutting before scaling keeps the intermediate picture small whatever the aspect.
    window = (min(width, max(1, round(target[0] / scale))), min(height, max(1, round(target[1] / scale))))
    return resize(_place(frame, *window), *target)


def letterbox(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    """Scales one frame (H, W, C) to fit inside width x height pixels, with black bars for the rest."""
    source_height, source_width = frame.shape[:2]
    scale = min(width / source_width, height / source_height)
    inner = (
        min(width, max(1, round(source_width * scale))),
        min(height, max(1, round(source_height * scale))),
    )
    return _place(resize(frame, *inner), width, height)


def _multiple(side: float, rounding: Callable[[float], float]) -> int:
    return max(MULTIPLE, int(rounding(side / MULTIPLE)) * MULTIPLE)


def resize(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    """Scales one frame (H, W, C): area averaging for every side that shrinks, Lanczos for every side that grows."""
    source_height, source_width = frame.shape[:2]
    smaller = min(width, source_width), min(height, source_height)
    if smaller != (source_width, source_height):
        frame = _scaled(frame, smaller, Image.Resampling.BOX)
    if smaller != (width, height):
        frame = _scaled(frame, (width, height), Image.Resampling.LANCZOS)
        if frame.dtype != np.uint8:
            # Lanczos overshoots at edges; Pillow saturates integers only.
            np.clip(frame, 0.0, 1.0, out=frame)
    return frame


def _scaled(frame: np.ndarray, size: tuple[int, int], filter: Image.Resampling) -> np.ndarray:
    if frame.dtype == np.uint8 and frame.shape[2] == 3:
        return np.array(Image.fromarray(np.ascontiguousarray(frame)).resize(size, filter))
    # Pillow knows no float picture of several channels.
    channels = (Image.fromarray(np.ascontiguousarray(channel)) for channel in np.moveaxis(frame, 2, 0))
    return np.stack([np.array(channel.resize(size, filter)) for channel in channels], axis=2)


def _place(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    """Centres the frame on a black canvas of the given size, cutting what sticks out, without scaling."""
    source_height, source_width = frame.shape[:2]
    left, top = max(0, source_width - width) // 2, max(0, source_height - height) // 2
    kept = frame[top : top + height, left : left + width]
    if kept.shape[:2] == (height, width):
        return kept
    canvas = np.zeros((height, width, frame.shape[2]), frame.dtype)
    left, top = (width - kept.shape[1]) // 2, (height - kept.shape[0]) // 2
    canvas[top : top + kept.shape[0], left : left + kept.shape[1]] = kept
    return canvas
