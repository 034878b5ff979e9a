"""Animated pictures and folders of pictures as clips."""

import numpy as np
import pytest
import torch
from PIL import Image, features

from tav_core.video.read import VideoError, probe, read_frames, strip


def drawn(number: int, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (48, 32), (20 + 10 * number,) * 3 + ((255,) if mode == "RGBA" else ()))


def shown(frames: torch.Tensor) -> list[int]:
    return [round((float(frame.mean()) * 255 - 20) / 10) for frame in frames]


@pytest.mark.parametrize("suffix", [".webp", ".png", ".apng", ".avif"])
def test_animations(tmp_path, suffix):
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / f"moving{suffix}"
    pictures = [drawn(number) for number in range(6)]
    kind = {"format": "PNG"} if suffix == ".apng" else {}
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=[100, 100, 300, 100, 100, 100], **kind
    )
    frames, selection = read_frames(path, 1, 2, 3)
    assert shown(frames) == [1, 3, 5]
    assert (selection.source_width, selection.source_height) == (48, 32)
    assert probe(path).frames == 6 and probe(path).variable
    assert read_frames(path, count=8, fps=10)[1].indices == (0, 1, 2, 2, 2, 3, 4, 5)
    assert len(strip(path, 4, (24, 16))) == 4


def test_a_still_picture_is_not_a_clip(tmp_path):
    drawn(1).save(tmp_path / "still.webp")
    with pytest.raises(VideoError, match="single picture, not a clip"):
        read_frames(tmp_path / "still.webp", count=1)


def test_white_shows_through_what_is_transparent(tmp_path):
    path = tmp_path / "cut-out.webp"
    pictures = [Image.new("RGBA", (16, 16), (0, 0, 0, 0)), Image.new("RGBA", (16, 16), (0, 0, 255, 255))]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100, lossless=True)
    frames, _ = read_frames(path, count=2)
    assert torch.equal(frames[0], torch.ones(16, 16, 3))


def test_a_folder_counts_as_people_do(tmp_path):
    for number in range(12):
        drawn(number).save(tmp_path / f"frame_{number}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    frames, selection = read_frames(tmp_path, 8, 1, 4)
    assert shown(frames) == [8, 9, 10, 11]
    assert selection.fps == 25


def test_a_folder_turns_pictures_as_their_exif_says(tmp_path):
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    for number in range(2):
        Image.fromarray(picture).save(tmp_path / f"{number}.jpg", exif=exif)
    assert read_frames(tmp_path, count=2)[0].shape == (2, 48, 32, 3)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "holds no pictures"),
        ({"0.png": (48, 32), "1.png": (32, 32)}, r"1\.png has 32 x 32 pixels and 0\.png 48 x 32"),
    ],
)
def test_a_folder_that_is_not_a_clip(tmp_path, files, sentence):
    for name, size in files.items():
        Image.new("RGB", size).save(tmp_path / name)
    with pytest.raises(VideoError, match=sentence):
        read_frames(tmp_path, count=2)


@pytest.mark.parametrize("name", ["0.png", "moving.webp"])
def test_a_damaged_picture_is_named(tmp_path, name):
    if name.endswith("webp"):
        drawn(0).save(tmp_path / name, save_all=True, append_images=[drawn(1)], lossless=True)
    else:
        drawn(0).save(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(VideoError, match=name):
        read_frames(tmp_path if name == "0.png" else tmp_path / name, count=2)
