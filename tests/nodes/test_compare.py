"""Compare Videos inside ComfyUI."""

import pytest
import torch

LINES = "a source caption\nan edit"


@pytest.fixture
def node(pack):
    return pack("nodes.compare").TAVCompareVideos


def clip(level: float, frames: int = 5) -> torch.Tensor:
    return torch.full((frames, 32, 64, 3), level)


def compare(node, edited, captions, layout, columns):
    """The node's picture; ComfyUI gives it every input as a list."""
    lists = {name: None if frames is None else [frames] for name, frames in edited.items()}
    return node.execute([clip(0.1)], lists, [captions], [layout], [columns]).result[0]


def test_schema(node):
    schema = node.define_schema()
    schema.validate()
    assert (schema.node_id, schema.category) == ("TAVCompareVideos", "Tune-A-Video")
    assert all(entry.tooltip for entry in schema.inputs + schema.outputs)


def test_layouts(node):
    edited = {"edited_1": clip(0.5)}
    side = compare(node, edited, LINES, "side by side", 6)
    assert side.shape[0] == 5 and side.shape[2] == 64 + 4 + 64
    stacked = compare(node, edited, LINES, "stacked", 6)
    assert stacked.shape[0] == 5 and stacked.shape[2] == 64
    sheet = compare(node, edited, LINES, "contact sheet", 3)
    assert sheet.shape[0] == 1 and sheet.shape[2] == 3 * 64 + 2 * 4


def test_edits_come_in_the_order_of_their_inputs(node):
    edited = {"edited_10": clip(0.7), "edited_2": clip(0.5), "edited_3": None, "edited_1": clip(0.3)}
    row = compare(node, edited, "", "side by side", 6)[0, -1, :, 0]
    assert row[32::68].tolist() == pytest.approx([0.1, 0.3, 0.5, 0.7])


def test_a_list_of_videos_is_one_comparison(node):
    edited = {"edited_1": [clip(0.3), clip(0.5)], "edited_2": [clip(0.7)]}
    row = node.execute([clip(0.1)], edited, [""], ["side by side"], [6]).result[0][0, -1, :, 0]
    assert row[32::68].tolist() == pytest.approx([0.1, 0.3, 0.5, 0.7])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["Source", "Edit 1", "Edit 2"]),
        ("one\n\nthree\n\n", ["one", "", "three"]),
        ("one\n", ["one", "Edit 1", "Edit 2"]),
    ],
)
def test_captions_have_one_line_per_video(pack, text, expected):
    assert pack("nodes.compare")._captions(text, 3) == expected


def test_too_many_captions_are_refused(node):
    with pytest.raises(
        ValueError, match=r"^Compare Videos \(captions\): there are 3 lines for 2 videos; write"
    ):
        compare(node, {"edited_1": clip(0.5)}, "one\ntwo\nthree", "stacked", 6)


def test_growing_inputs_work_through_the_server(client, clip_file):
    load = {
        "video": clip_file.name,
        "start_frame": 0,
        "frame_stride": 1,
        "frame_count": 4,
        "width": 64,
        "height": 64,
        "fit": "crop",
    }
    compare = {
        "source": ["1", 0],
        "edited.edited_1": ["1", 0],
        "edited.edited_2": ["1", 0],
        "captions": LINES,
        "layout": "contact sheet",
        "columns": 2,
    }
    prompt = {
        "1": {"class_type": "TAVLoadVideo", "inputs": load},
        "2": {"class_type": "TAVCompareVideos", "inputs": compare},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }
    assert len(client.run(prompt).check().outputs["3"]["images"]) == 1
