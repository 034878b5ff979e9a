"""Evaluate Video and Reconstruction Check inside ComfyUI."""

import json
import math
from pathlib import Path

import pytest
import torch
from tiny_clip import make_tiny_clip


@pytest.fixture
def evaluate(pack):
    return pack("nodes.evaluate").TAVEvaluate


@pytest.fixture
def check(pack):
    return pack("nodes.evaluate").TAVReconstruction


@pytest.fixture
def clip_name(comfyui):
    """A CLIP model in models/clip_vision, and beside it a folder that holds none."""
    import folder_paths

    root = Path(folder_paths.get_folder_paths("clip_vision")[0])
    (root / "other").mkdir(parents=True, exist_ok=True)
    (root / "other" / "config.json").write_text('{"model_type": "siglip"}')
    folder = root / "tiny-clip"
    folder.mkdir(exist_ok=True)
    return make_tiny_clip(folder).name


def noise(frames: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.rand(frames, 32, 48, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["TAVEvaluate", "TAVReconstruction"])
def test_schema(pack, name):
    schema = getattr(pack("nodes.evaluate"), name).define_schema()
    schema.validate()
    assert (schema.node_id, schema.category) == (name, "Tune-A-Video")
    assert all(entry.tooltip for entry in schema.inputs + schema.outputs)


def test_the_nodes_are_in_the_pack(pack):
    import asyncio

    nodes = asyncio.run(pack("nodes").TuneAVideoExtension().get_node_list())
    assert {"TAVEvaluate", "TAVReconstruction"} <= {node.__name__ for node in nodes}


def test_what_is_not_connected_is_not_measured(evaluate):
    output = evaluate.execute(noise(1).expand(3, -1, -1, -1), "a cat", "none")
    report, text, consistency, alignment, warping, background = output.result
    assert (warping, math.isnan(consistency), math.isnan(alignment), math.isnan(background)) == (0, 1, 1, 1)
    assert json.loads(text) == {
        "frame_consistency": None,
        "text_alignment": None,
        "warping_error": 0.0,
        "background_psnr": None,
    }
    assert "frame consistency: not measured; choose a CLIP model" in report
    assert output.ui.as_dict()["text"][0] == report


def test_background_against_the_source(evaluate):
    source, frames = torch.zeros(3, 32, 48, 3), torch.zeros(3, 32, 48, 3)
    frames[:, :16] = 0.1
    frames[:, 16:] = 0.8
    mask = torch.zeros(1, 32, 48)
    mask[:, :16] = 1
    result = evaluate.execute(frames, "", "none", source=source, background=mask).result
    assert result[5] == pytest.approx(20.0, abs=1e-3)
    assert "background PSNR: 20.0 dB" in result[0]


def test_other_sizes_are_refused_in_plain_words(evaluate, check):
    with pytest.raises(
        ValueError, match="'source' holds 2 frames of 48x32, the other video 3 of 48x32; give both"
    ):
        evaluate.execute(noise(), "", "none", source=noise(2))
    with pytest.raises(
        ValueError, match="'background' holds 2 masks of 48x32; the video needs 1 or 3 of 48x32"
    ):
        evaluate.execute(noise(), "", "none", source=noise(), background=torch.ones(2, 32, 48))
    with pytest.raises(ValueError, match="'reconstruction' holds"):
        check.execute(noise(3), noise(4))


def test_a_clip_model_in_its_folder(evaluate, clip_name):
    options = {entry.id: entry for entry in evaluate.define_schema().inputs}["clip_model"].options
    assert clip_name in options and "other" not in options
    still = noise(1).expand(3, -1, -1, -1)
    result = evaluate.execute(still, "a cat", clip_name).result
    assert result[2] == pytest.approx(100.0, abs=1e-3)
    assert math.isfinite(result[3])
    assert math.isnan(evaluate.execute(still, " ", clip_name).result[3])


@pytest.mark.parametrize("name", ["absent", "../../somewhere"])
def test_only_listed_clip_models_are_read(evaluate, name):
    with pytest.raises(ValueError, match="no CLIP model"):
        evaluate.execute(noise(), "", name)


def test_a_clip_vision_model_gives_the_consistency(evaluate):
    class Vision:
        def encode_image(self, image):
            return {"image_embeds": torch.eye(3)}

    assert evaluate.execute(noise(), "", "none", clip_vision=Vision()).result[2] == pytest.approx(0.0)


def test_reconstruction(check):
    source = torch.full((2, 32, 48, 3), 0.5)
    off = source.clone()
    off[1] += 0.1
    report, value, difference = check.execute(source, off, autoencoded=source).result
    assert value == pytest.approx(-10 * math.log10(0.005))
    assert "PSNR against the source: 23.0 dB (fair" in report
    assert "worst frame: 1, 20.0 dB" in report
    assert "the VAE alone: inf dB" in report
    assert difference.shape == source.shape
    assert difference[1].mean() == pytest.approx(0.4) and difference[0].max() == 0


def test_alpha_is_left_out(check):
    source = torch.rand(2, 32, 48, 4)
    assert check.execute(source, source[..., :3]).result[1] == math.inf


def test_reconstruction_through_the_server(client, clip_file):
    load = {
        "video": clip_file.name,
        "start_frame": 0,
        "frame_stride": 1,
        "frame_count": 4,
        "width": 64,
        "height": 64,
        "fit": "crop",
    }
    prompt = {
        "1": {"class_type": "TAVLoadVideo", "inputs": load},
        "2": {
            "class_type": "TAVReconstruction",
            "inputs": {"source": ["1", 0], "reconstruction": ["1", 0]},
        },
        "3": {
            "class_type": "TAVEvaluate",
            "inputs": {"frames": ["1", 0], "source": ["1", 0], "prompt": "a square", "clip_model": "none"},
        },
    }
    outputs = client.run(prompt).check().outputs
    assert "PSNR against the source: inf dB (good" in outputs["2"]["text"][0]
    assert "warping error" in outputs["3"]["text"][0]
