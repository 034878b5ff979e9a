"""The drawn figures: the same plan gives the same picture, and what is said about it is true."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from devkit.toy import clips
from devkit.toy.canvas import SIDE
from devkit.toy.captions import (
    SHORT_SHARE,
    caption,
    caption_of,
    is_held_out,
    parse_caption,
    training_caption,
)
from devkit.toy.figures import FIGURES, LOOKS, NEW_FIGURE
from devkit.toy.grounds import GROUNDS
from devkit.toy.pool import random_scene, scenes
from devkit.toy.poses import VERBS, pose
from devkit.toy.scene import Camera, Figure, Front, Scene, render
from devkit.toy.skeleton import rig
from devkit.toy.styles import NEW_STYLE, STYLES, apply_style


def scene(name="man", look=0, verb="waving", phase=0.3, ground="snow", style="plain"):
    return Scene((Figure(name, look, verb, phase, 64, 116),), ground, style, seed=3)


def test_the_same_scene_gives_the_same_picture():
    first, again = render(scene()), render(scene())
    assert first.image.shape == (SIDE, SIDE, 3)
    assert first.image.dtype == np.uint8
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.parts, again.parts)
    assert (first.image != render(replace(scene(), seed=4)).image).any()


@pytest.mark.parametrize("name", [*FIGURES, NEW_FIGURE])
def test_joints_lie_inside_the_mask(name):
    for verb in VERBS:
        picture = render(scene(name, verb=verb, phase=0.4))
        x, y = np.floor(picture.joints[0]).astype(int).T
        assert picture.masks[0][y.clip(0, SIDE - 1), x.clip(0, SIDE - 1)].all(), verb


@pytest.mark.parametrize("name", [*FIGURES, NEW_FIGURE])
def test_a_figure_is_large_and_stays_in_the_picture(name):
    rows = np.flatnonzero(render(scene(name)).masks[0].any(axis=1))
    assert 85 <= rows[-1] - rows[0] <= 115


@pytest.mark.parametrize("name", [*FIGURES, NEW_FIGURE])
def test_looks_differ_where_the_figure_is(name):
    shown = [render(scene(name, look)) for look in range(LOOKS)]
    for index, first in enumerate(shown):
        for other in shown[:index]:
            changed = (first.image.astype(int) != other.image).any(axis=2)
            assert changed[first.masks[0] | other.masks[0]].sum() > 60


def test_figures_have_different_silhouettes():
    masks = [render(scene(name)).masks[0] for name in FIGURES]
    for index, mask in enumerate(masks):
        for other in masks[:index]:
            assert (mask & other).sum() / (mask | other).sum() < 0.95


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_are_cycles_with_large_swings(verb):
    joints = np.stack([rig(pose(verb, phase)).joints for phase in np.arange(16) / 16])
    np.testing.assert_allclose(rig(pose(verb, 1.0)).joints, joints[0])
    reach = abs(joints[:, None] - joints[None]).max(axis=(0, 1))
    assert reach.max() >= 10
    assert abs(joints - np.roll(joints, 1, axis=0)).max() < reach.max()
    assert (abs(joints[:, 8].imag) < 40).all()


def test_grounds_and_styles_change_the_picture():
    grounds = [render(scene(ground=ground)).image.astype(int) for ground in GROUNDS]
    styles = [render(scene(style=style)).image.astype(int) for style in (*STYLES, NEW_STYLE)]
    for shown in (grounds, styles):
        for index, first in enumerate(shown):
            assert all(abs(first - other).mean() > 8 for other in shown[:index])


@pytest.mark.parametrize(
    "wrong",
    [
        scene(name="cat"),
        scene(look=LOOKS),
        scene(verb="flying"),
        scene(ground="sea"),
        scene(style="oil"),
        replace(scene(), front=Front("wall", 3)),
    ],
)
def test_unknown_names_are_refused(wrong):
    with pytest.raises(ValueError, match="known|no figure"):
        render(wrong)


def test_what_stands_in_front_hides_the_figure():
    free = render(scene()).masks[0].sum()
    assert render(replace(scene(), front=Front("post", 64))).masks[0].sum() < 0.9 * free


@pytest.mark.parametrize(
    "plan", [clips.demo_plan(), clips.pair_plan(), clips.hidden_plan(), clips.pan_plan(16)]
)
def test_flow_carries_each_frame_into_the_next(plan):
    clip = clips.render_clip(plan)
    moved = still = 0.0
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    for frame in range(0, 15, 3):
        flow, visible = clip.flow(frame)
        assert visible.mean() > 0.6
        later = clip.frames[frame + 1].astype(np.float32)
        carried = cv2.remap(later, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR)
        figure = visible & clip.masks[frame].any(axis=0)
        moved += abs(carried - clip.frames[frame])[figure].mean()
        still += abs(later - clip.frames[frame])[figure].mean()
    assert moved < 0.5 * still


def test_the_figures_flow_moves_its_joints():
    clip = clips.render_clip(clips.demo_plan())
    flow, _ = clip.flow(4)
    head, later = clip.joints[4, 0, 0], clip.joints[5, 0, 0]
    column, row = np.floor(head).astype(int)
    np.testing.assert_allclose(flow[row, column], later - head, atol=0.6)


def test_the_true_edit_keeps_the_motion():
    plan = clips.demo_plan()
    edit = plan.edited(figures=("astronaut",), ground="moon", style="sketch")
    first, other = clips.render_clip(plan), clips.render_clip(edit)
    np.testing.assert_array_equal(first.joints, other.joints)
    assert edit.caption == "an astronaut is walking on the moon, sketch style"
    assert (first.frames != other.frames).any()
    assert plan.edited(verb="jumping").actors[0].verb == "jumping"
    assert plan.edited(looks=(5,)).actors[0].look == 5


def test_walking_travels_and_the_camera_moves():
    clip = clips.render_clip(clips.demo_plan())
    assert clip.joints[-1, 0, 2, 0] - clip.joints[0, 0, 2, 0] > 40
    assert clip.plan.caption == "a man is walking in the forest"
    pan = clips.pan_plan()
    assert pan.scene(47).camera.x - pan.scene(0).camera.x > 100
    with pytest.raises(ValueError, match="at least one"):
        clips.render_clip(replace(pan, actors=()))


def test_captions_say_what_can_be_read_from_them():
    text = caption(("robot", "panda"), "dancing", "forest", "sketch")
    assert text == "a robot and a panda are dancing in the forest, sketch style"
    assert parse_caption(text) == (("robot", "panda"), "dancing", "forest", "sketch")
    for one in scenes(30, 1):
        said = parse_caption(caption_of(one))
        assert said.figures == tuple(figure.name for figure in one.figures)
        assert (said.ground, said.style) == (one.ground, one.style)
    for wrong in ("a man on the beach", "a man is flying on the beach", ""):
        with pytest.raises(ValueError, match="not a caption"):
            parse_caption(wrong)
    rng = np.random.default_rng(0)
    some = scenes(1, 2) * 400
    short = [training_caption(one, rng) != caption_of(one) for one in some]
    assert 0.5 * SHORT_SHARE < np.mean(short) < 1.5 * SHORT_SHARE


def test_one_composition_in_nine_is_held_out_and_every_pair_is_seen():
    held = np.array([[[is_held_out(f, v, g) for g in GROUNDS] for v in VERBS] for f in FIGURES])
    assert held.mean() == pytest.approx(1 / 9)
    assert not held.all(axis=0).any() and not held.all(axis=1).any() and not held.all(axis=2).any()
    for one in scenes(40, 5):
        assert not any(is_held_out(f.name, f.verb, one.ground) for f in one.figures)
    rng = np.random.default_rng(6)
    hidden = random_scene(rng, held_out=True)
    assert any(is_held_out(f.name, f.verb, hidden.ground) for f in hidden.figures)


def test_a_camera_shows_the_same_figure_elsewhere():
    figure = scene().figures
    near = render(Scene(figure, "snow", camera=Camera(70, 64, 1.1)))
    far = render(Scene(figure, "snow", camera=Camera(64, 64, 1.0)))
    expected = (far.joints - 64) * 1.1 + 64 - np.array([6.6, 0])
    np.testing.assert_allclose(near.joints, expected, atol=1e-3)
    np.testing.assert_array_equal(apply_style(near.image, "plain"), near.image)
