"""The measures of a video, against cases that can be worked out by hand."""

import math

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_clip import make_tiny_clip

from tav_core.metrics.clip_score import ClipScore
from tav_core.metrics.consistency import frame_consistency
from tav_core.metrics.flow import occluded, optical_flow, warp
from tav_core.metrics.psnr import frame_psnr, psnr
from tav_core.metrics.warping import warping_error


def texture(height: int = 96, width: int = 128, seed: int = 0) -> np.ndarray:
    """Smooth random colours, which optical flow can follow; uint8."""
    noise = np.random.default_rng(seed).normal(0, 1, (height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return np.round(255 * smooth).astype(np.uint8)


def shifting(shift: int = 3, frames: int = 4) -> torch.Tensor:
    """A texture that moves ``shift`` pixels to the right per frame."""
    wide = texture(width=128 + shift * frames)
    first = shift * frames
    cuts = [wide[:, first - shift * index : first - shift * index + 128] for index in range(frames)]
    return torch.from_numpy(np.stack(cuts)).float() / 255


# -- PSNR


def test_psnr_of_a_constant_difference():
    reference = torch.full((2, 4, 4, 3), 0.5)
    assert psnr(reference + 0.1, reference) == pytest.approx(20.0, abs=1e-5)
    assert psnr(reference + 0.01, reference) == pytest.approx(40.0, abs=1e-4)
    assert psnr(reference, reference) == math.inf


def test_psnr_averages_the_error_not_the_decibels():
    reference = torch.zeros(2, 4, 4, 3)
    frames = torch.stack([torch.full((4, 4, 3), 0.1), torch.zeros(4, 4, 3)])
    assert psnr(frames, reference) == pytest.approx(-10 * math.log10(0.01 / 2))
    assert frame_psnr(frames, reference) == [pytest.approx(20.0), math.inf]


def test_masked_psnr_counts_only_what_the_mask_shows():
    reference = torch.zeros(2, 4, 4, 3)
    frames = reference.clone()
    frames[:, :2] = 0.1
    frames[:, 2:] = 0.9
    mask = torch.zeros(4, 4)
    mask[:2] = 1
    assert psnr(frames, reference, mask) == pytest.approx(20.0, abs=1e-5)
    assert psnr(frames, reference, mask.expand(2, 4, 4)) == pytest.approx(20.0, abs=1e-5)
    assert math.isnan(psnr(frames, reference, torch.zeros(4, 4)))


def test_psnr_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"\[1, 4, 4, 3\].*\[2, 4, 4, 3\]"):
        psnr(torch.zeros(1, 4, 4, 3), torch.zeros(2, 4, 4, 3))
    with pytest.raises(ValueError, match="the mask"):
        psnr(torch.zeros(1, 4, 4, 3), torch.zeros(1, 4, 4, 3), torch.zeros(3, 4))


# -- frame consistency


def test_equal_frames_are_fully_consistent():
    assert frame_consistency(torch.tensor([[1.0, 2.0, 3.0]]).expand(5, 3)) == pytest.approx(100.0)


def test_consistency_is_the_mean_cosine_over_pairs():
    # Unit vectors at 0, 60 and 90 degrees: pairs of 60, 90 and 30 degrees.
    angles = torch.deg2rad(torch.tensor([0.0, 60.0, 90.0]))
    features = torch.stack([angles.cos(), angles.sin()], 1) * torch.tensor([[1.0], [5.0], [0.1]])
    expected = 100 * (0.5 + 0.0 + math.sqrt(3) / 2) / 3
    assert frame_consistency(features) == pytest.approx(expected, abs=1e-4)
    assert math.isnan(frame_consistency(features[:1]))


# -- warping error


def test_flow_of_a_shifted_picture():
    frames = (shifting(shift=3, frames=2) * 255).round().byte().numpy()
    flow = optical_flow(frames[0], frames[1])
    assert np.median(flow[..., 0]) == pytest.approx(3.0, abs=0.1)
    assert np.median(flow[..., 1]) == pytest.approx(0.0, abs=0.1)


def test_warping_along_a_known_flow_undoes_the_shift():
    picture = texture().astype(np.float32)
    moved = np.roll(picture, 3, axis=1)
    flow = np.zeros((*picture.shape[:2], 2), np.float32)
    flow[..., 0] = 3
    np.testing.assert_allclose(warp(moved, flow)[:, :-3], picture[:, :-3], atol=1e-3)


def test_what_leaves_the_picture_is_occluded():
    flow = np.zeros((8, 10, 2), np.float32)
    flow[..., 0] = 2
    hidden = occluded(flow, -flow)
    assert hidden[:, -2:].all()
    assert not hidden[:, :-2].any()


def test_flows_that_do_not_cancel_are_occluded():
    flow = np.zeros((8, 10, 2), np.float32)
    assert occluded(flow, np.full_like(flow, 3.0)).all()


def test_a_shifted_clip_has_hardly_any_warping_error():
    frames = shifting()
    unmoved = float((frames[1:] - frames[:-1]).square().mean())
    assert warping_error(frames) < 0.02 * unmoved
    assert warping_error(frames, frames) == warping_error(frames)


def test_flicker_and_other_motion_are_found_out():
    frames = shifting()
    flicker = (frames + 0.1 * torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None, None, None]).clamp(0, 1)
    assert warping_error(flicker, frames) == pytest.approx(0.04, rel=0.25)
    still = frames[:1].expand_as(frames)
    assert warping_error(still) == 0.0
    assert warping_error(still, frames) > 20 * warping_error(frames)


def test_warping_error_of_small_and_short_clips():
    assert warping_error(torch.rand(3, 8, 8, 3)) >= 0
    assert math.isnan(warping_error(torch.rand(1, 64, 64, 3)))
    with pytest.raises(ValueError, match="the source is"):
        warping_error(torch.rand(2, 64, 64, 3), torch.rand(3, 64, 64, 3))


# -- CLIP


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    return make_tiny_clip(tmp_path_factory.mktemp("clip"))


def test_clip_measures_agree_with_the_whole_model(clip_folder):
    score = ClipScore(clip_folder)
    frames = torch.rand(3, 40, 60, 3, generator=torch.Generator().manual_seed(0))
    images = [Image.fromarray((frame * 255).round().byte().numpy()).resize((480, 480)) for frame in frames]
    inputs = score.processor(text=["a cat"], images=images, return_tensors="pt", padding=True)
    with torch.no_grad():
        whole = score.model(**inputs)
    assert score.text_alignment(frames, "a cat") == pytest.approx(
        float(whole.logits_per_image.mean()), abs=1e-3
    )
    cosines = whole.image_embeds @ whole.image_embeds.T
    pairs = 100 * float(cosines.sum() - cosines.diagonal().sum()) / 6
    assert score.frame_consistency(frames) == pytest.approx(pairs, abs=1e-3)


def test_clip_finds_equal_frames_consistent_and_reads_long_prompts(clip_folder):
    score = ClipScore(clip_folder)
    frames = torch.rand(1, 32, 32, 3).expand(4, 32, 32, 3)
    assert score.frame_consistency(frames) == pytest.approx(100.0, abs=1e-3)
    assert math.isfinite(score.text_alignment(frames, "a cat " * 100))


def test_a_folder_without_clip_is_refused(tmp_path):
    with pytest.raises(OSError):
        ClipScore(tmp_path)
