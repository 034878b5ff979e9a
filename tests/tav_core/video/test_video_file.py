"""Video files of many kinds: the frames that PyAV decodes one by one from the start, found quickly."""

import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import ColorRange, Colorspace

from tav_core.video.read import VideoError, glance, read_frames, strip
from tav_core.video.video_file import VideoFile

SIZE = (96, 64)


def picture(number: int) -> np.ndarray:
    """A gradient with a bar that moves and a grey level that counts."""
    width, height = SIZE
    out = np.zeros((height, width, 3), np.uint8)
    out[..., 0] = np.linspace(0, 255, width)
    out[..., 1] = np.linspace(0, 255, height)[:, None]
    out[..., 2] = number * 7 % 256
    out[:, number * 3 % width] = 255
    return out


def write(
    path: Path, frames: int = 12, codec: str = "libx264", pixels: str = "yuv420p", **options: str
) -> Path:
    """A clip of `picture`; an option that begins with an underscore is set on the codec's context."""
    context = {name[1:]: value for name, value in options.items() if name.startswith("_")}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, pixels
        stream.options = {name: value for name, value in options.items() if not name.startswith("_")}
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def decoded(path: Path) -> list[np.ndarray]:
    """All frames, by PyAV alone."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def assert_shows(frames: torch.Tensor, expected: list[np.ndarray]) -> None:
    assert torch.equal(frames, torch.from_numpy(np.stack(expected)) / 255)


KINDS = {
    "b-frames.mp4": {"g": "50", "bf": "3"},
    "b-frames.mkv": {"g": "50", "bf": "3"},
    "open-gop.ts": {"g": "30", "bf": "3", "x264-params": "open-gop=1"},
    "mpeg2.mpg": {"codec": "mpeg2video", "g": "15", "bf": "2", "b": "4000000"},
    "hevc.mp4": {"codec": "libx265", "x265-params": "keyint=40:log-level=none"},
    "vp9.webm": {"codec": "libvpx-vp9", "g": "40", "deadline": "realtime", "cpu-used": "8"},
    "av1.mp4": {"codec": "libsvtav1", "g": "40", "preset": "12"},
    "mjpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "mpeg4.avi": {"codec": "mpeg4", "g": "30"},
}


@pytest.mark.parametrize("name", KINDS)
def test_frames_far_into_a_clip_are_the_same_as_by_decoding_all(tmp_path, name):
    path = write(tmp_path / name, 160, **KINDS[name])
    every = decoded(path)
    assert len(every) >= 158
    for start, step, count in ((0, 1, 3), (130, 1, 8), (3, 49, 4), (125, 16, 3)):
        frames, _ = read_frames(path, start, step, count)
        assert_shows(frames, every[start : start + step * count : step])


def test_seeking_decodes_a_small_part_of_a_long_clip(tmp_path, monkeypatch):
    path = write(tmp_path / "long.mp4", 900, g="30")
    count = 0
    raw = VideoFile._raw

    def counted(self):
        nonlocal count
        for frame in raw(self):
            count += 1
            yield frame

    monkeypatch.setattr(VideoFile, "_raw", counted)
    read_frames(path, 850, 2, 4)
    assert count <= 90
    count = 0
    assert len(strip(path, 10, (48, 32))) == 10
    assert count < 40


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("h264.mts", {"x264-params": "tff=1:interlaced=1"}),
        ("h264.mp4", {"x264-params": "bff=1:interlaced=1"}),
        ("mpeg2.mpg", {"codec": "mpeg2video", "flags": "+ilme+ildct", "b": "4000000"}),
    ],
)
def test_interlaced_frames_are_deinterlaced(tmp_path, name, options):
    """The two halves of each frame are made whole: near the source, every frame, the same at each reading."""
    path = write(tmp_path / name, 20, **options)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    frames, _ = read_frames(path, 2, 3, 5)
    again, _ = read_frames(path, 2, 3, 5)
    assert torch.equal(frames, again)
    for frame, number in zip(frames, (2, 5, 8, 11, 14), strict=True):
        expected = torch.from_numpy(decoded(path)[number]) / 255
        assert (frame - expected).abs().mean() < 0.06


@pytest.mark.parametrize("space", ["ITU601", "ITU709"])
@pytest.mark.parametrize("full", [False, True])
def test_colours_follow_the_file_s_tags(tmp_path, space, full):
    path = tmp_path / "tagged.mp4"
    colour = (200, 60, 30)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.colorspace = 1 if space == "ITU709" else 6
        stream.codec_context.color_range = 2 if full else 1
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), colour, np.uint8), format="rgb24")
        frame = frame.reformat(
            format="yuv420p",
            dst_colorspace=Colorspace[space],
            dst_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        )
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    frames, _ = read_frames(path, count=1)
    assert np.abs(frames[0, 20, 30].numpy() * 255 - colour).max() <= 3


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv422p10le"])
def test_ten_bits(tmp_path, pixels):
    path = write(tmp_path / "deep.mkv", 3, pixels=pixels, crf="5")
    frames, _ = read_frames(path, count=3)
    assert (frames - torch.from_numpy(np.stack([picture(n) for n in range(3)])) / 255).abs().mean() < 0.03


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_tone_mapped_and_said_once(tmp_path, transfer, caplog):
    """Mid grey stays between black and white, a highlight is brighter, and the curve alone would be far off."""
    level = {16: 0.58, 18: 0.75}[transfer]  # the signal of 203 nits, diffuse white
    path = tmp_path / f"hdr-{transfer}.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = (
            9,
            9,
            transfer,
            1,
        )
        grey = np.zeros((64, 64, 3), np.uint16)
        grey[:, :32] = int(level * 65535)
        grey[:, 32:] = int(min(1.0, level * 1.3) * 65535)
        frame = av.VideoFrame.from_ndarray(grey, format="rgb48le")
        frame = frame.reformat(format="yuv420p10le", dst_colorspace=9, dst_color_range=1)
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    with caplog.at_level("INFO"):
        frames, _ = read_frames(path, count=1)
        read_frames(path, count=1)
    white, highlight = float(frames[0, 32, 8].mean()), float(frames[0, 32, 56].mean())
    assert 0.7 < white < 0.9 and white + 0.05 < highlight <= 1.0
    assert [record.message for record in caplog.records].count(
        f"{path.name} is HDR; its frames are tone-mapped to standard range."
    ) == 1


def test_of_several_streams_the_video_is_read_and_not_the_cover(tmp_path):
    path = tmp_path / "cover.mkv"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 16, 16, "yuvj420p"
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        tile = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        for packet in cover.encode(tile):
            container.mux(packet)
        for number in range(6):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")):
                container.mux(packet)
        for packet in [*stream.encode(), *cover.encode()]:
            container.mux(packet)
    frames, selection = read_frames(path, count=6)
    assert (selection.source_width, selection.source_height) == SIZE and len(frames) == 6


def test_a_sound_file_is_named(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    with pytest.raises(VideoError, match=r"song\.mp4 is a sound file without a video"):
        read_frames(path, count=1)


def test_the_part_within_a_trim_counts_as_the_clip(tmp_path):
    path = write(tmp_path / "clip.mp4", 60, g="20")
    every = decoded(path)
    for start, duration, first, total in ((0.4, 1.0, 10, 25), (1.0, 0.0, 25, 35)):
        frames, selection = read_frames(path, 1, 2, 4, trim=(start, duration))
        assert_shows(frames, every[first + 1 : first + 9 : 2])
        assert selection.seconds[0] == pytest.approx((first + 1) / 25)
        with pytest.raises(VideoError, match=f"has {total} frames"):
            read_frames(path, 0, 1, 60, trim=(start, duration))
        assert glance(path, (start, duration)).frames == total
    with path.open("rb") as stream:
        assert_shows(read_frames(stream, 1, 2, 4, trim=(0.4, 1.0))[0], every[11:19:2])


def test_times_that_begin_below_zero_or_late(tmp_path):
    for name, offset in (("early.mkv", -400), ("late.mkv", 5000)):
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 1000)
            for number in range(10):
                frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
                frame.pts, frame.time_base = offset + 40 * number, Fraction(1, 1000)
                for packet in stream.encode(frame):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
        frames, selection = read_frames(path, 2, 3, 3)
        assert_shows(frames, decoded(path)[2:9:3])
        assert selection.fps == Fraction(25, 3)


def test_memory_does_not_grow_with_the_clip(tmp_path):
    path = write(tmp_path / "long.mp4", 700, g="60")
    read_frames(path, 0, 80, 8)
    tracemalloc.start()
    read_frames(path, 0, 80, 8, size=(48, 32))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 48 * 32 * 3 * 8 + 700 * 600
