"""Fitting a frame to a size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tav_core.video.fit import FITS, fit_frame, letterbox, target_size

SIDES = st.integers(8, 200)


def gradient(width: int, height: int) -> np.ndarray:
    """Red tells the column, green the row, both 0..255 from edge to edge."""
    frame = np.zeros((height, width, 3), np.float32)
    frame[..., 0] = np.linspace(0, 1, width)
    frame[..., 1] = np.linspace(0, 1, height)[:, None]
    return (frame * 255).round().astype(np.uint8)


@pytest.mark.parametrize(
    ("source", "size", "fit", "expected"),
    [
        ((718, 718), (512, 512), "crop", (512, 512)),
        ((718, 718), (515, 509), "crop", (512, 504)),
        ((718, 718), (3, 3), "crop", (8, 8)),
        ((718, 717), None, "crop", (712, 712)),
        ((718, 717), (0, 0), "pad", (720, 720)),
        ((717, 715), None, "stretch", (720, 712)),
        ((1920, 1080), (512, 0), "crop", (512, 288)),
        ((1920, 1080), (0, 512), "crop", (912, 512)),
        ((5, 5), None, "crop", (8, 8)),
    ],
)
def test_target_size(source, size, fit, expected):
    assert target_size(source, size, fit) == expected


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(0, 120), st.integers(0, 120), st.sampled_from(FITS))
def test_any_size_is_met_with_multiples_of_8(width, height, target_width, target_height, fit):
    frame = gradient(width, height)
    fitted = fit_frame(frame, (target_width, target_height), fit)
    expected = target_size((width, height), (target_width, target_height), fit)
    assert fitted.shape == (expected[1], expected[0], 3)
    assert fitted.dtype == np.uint8
    assert not any(side % 8 for side in expected)


def test_senseless_requests_are_refused():
    with pytest.raises(ValueError, match="fit must be one of crop, pad, stretch"):
        fit_frame(gradient(16, 16), (8, 8), "cover")
    with pytest.raises(ValueError, match="must not be negative"):
        target_size((16, 16), (-8, 8), "crop")


def test_crop_keeps_the_centre():
    fitted = fit_frame(gradient(400, 100), (64, 64), "crop")
    assert fitted[..., 0].min() == pytest.approx(255 * 150 / 400, abs=3)
    assert fitted[..., 0].max() == pytest.approx(255 * 250 / 400, abs=3)
    assert fitted[..., 1].min() <= 2 and fitted[..., 1].max() >= 253


def test_pad_keeps_everything_between_black_bars():
    fitted = fit_frame(gradient(400, 100), (64, 64), "pad")
    assert not fitted[:24].any() and not fitted[40:].any()
    assert fitted[24:40, :, 0].max() >= 252
    assert fitted[39, :, 1].min() >= 245


def test_stretch_keeps_everything_without_bars():
    fitted = fit_frame(gradient(400, 100), (64, 64), "stretch")
    assert fitted[-1, -1, :2].min() >= 250
    assert fitted[0, 0].max() <= 4


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_keeping_the_size_never_resamples(fit):
    frame = np.random.default_rng(0).integers(0, 255, (45, 67, 3), np.uint8)
    fitted = fit_frame(frame, None, fit)
    if fit == "crop":
        assert np.array_equal(fitted, frame[2:42, 1:65])
    else:
        assert np.array_equal(fitted[1:46, 2:69], frame)


def test_shrinking_averages_and_rounds():
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    frame = np.repeat(checks[..., None], 3, 2).astype(np.uint8)
    assert set(np.unique(fit_frame(frame, (16, 16)))) == {128}


def test_float_frames_stay_in_range():
    frame = np.zeros((16, 16, 3), np.float32)
    frame[:, 8:] = 1
    enlarged = fit_frame(frame, (64, 64))
    assert enlarged.dtype == np.float32
    assert enlarged.min() >= 0 and enlarged.max() <= 1


def test_one_side_may_grow_while_the_other_shrinks():
    fitted = fit_frame(gradient(400, 20), (64, 64), "stretch")
    assert fitted.shape == (64, 64, 3)
    assert np.abs(fitted[32, :, 0].astype(int) - np.linspace(0, 255, 64)).max() <= 4


def test_letterbox_takes_any_size():
    assert letterbox(gradient(30, 20), 33, 31).shape == (31, 33, 3)
