"""The picture of the loss."""

import numpy as np
import pytest

from tav_core.tuning.loss_curve import loss_curve, smooth


def pixels(*args, **kwargs):
    return np.asarray(loss_curve(*args, **kwargs)).astype(int)


def dark_blue(image):
    """Where the smoothed curve runs: (rows, columns)."""
    return np.nonzero(image[..., 2] - image[..., 0] > 100)


def test_smooth_is_a_trailing_mean():
    assert smooth([1.0, 3.0, 5.0, 7.0], 2).tolist() == [1.0, 2.0, 4.0, 6.0]
    assert smooth([1.0, 3.0, 5.0], 1).tolist() == [1.0, 3.0, 5.0]
    assert smooth([1.0, 3.0], 10).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("size", [(512, 288), (200, 100)])
def test_a_falling_loss_is_drawn_as_a_falling_line(size):
    image = pixels(np.linspace(2, 1, 50).tolist(), 50, "loss", size)
    assert image.shape == (size[1], size[0], 3)
    rows, columns = dark_blue(image)
    left, right = rows[columns < size[0] // 4], rows[columns > size[0] * 3 // 4]
    assert left.mean() + 20 < right.mean()  # downwards on paper


def test_the_axis_spans_all_steps_from_the_beginning():
    _, columns = dark_blue(pixels([2.0, 1.5, 1.2, 1.1, 1.0], 50, ""))
    assert len(columns)
    assert columns.max() < 512 * 0.15
    _, columns = dark_blue(pixels([2.0, 1.0] * 25, 50, ""))
    assert columns.max() > 512 * 0.9


def test_the_caption_is_drawn():
    assert (pixels([1.0], 10, "step 1/10") != pixels([1.0], 10, "")).any()


@pytest.mark.parametrize("losses", [[1.0], [0.5, 0.5, 0.5], [1e-8, 1e8], [1.0] * 20])
def test_unusual_curves_are_drawn_too(losses):
    image = pixels(losses, 10, "a caption with ümläuts")
    assert (image != 255).any()
