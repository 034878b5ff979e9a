"""High dynamic range to standard: PQ and HLG pictures as BT.709 with sRGB's curve."""

import logging

import numpy as np

PQ, HLG = 16, 18
"""FFmpeg's numbers of the transfer functions SMPTE ST 2084 and ARIB STD-B67."""

_REFERENCE_WHITE = 203.0
"""Nits of diffuse white in HDR (ITU-R BT.2408)."""

_PEAK = 1000.0
"""Nits that become full white; HLG's nominal display (ITU-R BT.2100)."""

# BT.2020's primaries to BT.709's, for linear light (ITU-R BT.2087).
_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
_said: set[str] = set()


def tone_map(picture: np.ndarray, transfer: int, name: str) -> np.ndarray:
    """A picture (H, W, 3), uint16 RGB in BT.2020 with the curve ``transfer``, as uint8 RGB in BT.709.

    Light is compressed by Reinhard's curve, extended so that 1,000 nits are white. The log says so once for each
    ``name``.
    """
    if name not in _said:
        _said.add(name)
        logging.getLogger(__name__).info("%s is HDR; its frames are tone-mapped to standard range.", name)
    signal = picture.astype(np.float32) / 65535
    nits = _pq(signal) if transfer == PQ else _hlg(signal)
    light = np.maximum((nits / _REFERENCE_WHITE) @ _TO_BT709.T, 0)
    brightest = light.max(axis=2, keepdims=True)
    white = _PEAK / _REFERENCE_WHITE
    # The same factor for all three keeps the hue.
    light *= (1 + brightest / white**2) / (1 + brightest)
    light = np.clip(light, 0, 1)
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (srgb * 255).round().astype(np.uint8)


def _pq(signal: np.ndarray) -> np.ndarray:
    """Nits from SMPTE ST 2084's signal in 0..1."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = signal ** (1 / m2)
    return 10000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)


def _hlg(signal: np.ndarray) -> np.ndarray:
    """Nits on a display of 1,000 nits from ARIB STD-B67's signal in 0..1 (ITU-R BT.2100, system gamma 1.2)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593], np.float32)
    return _PEAK * np.maximum(luminance, 1e-6)[..., None] ** 0.2 * scene
