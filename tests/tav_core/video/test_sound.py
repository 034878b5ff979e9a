"""Sound follows the frames that are taken, and mp4 files carry it."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tav_core.video.read import read_frames
from tav_core.video.sound import Sound, read_sound
from tav_core.video.write import save_video

RATE = 8000
SECONDS = 3


def ramp(seconds: float = SECONDS) -> torch.Tensor:
    """Stereo whose loudness tells the time."""
    time = torch.arange(int(seconds * RATE)) / RATE
    tone = torch.sin(2 * torch.pi * 400 * time) * (0.1 + 0.25 * time)
    return torch.stack([tone, -tone])


def loudness(sound: Sound) -> list[float]:
    """Root mean square of each tenth of a second."""
    parts = sound.waveform[0].split(RATE // 10)
    return [float(part.square().mean().sqrt()) for part in parts]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "clip.mp4"
    frames = torch.linspace(0.1, 0.9, SECONDS * 10)[:, None, None, None].expand(-1, 32, 48, 3)
    save_video(path, frames, 10, Sound(ramp(), RATE))
    return path


def test_an_mp4_is_what_browsers_play(clip):
    with av.open(str(clip)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.pix_fmt, video.average_rate) == ("h264", "yuv420p", 10)
        assert audio.codec_context.name == "aac"
    data = clip.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_frames_come_back(clip):
    frames, selection = read_frames(clip, count=SECONDS * 10)
    assert selection.fps == 10
    expected = torch.linspace(0.1, 0.9, SECONDS * 10)
    assert (frames.mean(dim=(1, 2, 3)) - expected).abs().max() < 0.01


@pytest.mark.parametrize("begin", [0.0, 0.7, 1.95])
def test_sound_is_cut_where_the_frames_are(clip, begin):
    sound = read_sound(clip, begin, 1.0)
    assert sound.waveform.shape == (2, RATE) and sound.rate == RATE
    for tenth, level in enumerate(loudness(sound)):
        middle = begin + tenth / 10 + 0.05
        assert level == pytest.approx((0.1 + 0.25 * middle) / 2**0.5, rel=0.12)


def test_silence_fills_up_what_the_clip_has_not(clip):
    sound = read_sound(clip, 2.5, 1.0)
    assert sound.waveform.shape == (2, RATE)
    assert float(sound.waveform[:, : RATE // 4].abs().max()) > 0.3
    assert float(sound.waveform[:, RATE * 3 // 4 :].abs().max()) < 0.01


def test_a_clip_without_sound_has_none(tmp_path):
    save_video(tmp_path / "silent.mp4", torch.rand(3, 16, 16, 3), 8)
    assert read_sound(tmp_path / "silent.mp4", 0, 1) is None
    save_video(tmp_path / "pictures", torch.rand(3, 16, 16, 3), 8)
    assert read_sound(tmp_path / "pictures", 0, 1) is None


def test_colours_survive_the_way_into_a_file(tmp_path):
    colour = torch.tensor([0.8, 0.25, 0.1])
    save_video(tmp_path / "red.mp4", colour.expand(2, 64, 64, 3), 8)
    frames, _ = read_frames(tmp_path / "red.mp4", count=2)
    assert (frames[1, 30, 30] - colour).abs().max() < 0.015


def test_pictures_are_numbered_and_exact(tmp_path):
    frames = torch.randint(0, 256, (3, 16, 24, 3)) / 255
    save_video(tmp_path / "out", frames, 8)
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [
        "00000.png",
        "00001.png",
        "00002.png",
    ]
    again, _ = read_frames(tmp_path / "out", count=3)
    assert torch.equal(again, frames)


def test_a_video_under_its_name_is_a_whole_one(tmp_path):
    with pytest.raises(ValueError, match="even sides"):
        save_video(tmp_path / "odd.mp4", torch.rand(2, 15, 16, 3), 8)
    assert list(tmp_path.iterdir()) == []


def test_loudness_is_kept(clip):
    """AAC is lossy; the whole track comes back within a few per cent."""
    sound = read_sound(clip, 0, SECONDS)
    assert np.corrcoef(sound.waveform[0], ramp()[0])[0, 1] > 0.95
