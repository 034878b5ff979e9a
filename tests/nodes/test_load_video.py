"""Load Video Frames inside ComfyUI."""

import dataclasses
import json
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devkit.client import PromptRejected
from devkit.video import write_video
from tav_core.video.sound import Sound
from tav_core.video.write import save_video

CHOICE = {"start_frame": 0, "frame_stride": 1, "frame_count": 4, "width": 64, "height": 48, "fit": "crop"}


def grey_clip(path: Path, frames: int = 12) -> Path:
    """A clip of 64 x 48 whose frame number n is flat grey of level 20 + 10 n."""
    levels = (20 + 10 * np.arange(frames, dtype=np.uint8))[:, None, None, None]
    return write_video(path, np.broadcast_to(levels, (frames, 48, 64, 3)), fps=24)


def shown(frames: torch.Tensor) -> list[int]:
    return [round((float(frame.mean()) * 255 - 20) / 10) for frame in frames]


@pytest.fixture
def folders(comfyui, tmp_path, monkeypatch) -> Path:
    """ComfyUI's input and temp folders, empty but for clip.mp4; returns the input folder."""
    import folder_paths

    for name in ("input", "temp"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(folder_paths, f"{name}_directory", str(tmp_path / name))
    grey_clip(tmp_path / "input" / "clip.mp4")
    return tmp_path / "input"


@pytest.fixture
def api(comfyui):
    from comfy_api import latest

    return latest


@pytest.fixture
def node(pack, folders):
    return pack("nodes.load_video").TAVLoadVideo


def test_schema(node):
    schema = node.define_schema()
    schema.validate()
    assert (schema.node_id, schema.category) == ("TAVLoadVideo", "Tune-A-Video")
    assert all(entry.tooltip for entry in schema.inputs + schema.outputs)


def test_lists_videos_and_gifs(node, folders):
    for name in ("B.MOV", "a.gif", "notes.txt", "picture.png"):
        (folders / name).write_bytes(b"x")
    (folders / "folder.mp4").mkdir()
    assert node.define_schema().inputs[0].options == ["B.MOV", "a.gif", "clip.mp4"]


def test_an_empty_input_folder_still_gives_a_value(node, folders):
    (folders / "clip.mp4").unlink()
    assert node.define_schema().inputs[0].options == [""]


def test_gives_frames_rate_size_and_count(node):
    output = node.execute(
        "clip.mp4", **CHOICE | {"start_frame": 1, "frame_stride": 3, "width": 32, "height": 24}
    )
    frames, fps, width, height, count, audio = output.result
    assert (frames.shape, frames.dtype) == ((4, 24, 32, 3), torch.float32)
    assert shown(frames) == [1, 4, 7, 10]
    assert (fps, width, height, count, audio) == (8.0, 32, 24, 4, None)


def test_sound_is_cut_to_the_frames(node, folders, api):
    """From a file, from a VIDEO of it, and from a VIDEO that another node made."""
    time = torch.arange(8000) / 8000
    tone = (torch.sin(2 * torch.pi * 440 * time) * time)[None]
    images = torch.rand(24, 32, 48, 3)
    save_video(folders / "loud.mp4", images, 24, Sound(tone, 8000))
    choice = CHOICE | {"start_frame": 12, "frame_count": 6, "frame_stride": 1}
    parts = api.Types.VideoComponents(
        images=images, audio={"waveform": tone[None], "sample_rate": 8000}, frame_rate=Fraction(24)
    )
    for name, video in (
        ("loud.mp4", None),
        ("", api.InputImpl.VideoFromFile(str(folders / "loud.mp4"))),
        ("", api.InputImpl.VideoFromComponents(parts)),
    ):
        audio = node.execute(name, **choice, video_input=video).result[5]
        assert audio["waveform"].shape == (1, 1, 2000) and audio["sample_rate"] == 8000
        # As loud as the clip is from 0.5 to 0.75 s.
        assert float(audio["waveform"].square().mean().sqrt()) == pytest.approx(0.628 / 2**0.5, rel=0.1)


def test_folders_of_pictures_are_clips(node, folders):
    save_video(folders / "pictures", torch.rand(5, 16, 24, 3), 8)
    (folders / "notes").mkdir()
    assert node.define_schema().inputs[0].options == ["clip.mp4", "pictures/"]
    assert node.validate_inputs({}, video="pictures/") is True
    assert node.execute("pictures/", **CHOICE | {"width": 0, "height": 0}).result[0].shape == (4, 16, 24, 3)


def test_an_entry_that_cannot_be_read_is_left_out(node, folders):
    (folders / "loop.mp4").symlink_to("loop.mp4")
    (folders / "nowhere.mp4").symlink_to("gone.mp4")
    (folders / "round").symlink_to("round")
    assert node.define_schema().inputs[0].options == ["clip.mp4"]


def test_keeps_the_size_or_the_aspect(node):
    assert node.execute("clip.mp4", **CHOICE | {"width": 0, "height": 0}).result[0].shape == (4, 48, 64, 3)
    assert node.execute("clip.mp4", **CHOICE | {"width": 128, "height": 0}).result[0].shape == (4, 96, 128, 3)


def test_resamples_on_request(node):
    frames, fps, *_ = node.execute("clip.mp4", **CHOICE, resample_fps=8.0).result
    assert (shown(frames), fps) == ([0, 3, 6, 9], 8.0)


def test_the_page_gets_the_chosen_frames_as_one_small_sheet(node, folders):
    output = node.execute("clip.mp4", **CHOICE)
    (text,) = output.ui["tune_a_video"]
    sheet = json.loads(text)
    assert (sheet["frames"], sheet["width"], sheet["height"], sheet["fps"]) == (4, 64, 48, 24.0)
    with Image.open(folders.parent / sheet["type"] / sheet["filename"]) as picture:
        assert picture.size == (2 * 64, 2 * 48)
    assert "images" not in output.ui, "no second preview, which the page would hide"


def test_stop_is_heard_while_reading(node):
    import comfy.model_management as management

    management.interrupt_current_processing(True)
    with pytest.raises(management.InterruptProcessingException):
        node.execute("clip.mp4", **CHOICE)
    assert node.execute("clip.mp4", **CHOICE).result[4] == 4


def test_too_few_frames_names_the_input_and_the_remedy(node):
    with pytest.raises(
        ValueError, match=r"^Load Video Frames \(video\): clip.mp4 has 12 frames, .*at most 12"
    ):
        node.execute("clip.mp4", **CHOICE | {"frame_count": 13})


class TestVideoInput:
    def test_a_whole_file_is_not_decoded_as_a_whole(self, node, folders, api, monkeypatch):
        monkeypatch.setattr(api.InputImpl.VideoFromFile, "get_components", None)
        video = api.InputImpl.VideoFromFile(str(folders / "clip.mp4"))
        frames, fps, *_ = node.execute("", **CHOICE | {"frame_stride": 2}, video_input=video).result
        assert (shown(frames), fps) == ([0, 2, 4, 6], 12.0)

    def test_a_trimmed_file(self, node, folders, api):
        video = api.InputImpl.VideoFromFile(str(folders / "clip.mp4")).as_trimmed(0.25, 0.125, False)
        frames, *_ = node.execute("", **CHOICE | {"frame_count": 3}, video_input=video).result
        assert shown(frames) == [6, 7, 8]

    def test_a_trim_is_not_decoded_as_a_whole(self, node, folders, api, monkeypatch):
        monkeypatch.setattr(api.InputImpl.VideoFromFile, "get_components", None)
        video = api.InputImpl.VideoFromFile(str(folders / "clip.mp4")).as_trimmed(0.25, 0.2, False)
        frames, *_ = node.execute("", **CHOICE | {"frame_count": 4}, video_input=video).result
        assert shown(frames) == [6, 7, 8, 9]

    def test_pictures_that_are_not_the_file_s(self, node, folders, api):
        """As a crop has them: another size over the same file."""

        class Cropped(api.InputImpl.VideoFromFile):
            def get_dimensions(self):
                return (32, 48)

            def get_components(self):
                parts = super().get_components()
                return dataclasses.replace(parts, images=parts.images[:, :, :32])

        video = Cropped(str(folders / "clip.mp4"))
        choice = CHOICE | {"frame_count": 2, "width": 0, "height": 0}
        frames, *_ = node.execute("", **choice, video_input=video).result
        assert frames.shape == (2, 48, 32, 3)

    def test_frames_from_another_node(self, node, api):
        images = torch.linspace(0, 1, 6)[:, None, None, None].expand(-1, 48, 64, 3)
        parts = api.Types.VideoComponents(images=images, audio=None, frame_rate=Fraction(12))
        video = api.InputImpl.VideoFromComponents(parts)
        frames, fps, *_ = node.execute(
            "", **CHOICE | {"frame_stride": 2, "frame_count": 3}, video_input=video
        ).result
        assert torch.equal(frames, images[::2])
        assert fps == 6.0
        with pytest.raises(ValueError, match=r"^Load Video Frames \(video_input\): The video has 6 frames"):
            node.execute("", **CHOICE | {"frame_count": 7}, video_input=video)

    def test_a_file_that_is_gone(self, node, folders, api):
        video = api.InputImpl.VideoFromFile(str(folders / "gone.mp4"))
        with pytest.raises(ValueError, match=r"\(video_input\): gone.mp4 does not exist"):
            node.execute("", **CHOICE, video_input=video)


class TestValidation:
    def test_accepts_a_readable_file(self, node):
        assert node.validate_inputs({}, video="clip.mp4") is True
        assert node.validate_inputs({}, video="clip.mp4 [input]") is True

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("", "No video is chosen"),
            ("none.mp4", "none.mp4 does not exist"),
            ("text.mp4", "text.mp4 is a text file"),
            ("cut.mp4", "cut.mp4 is not a video that can be read, or it is damaged"),
            ("../secret.mp4", "is outside ComfyUI's folders"),
            ("../input/../secret.mp4 [input]", "is outside ComfyUI's folders"),
            ("{absolute}", "is outside ComfyUI's folders"),
            ("link.mp4", "is outside ComfyUI's folders"),
            ("null\0.mp4", "is outside ComfyUI's folders"),
        ],
    )
    def test_refuses_with_one_sentence(self, node, folders, name, message):
        secret = grey_clip(folders.parent / "secret.mp4")
        (folders / "text.mp4").write_text("not a video at all")
        (folders / "cut.mp4").write_bytes((folders / "clip.mp4").read_bytes()[:500])
        try:
            os.symlink(secret, folders / "link.mp4")
        except OSError:
            if name == "link.mp4":
                pytest.skip("no symbolic links here")
        answer = node.validate_inputs({}, video=name.format(absolute=secret))
        assert answer.startswith("Load Video Frames (video): ") and message in answer
        with pytest.raises(ValueError, match="Load Video Frames"):
            node.execute(name.format(absolute=secret), **CHOICE)

    def test_the_file_does_not_matter_when_video_input_is_connected(self, node):
        assert node.validate_inputs({"video_input": "VIDEO"}, video="none.mp4") is True
        assert node.validate_inputs({"video_input": "*"}, video="") is True
        assert node.validate_inputs({"video": "COMBO"}) is True

    def test_wrong_connections_are_still_refused(self, node):
        answer = node.validate_inputs({"video_input": "IMAGE"}, video="clip.mp4")
        assert answer.startswith("video_input takes VIDEO, but IMAGE")
        assert node.validate_inputs({"frame_count": "STRING"}, video="clip.mp4") is not True


def test_fingerprint_follows_the_file(node, folders):
    first = node.fingerprint_inputs(video="clip.mp4", **CHOICE, resample_fps=0.0)
    assert first == node.fingerprint_inputs(video="clip.mp4", **CHOICE)
    grey_clip(folders / "clip.mp4", frames=13)
    assert first != node.fingerprint_inputs(video="clip.mp4", **CHOICE)
    assert node.fingerprint_inputs(video="none.mp4") is None
    assert node.fingerprint_inputs(**CHOICE) is None


def test_a_bad_file_is_refused_by_the_server_and_the_next_prompt_works(client, clip_file, tmp_path):
    (tmp_path / "words.mp4").write_text("not a video at all")
    choice = CHOICE | {"width": 64, "height": 64}

    def prompt(video: str) -> dict:
        return {
            "1": {"class_type": "TAVLoadVideo", "inputs": {"video": video, **choice}},
            "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        }

    bad = client.upload(tmp_path / "words.mp4")
    for video, message in ((bad, "is a text file"), ("../words.mp4", "is outside ComfyUI's folders")):
        with pytest.raises(PromptRejected, match=message):
            client.queue(prompt(video))
    result = client.run(prompt(clip_file.name)).check()
    assert len(result.outputs["2"]["images"]) == 4
