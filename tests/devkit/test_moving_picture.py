"""The animated picture of a clip and its edits."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from devkit import moving_picture
from devkit.say import DevError
from devkit.video import moving_square, write_video

LOAD = {"start_frame": 1, "frame_stride": 2, "frame_count": 3, "width": 64, "height": 48, "fit": "crop"}


@pytest.fixture
def edited(tmp_path):
    return write_video(tmp_path / "edited.mp4", 255 - moving_square(3)[:, :48], fps=4.0)


def test_source_and_edit_stand_side_by_side_at_the_edit_s_pace(tmp_path, clip_file, edited) -> None:
    target = tmp_path / "deep" / "edit.webp"
    moving_picture.moving_picture(target, clip_file, LOAD, [("a cat", edited)], "a square")
    with Image.open(target) as picture:
        assert picture.n_frames == 3 and picture.info["loop"] == 0
        assert picture.width >= 2 * moving_picture._WIDTH
        picture.seek(1)
        picture.load()
        assert picture.info["duration"] == 250
        shown = np.asarray(picture.convert("RGB"), dtype=float)
    left, right = np.split(shown[-200:, : shown.shape[1] // 2 * 2], 2, axis=1)
    # Below the captions, the edit is the source's negative.
    assert abs(left.mean() + right.mean() - 255) < 30 and abs(left.mean() - right.mean()) > 20


def test_a_picture_that_stays_too_large_is_refused(tmp_path, clip_file, edited, monkeypatch) -> None:
    monkeypatch.setattr(moving_picture, "LARGEST", 100)
    with pytest.raises(DevError, match="give --frames a smaller number"):
        moving_picture.moving_picture(
            tmp_path / "edit.webp", clip_file, LOAD, [("a cat", edited)], "a square"
        )
    assert not (tmp_path / "edit.webp").exists()
