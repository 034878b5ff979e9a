"""The closed world, its checkpoint layout and its judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
cv2 = pytest.importorskip("cv2")

from safetensors.torch import load_file  # noqa: E402

from devkit.world import checkpoint, clips, report  # noqa: E402
from devkit.world.backgrounds import SIDE  # noqa: E402
from devkit.world.compose import Scene, Sprite, compose, random_scene  # noqa: E402
from devkit.world.data import rendered, scenes  # noqa: E402
from devkit.world.judge import Judge, load_judge  # noqa: E402
from devkit.world.models import prediction_type  # noqa: E402
from devkit.world.schedule import alphas_cumprod  # noqa: E402
from devkit.world.tokens import tokenize  # noqa: E402
from devkit.world.variants import in_second_layout  # noqa: E402
from devkit.world.vocabulary import (  # noqa: E402
    BACKGROUNDS,
    OBJECTS,
    STYLES,
    caption,
    is_held_out,
    parse_caption,
)

ASSETS = Path(__file__).parents[2] / "assets" / "tiny"


@pytest.fixture(scope="module")
def random_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("world") / "random.safetensors"
    checkpoint.make_random(path, seed=5)
    return path


def test_composing_is_deterministic():
    scene = Scene((Sprite("cat", (60, 70), 56),), "beach", "pixel art", 3)
    first, masks = compose(scene)
    again, _ = compose(scene)
    assert first.shape == (SIDE, SIDE, 3)
    assert first.dtype == np.uint8
    assert masks.shape == (1, SIDE, SIDE)
    np.testing.assert_array_equal(first, again)
    other, _ = compose(Scene(scene.sprites, "beach", "pixel art", 4))
    assert (first != other).any()


def test_the_mask_is_where_the_sprite_is():
    sprite = Sprite("football", (40.0, 80.0), 60)
    picture, masks = compose(Scene((sprite,), "road", "plain", 1))
    empty, _ = compose(Scene((), "road", "plain", 1))
    changed = (picture != empty).any(axis=2)
    assert (changed & masks[0]).sum() > 0.95 * masks[0].sum()
    rows, columns = np.nonzero(masks[0])
    assert abs(columns.mean() - 40) < 2
    assert abs(rows.mean() - 80) < 2


def test_the_front_sprite_hides_the_other():
    sprites = (Sprite("pig", (60, 60), 60), Sprite("frog", (70, 60), 60))
    _, masks = compose(Scene(sprites, "snow"))
    assert not (masks[0] & masks[1]).any()


@pytest.mark.parametrize(
    ("text", "objects", "background", "style"),
    [
        ("a jeep on the snow", ("jeep",), "snow", "plain"),
        ("an elephant in the night sky, sketch style", ("elephant",), "night sky", "sketch"),
        ("a cat and a dog at sunset, pixel art style", ("cat", "dog"), "sunset", "pixel art"),
    ],
)
def test_captions_parse(text, objects, background, style):
    assert parse_caption(text) == (objects, background, style)
    assert caption(objects, background, style) == text


def test_other_texts_do_not_parse():
    with pytest.raises(ValueError, match="not a caption"):
        parse_caption("a jeep under the snow")


def test_every_pair_occurs_in_training():
    shown = [
        (name, background, style)
        for name in OBJECTS
        for background in BACKGROUNDS
        for style in STYLES
        if not is_held_out(name, background, style)
    ]
    assert len({(name, background) for name, background, _ in shown}) == 16 * 6
    assert len({(name, style) for name, _, style in shown}) == 16 * 3
    assert len({(background, style) for _, background, style in shown}) == 6 * 3


def test_training_scenes_are_never_held_out():
    rng = np.random.default_rng(0)
    for _ in range(200):
        scene = random_scene(rng, pair_share=0)
        assert not is_held_out(scene.sprites[0].name, scene.background, scene.style)


def test_every_word_has_a_token():
    for scene in scenes(50, 1):
        tokens = tokenize(scene.caption)
        assert tokens.shape == (77,)
        assert tokens[0] == 49406
        assert tokens[-1] == 49407


def test_the_schedule_is_stable_diffusions():
    ours = alphas_cumprod()
    theirs = checkpoint.scheduler().alphas_cumprod
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("trajectory", clips.TRAJECTORIES)
def test_a_clip_moves_its_sprite_over_a_fixed_background(trajectory):
    actor = clips.Actor("cat", (34, 90), (84, 64), 48, trajectory)
    clip = clips.render_clip(clips.ClipPlan((actor,), "grass", frames=6, seed=2))
    assert clip.frames.shape == (6, SIDE, SIDE, 3)
    assert clip.centres.shape == (6, 1, 2)
    np.testing.assert_allclose(clip.centres[0, 0], (34, 90), atol=1e-4)
    still = (clip.frames == clip.frames[:1]).all(axis=(0, 3))
    reached = cv2.dilate(clip.masks.any(axis=(0, 1)).astype(np.uint8), np.ones((5, 5))) > 0
    assert still[~reached].all()


def test_the_demo_clip_stays_inside():
    clip = clips.render_clip(clips.demo_plan())
    assert clip.frames.shape == (16, SIDE, SIDE, 3)
    assert clips.inside(clip)


def test_a_clip_becomes_a_video(tmp_path):
    clip = clips.render_clip(clips.crossing("cat", "dog", "beach", frames=4))
    path = tmp_path / "clip.mp4"
    clips.write_mp4(clip.frames, path, scale=2)
    video = cv2.VideoCapture(str(path))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 4
    ok, frame = video.read()
    assert ok
    assert frame.shape == (256, 256, 3)


def test_checkpoint_keys_are_stable_diffusions(random_file):
    keys = set(load_file(random_file))
    assert "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight" in keys
    assert "model.diffusion_model.output_blocks.1.1.conv.weight" in keys
    assert "model.diffusion_model.output_blocks.3.2.conv.weight" in keys
    name = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    assert name in keys
    assert "first_stage_model.taesd_decoder.1.weight" in keys
    assert "first_stage_model.taesd_encoder.0.weight" in keys
    assert random_file.stat().st_size <= 32e6


def test_checkpoint_round_trip(random_file):
    weights = load_file(random_file)
    again = checkpoint.to_sd_layout(checkpoint.from_sd_layout(weights))
    assert again.keys() == weights.keys()
    for key, value in weights.items():
        assert torch.equal(again[key], value), key


def test_the_second_layout_is_known_by_its_weights(random_file):
    models = checkpoint.load_checkpoint(random_file)
    assert prediction_type(models.unet) == "epsilon"
    second = checkpoint.Models(in_second_layout(models.unet), models.text_encoder, models.vae)
    weights = checkpoint.to_sd_layout(second)
    again = checkpoint.from_sd_layout(weights)
    assert prediction_type(again.unet) == "v_prediction"
    block = again.unet.down_blocks[0].attentions[0]
    assert isinstance(block.proj_in, torch.nn.Linear)
    assert block.transformer_blocks[0].attn1.heads == 1
    written = checkpoint.to_sd_layout(again)
    assert all(torch.equal(written[key], value) for key, value in weights.items())


def test_linear_projections_are_the_convolutions_they_were(random_file):
    """With one head on the first level in both layouts, both compute the same."""
    first = checkpoint.load_checkpoint(random_file).unet
    second = in_second_layout(first)
    for block in (first.down_blocks[0], first.up_blocks[-1]):
        for module in block.modules():
            if hasattr(module, "heads"):
                module.heads = 1
                module.scale = second.down_blocks[0].attentions[0].transformer_blocks[0].attn1.scale
    generator = torch.Generator().manual_seed(1)
    noisy, context = (torch.randn(2, *shape, generator=generator) for shape in ((4, 16, 16), (77, 96)))
    with torch.no_grad():
        ours, theirs = (unet(noisy, torch.tensor([301, 301]), context).sample for unet in (second, first))
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_a_lacking_key_is_named(random_file):
    weights = load_file(random_file)
    del weights["model.diffusion_model.out.2.bias"]
    with pytest.raises(RuntimeError, match=r"out\.2\.bias"):
        checkpoint.from_sd_layout(weights)


def test_the_diffusers_folder_has_the_same_weights(random_file, tmp_path):
    tokenizer = tmp_path / "tokenizer-files"
    tokenizer.mkdir()
    (tokenizer / "vocab.json").write_text("{}")
    (tokenizer / "merges.txt").write_text("")
    out = tmp_path / "folder"
    checkpoint.to_diffusers(random_file, out, tokenizer)
    models = checkpoint.load_checkpoint(random_file)
    for folder, kind, expected in (
        ("unet", diffusers.UNet2DConditionModel, models.unet),
        ("text_encoder", transformers.CLIPTextModel, models.text_encoder),
        ("vae", diffusers.AutoencoderTiny, models.vae),
    ):
        loaded = kind.from_pretrained(out / folder).state_dict()
        for key, value in expected.state_dict().items():
            assert torch.equal(loaded[key], value), key
    assert (out / "model_index.json").is_file()


def test_a_folder_without_tokenizer_is_refused(random_file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vocab\.json"):
        checkpoint.to_diffusers(random_file, tmp_path / "out", tmp_path)


def test_an_untrained_judge_answers_in_the_right_shapes():
    answer = Judge()(torch.rand(3, 64, 64, 3))
    assert answer["object_probs"].shape == (3, 16)
    assert answer["centre"].shape == (3, 2)
    assert answer["features"].shape == (3, 128)
    with pytest.raises(ValueError, match="frames must be"):
        Judge()(torch.rand(64, 64, 3))


def test_the_judge_agrees_on_fresh_compositions():
    judge = load_judge(ASSETS / "judge.safetensors")
    pool = scenes(40, 777, held_out=True)
    figures = report.judge_figures(judge, rendered(pool), pool)
    assert min(figures["object"], figures["background"], figures["style"]) >= 0.95
    assert figures["centre_error_median_px"] < 2
