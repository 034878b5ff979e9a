"""Reading clips: the right frames, at the right size and pace, or one plain sentence."""

import os
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tav_core.video.read import (
    VideoError,
    VideoInfo,
    check_readable,
    glance,
    largest_count,
    probe,
    read_frames,
    resample_indices,
    resampled_count,
    select,
)

ROOT = Path(__file__).parents[3]
UNEVEN_MS = (0, 40, 80, 500, 520, 540, 1000, 1010, 1200, 1300, 1400, 1500)


def grey_level(index: int) -> int:
    """Each frame of a test clip is one flat grey that tells its number."""
    return 20 + 10 * index


def shown(frames: torch.Tensor) -> list[int]:
    """The numbers of the clip's frames, read back from their grey, which codecs keep to a few levels."""
    return [round((float(frame.mean()) * 255 - 20) / 10) for frame in frames]


def write_clip(
    path: Path,
    frames: int = 12,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    fps: Fraction | int = 25,
    times_ms: tuple[int, ...] | None = None,
    aspect: Fraction | None = None,
    pictures: list[np.ndarray] | None = None,
    movflags: str = "",
    **options: str,
) -> Path:
    width, height = size
    with av.open(str(path), "w", options={"movflags": movflags} if movflags else {}) as container:
        stream = container.add_stream(codec, rate=Fraction(fps))
        stream.width, stream.height, stream.pix_fmt, stream.options = width, height, pixels, options
        if times_ms:
            stream.codec_context.time_base = Fraction(1, 1000)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for index in range(frames):
            picture = (
                pictures[index] if pictures else np.full((height, width, 3), grey_level(index), np.uint8)
            )
            frame = av.VideoFrame.from_ndarray(picture, format="rgba" if picture.shape[2] == 4 else "rgb24")
            if times_ms:
                frame.pts, frame.time_base = times_ms[index], Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def noise(frames: int, size: tuple[int, int] = (64, 48)) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 255, (size[1], size[0], 3), np.uint8) for _ in range(frames)]


def rotate_header(path: Path) -> Path:
    """Sets the display matrix in an mp4's track header to a quarter turn, as phones do."""
    data = bytearray(path.read_bytes())
    matrix = data.find(b"tkhd") + 4 + 4 + 20 + 8 + 8
    assert struct.unpack_from(">9i", data, matrix) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", data, matrix, 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


@pytest.fixture
def clip(tmp_path) -> Path:
    return write_clip(tmp_path / "clip.mp4")


def test_probe_measures_a_clip(clip):
    assert probe(clip) == VideoInfo(12, Fraction(25), 64, 48, 12 / 25, variable=False)


def test_probe_keeps_broadcast_rates_exact(tmp_path):
    assert probe(write_clip(tmp_path / "clip.mp4", fps=Fraction(30000, 1001))).fps == Fraction(30000, 1001)


def test_probe_counts_frames_instead_of_trusting_the_header(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", times_ms=UNEVEN_MS)
    assert glance(clip).frames != 12
    assert probe(clip).frames == 12


def test_reads_the_chosen_frames(clip):
    frames, selection = read_frames(clip, start=1, step=3, count=4, size=(32, 24))
    assert (frames.shape, frames.dtype) == ((4, 24, 32, 3), torch.float32)
    assert frames.min() >= 0 and frames.max() <= 1
    assert shown(frames) == [1, 4, 7, 10]
    assert selection.indices == (1, 4, 7, 10)
    assert selection.fps == Fraction(25, 3)
    assert (selection.source_width, selection.source_height) == (64, 48)


def test_colours_are_rgb_and_rounded(tmp_path):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[...] = (200, 100, 7)
    frames, _ = read_frames(
        write_clip(tmp_path / "clip.mkv", 1, codec="ffv1", pixels="bgr0", pictures=[picture]), count=1
    )
    assert torch.equal(frames[0, 0, 0] * 255, torch.tensor([200.0, 100.0, 7.0]))


def test_decodes_nothing_behind_the_last_chosen_frame(clip):
    seen = []
    read_frames(clip, start=2, step=2, count=3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 3), (0, 3), (1, 3), (1, 3), (2, 3), (2, 3), (3, 3)]


def test_progress_can_stop_the_reading(clip):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_frames(clip, count=2, progress=stop)


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "channels"),
    [
        ("mpeg4.mp4", "mpeg4", "yuv420p", 3),
        ("mjpeg.avi", "mjpeg", "yuvj420p", 3),
        ("vp9.webm", "libvpx-vp9", "yuv420p", 3),
        ("ten_bit.mp4", "libx264", "yuv420p10le", 3),
        ("sixteen_bit.mkv", "ffv1", "gray16le", 3),
        ("grey.mkv", "ffv1", "gray", 3),
        ("alpha.mov", "qtrle", "argb", 4),
        ("alpha.webm", "libvpx-vp9", "yuva420p", 4),
    ],
)
def test_codecs_and_pixel_formats(tmp_path, name, codec, pixels, channels):
    pictures = [np.full((48, 64, channels), grey_level(index), np.uint8) for index in range(6)]
    clip = write_clip(tmp_path / name, 6, codec=codec, pixels=pixels, pictures=pictures)
    frames, _ = read_frames(clip, count=6)
    assert frames.shape == (6, 48, 64, 3)
    assert shown(frames) == list(range(6))


def test_odd_sizes_are_cut_to_a_multiple_of_8(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", 2, size=(67, 45), codec="ffv1", pixels="bgr0")
    assert read_frames(clip, count=2)[0].shape == (2, 40, 64, 3)
    assert read_frames(clip, count=2, fit="pad")[0].shape == (2, 48, 72, 3)
    assert read_frames(clip, count=2, fit="stretch")[0].shape == (2, 48, 64, 3)


def test_rotation_metadata_turns_the_frames(tmp_path):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24] = 255
    clip = rotate_header(write_clip(tmp_path / "phone.mp4", 2, pictures=[picture, picture]))
    assert (probe(clip).width, probe(clip).height) == (48, 64)
    frames, selection = read_frames(clip, count=2)
    assert frames.shape == (2, 64, 48, 3)
    assert (selection.source_width, selection.source_height) == (48, 64)
    # A quarter turn clockwise brings the upper half to the right.
    assert frames[:, :, 28:].min() > 0.9 and frames[:, :, :20].max() < 0.1


def test_pixel_aspect_is_made_square(tmp_path):
    wide = write_clip(tmp_path / "wide.mp4", 2, aspect=Fraction(2, 1))
    assert (probe(wide).width, probe(wide).height) == (128, 48)
    assert read_frames(wide, count=2)[0].shape == (2, 48, 128, 3)
    turned = rotate_header(write_clip(tmp_path / "turned.mp4", 2, aspect=Fraction(2, 1)))
    assert (probe(turned).width, probe(turned).height) == (48, 128)


@pytest.mark.parametrize("name", ["uneven.mp4", "uneven.mkv"])
def test_variable_rate_counts_stored_frames_by_default(tmp_path, name):
    clip = write_clip(tmp_path / name, times_ms=UNEVEN_MS)
    info = probe(clip)
    assert info.variable
    assert float(info.fps) == pytest.approx(11 / 1.5, rel=1e-3)
    frames, selection = read_frames(clip, start=3, count=4)
    assert shown(frames) == [3, 4, 5, 6]
    # Three gaps between 500 and 1000 ms.
    assert float(selection.fps) == pytest.approx(3 / 0.5, rel=1e-3)


@pytest.mark.parametrize("name", ["uneven.mp4", "uneven.mkv"])
def test_variable_rate_is_evened_out_on_request(tmp_path, name):
    clip = write_clip(tmp_path / name, times_ms=UNEVEN_MS)
    frames, selection = read_frames(clip, count=16, fps=10)
    # What is on screen at 0, 100, 200, ... ms.
    expected = [0, 2, 2, 2, 2, 3, 5, 5, 5, 5, 6, 7, 8, 9, 10, 11]
    assert shown(frames) == expected
    assert selection.indices == tuple(expected)
    assert selection.fps == 10
    frames, selection = read_frames(clip, start=1, step=5, count=3, fps=10)
    assert selection.indices == (2, 5, 7)
    assert selection.fps == 2
    with pytest.raises(VideoError, match=r"at 10 frames per second has 16 frames.*at most 16 frames"):
        read_frames(clip, count=17, fps=10)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), 10**9])
def test_a_senseless_rate_is_refused(clip, fps):
    with pytest.raises(VideoError, match="fps must be"):
        read_frames(clip, count=1, fps=fps)


def test_gif(tmp_path):
    pictures = []
    for index in range(5):
        picture = Image.new("RGBA", (64, 48), (0, 0, 0, 0))
        picture.paste((grey_level(index),) * 3 + (255,), (0, 0, 32, 48))
        pictures.append(picture)
    path = tmp_path / "moving.gif"
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=[100, 100, 300, 100, 100], disposal=2
    )
    frames, _ = read_frames(path, count=5)
    assert shown(frames[:, :, :32]) == [0, 1, 2, 3, 4]
    assert torch.equal(frames[:, :, 32:], torch.ones(5, 48, 32, 3)), "transparent parts are white"
    assert probe(path).variable
    assert read_frames(path, count=7, fps=10)[1].indices == (0, 1, 2, 2, 2, 3, 4)


def test_size_changing_midway(tmp_path):
    first = write_clip(tmp_path / "a.ts", 6, codec="mpeg2video")
    second = write_clip(tmp_path / "b.ts", 6, size=(96, 80), codec="mpeg2video")
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    frames, _ = read_frames(both, count=10)
    assert frames.shape == (10, 48, 64, 3)


def test_a_stream_without_timestamps(tmp_path):
    clip = write_clip(tmp_path / "clip.h264", fps=25)
    assert probe(clip).fps == 25
    assert read_frames(clip, count=3, fps=5)[1].indices == (0, 5, 10)


def test_unicode_file_name(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4").rename(tmp_path / "Häschen 兔子 %03d.mp4")
    assert shown(read_frames(clip, count=2)[0]) == [0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b"hello, world. " * 30, "is a text file"),
        ("h\u00e9llo, w\u00f6rld. ".encode() * 60, "is a text file"),
        (b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/x.ts\n", "is a text file"),
        (bytes(range(256)) * 20, "is not a video"),
    ],
)
def test_what_is_no_video_is_named(tmp_path, content, message):
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    for read in (probe, check_readable, read_frames):
        with pytest.raises(VideoError, match=f"^clip.mp4 {message}.*: .*\\.$"):
            read(path)


def test_a_folder_is_named(tmp_path):
    with pytest.raises(VideoError, match=r"The folder \S+ holds no pictures"):
        probe(tmp_path)


def test_truncated_without_an_index(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", 30, pictures=noise(30))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoError, match="clip.mp4 is not a video that can be read, or it is damaged"):
        read_frames(path, count=1)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_truncated_behind_its_index(tmp_path, name):
    path = write_clip(tmp_path / name, 30, pictures=noise(30), movflags="faststart", g="5")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    whole = probe(path).frames
    assert 0 < whole < 30
    assert len(read_frames(path, count=whole)[0]) == whole
    with pytest.raises(VideoError) as error:
        read_frames(path, count=30)
    assert f"damaged or cut off: its header promises 1.2 s) has {whole} frames" in str(error.value)
    assert f"ask for at most {whole} frames" in str(error.value)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_corrupt_in_the_middle(tmp_path, name):
    path = write_clip(tmp_path / name, 30, pictures=noise(30), g="5")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) * 2 // 3] = np.random.default_rng(1).bytes(
        len(data) * 2 // 3 - len(data) // 2
    )
    path.write_bytes(data)
    readable = probe(path).frames
    assert 10 <= readable < 30
    assert len(read_frames(path, count=10)[0]) == 10
    with pytest.raises(VideoError, match=f"has {readable} frames.*at most {readable} frames"):
        read_frames(path, count=30)


def test_too_few_frames_says_what_would_work(clip):
    with pytest.raises(VideoError) as error:
        read_frames(clip, start=1, step=2, count=24)
    message = str(error.value)
    assert message.startswith("clip.mp4 has 12 frames, but 24 frames from frame 1 in steps of 2 need 48: ")
    assert "at most 6 frames" in message
    assert len(read_frames(clip, start=1, step=2, count=6)[0]) == 6


def test_start_behind_the_end(clip):
    with pytest.raises(
        VideoError, match="clip.mp4 has 12 frames, so it cannot start at frame 12: start at 11"
    ):
        read_frames(clip, start=12, count=1)


def test_a_clip_of_one_frame(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 1)
    frames, selection = read_frames(clip, count=1)
    assert (len(frames), selection.fps) == (1, 25)
    with pytest.raises(VideoError, match="clip.mp4 has only 1 frame, but 2 frames.* at most 1 frame,"):
        read_frames(clip, count=2)


@pytest.mark.parametrize("choice", [{"start": -1}, {"step": 0}, {"count": 0}, {"count": -5}])
def test_a_senseless_choice_is_refused(clip, choice):
    with pytest.raises(VideoError, match="must be 0 or more"):
        read_frames(clip, **choice)


def test_gigantic_numbers_end_in_the_same_sentence(clip):
    with pytest.raises(VideoError, match="at most 1 frame,"):
        read_frames(clip, start=11, step=10**15, count=10**15)
    with pytest.raises(VideoError, match="cannot start at frame"):
        read_frames(clip, start=10**18, count=10**18, fps=30)


@pytest.mark.parametrize(
    "read",
    [
        probe,
        check_readable,
        *(lambda path, fps=fps: read_frames(path, 0, 1, 2, fps=fps) for fps in (None, 10)),
    ],
)
def test_a_header_without_frames_is_told(tmp_path, read):
    path = write_clip(tmp_path / "headless.mkv")
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75") + 12])  # up to the first cluster of frames
    with pytest.raises(VideoError, match="No frame of headless.mkv can be decoded"):
        read(path)


def test_no_decoder_noise(tmp_path):
    """FFmpeg writes nothing of its own."""
    broken = write_clip(tmp_path / "broken.mkv", 30, pictures=noise(30))
    data = bytearray(broken.read_bytes())
    data[len(data) // 2 : len(data) * 2 // 3] = bytes(len(data) * 2 // 3 - len(data) // 2)
    broken.write_bytes(data)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(write_clip(tmp_path / "whole.mp4").read_bytes()[:900])
    script = """
import sys
from tav_core.video.read import VideoError, probe
for path in sys.argv[1:]:
    try:
        probe(path)
    except VideoError:
        pass
"""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OPENCV")}
    run = subprocess.run(
        [sys.executable, "-c", script, str(broken), str(cut)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (run.stdout, run.stderr) == ("", "")


def test_select_chooses_like_read_frames():
    images = torch.stack([torch.full((48, 64, 3), grey_level(index) / 255) for index in range(12)])
    frames, selection = select(images, start=1, step=3, count=4, size=(32, 24), source_fps=30)
    assert frames.shape == (4, 24, 32, 3)
    assert shown(frames) == [1, 4, 7, 10]
    assert (selection.fps, selection.source_width, selection.source_height) == (10, 64, 48)
    frames, selection = select(images, count=4, fps=8, source_fps=24)
    assert (shown(frames), selection.fps) == ([0, 3, 6, 9], 8)


def test_select_takes_alpha_and_grey_and_leaves_its_input_alone():
    images = torch.rand(2, 16, 16, 4)
    frames, _ = select(images, count=2)
    assert torch.equal(frames, images[..., :3])
    frames.zero_()
    assert images.max() > 0
    assert torch.equal(select(images[..., :1], count=1)[0], images[:1, ..., :1].expand(-1, -1, -1, 3))


def test_select_says_what_is_wrong():
    with pytest.raises(VideoError, match="The video has 3 frames, but 4 frames.*at most 3"):
        select(torch.zeros(3, 16, 16, 3), count=4)
    for shape in [(0, 16, 16, 3), (16, 16, 3), (3, 16, 16, 2)]:
        with pytest.raises(VideoError, match="no usable pictures"):
            select(torch.zeros(shape), count=1)


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(0, 450), st.integers(1, 60))
def test_largest_count_is_the_largest(total, start, step):
    assert largest_count(total, start, step) == len(range(start, total, step))


@settings(deadline=None)
@given(st.lists(st.floats(0.001, 3.0), min_size=0, max_size=30), st.fractions(Fraction(1, 4), 120))
def test_resampling_shows_what_is_on_screen(gaps, fps):
    times = [0.5, *(0.5 + np.cumsum(gaps))]
    count = resampled_count(times, fps)
    indices = resample_indices(times, fps, range(count))
    assert indices == sorted(indices)
    slack = 0.0016
    for slot, index in enumerate(indices):
        due = 0.5 + slot / float(fps)
        assert times[index] <= due + slack
        assert index == len(times) - 1 or times[index + 1] > due - slack


@settings(deadline=None)
@given(st.integers(1, 200), st.sampled_from([8, 24, Fraction(30000, 1001), 60]), st.integers(1, 4))
def test_resampling_an_even_clip_to_its_own_rate_changes_nothing(frames, fps, digits_lost):
    # Timestamps rounded as containers round them.
    times = [round(index / float(fps), 3 if digits_lost > 2 else 9) for index in range(frames)]
    assert resampled_count(times, fps) == frames
    assert resample_indices(times, fps, range(frames)) == list(range(frames))
