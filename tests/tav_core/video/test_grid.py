"""Captioned grids of videos."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import ImageFont

from tav_core.video import grid
from tav_core.video.grid import compare_frames, contact_sheet, wrap

LONG = "a very long prompt that goes on about the colours of the evening sky over the sea and everything else"
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=60)


def clip(level: float, frames: int = 6, width: int = 64, height: int = 48) -> torch.Tensor:
    """Flat frames; the third channel counts them."""
    video = torch.full((frames, height, width, 3), level)
    video[..., 2] = torch.linspace(0, 1, frames)[:, None, None]
    return video


def test_side_by_side_shows_each_video_untouched():
    videos = [("source", clip(0.2)), ("an edit", clip(0.6))]
    result = compare_frames(videos)
    frames, height, width, channels = result.shape
    assert (frames, width, channels) == (6, 64 + 4 + 64, 3)
    assert height % 2 == 0 and height > 48
    assert torch.equal(result[:, height - 48 :, :64], videos[0][1])
    assert torch.equal(result[:, height - 48 :, 68:], videos[1][1])


def test_stacked_and_grids():
    videos = [("", clip(0.2)), ("", clip(0.4)), ("", clip(0.6))]
    assert compare_frames(videos, columns=1).shape == (6, 3 * 48 + 2 * 4, 64, 3)
    grid_of_two = compare_frames(videos, columns=2)
    assert grid_of_two.shape == (6, 2 * 48 + 4, 2 * 64 + 4, 3)
    assert torch.equal(grid_of_two[:, 52:, :64], videos[2][1])
    assert grid_of_two[:, 52:, 68:].min() > 0.9, "the empty cell is paper"


def test_contact_sheet_shows_the_same_evenly_spaced_moments():
    sheet = contact_sheet([("", clip(0.2, 11)), ("", clip(0.6, 11))], columns=3)
    assert sheet.shape == (48 * 2 + 4, 64 * 3 + 4 * 2, 3)
    for top in (0, 52):
        assert [float(sheet[top, left, 2]) for left in (0, 68, 136)] == [0, 0.5, 1]


def test_contact_sheet_of_a_short_clip_has_fewer_columns():
    assert contact_sheet([("", clip(0.2, 2))], columns=8).shape == (48, 64 * 2 + 4, 3)
    assert contact_sheet([("", clip(0.2, 1))], columns=8).shape == (48, 64, 3)


def test_the_first_size_and_the_shortest_length_rule():
    videos = [("", clip(0.5)), ("", clip(0.5, frames=4, width=33, height=99))]
    result = compare_frames(videos)
    assert result.shape == (4, 48, 132, 3)
    inner = 33 * 48 // 99
    bar = (64 - inner) // 2
    assert not result[:, :, 68 : 68 + bar].any()
    assert result[:, :, 68 + bar : 68 + bar + inner, 0].min() > 0.45


def test_odd_sizes_become_even():
    assert compare_frames([("", clip(0.5, width=33, height=45))]).shape == (6, 46, 34, 3)


def test_alpha_is_dropped_and_overshoot_is_cut():
    result = compare_frames([("", torch.full((1, 8, 8, 4), 1.5))])
    assert torch.equal(result, torch.ones(1, 8, 8, 3))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="no videos"):
        compare_frames([])
    with pytest.raises(ValueError, match="'edit' must be"):
        contact_sheet([("source", clip(0.1)), ("edit", clip(0.1)[0])])


@pytest.mark.parametrize("width", [64, 256, 512])
def test_captions_are_readable_and_never_touch_the_frames(width):
    videos = [(LONG, torch.zeros(1, 64, width, 3)), ("b", torch.zeros(1, 64, width, 3))]
    result = compare_frames(videos)[0]
    strip = result[: len(result) - 64]
    assert not result[len(result) - 64 :, :width].any()
    left, right = strip[:, :width], strip[:, width + 4 :]
    for caption in (left, right):
        assert caption.min() < 0.3 and caption.median() > 0.9, "dark on light"
        for edge in (caption[0], caption[-1], caption[:, 0], caption[:, -1]):
            assert edge.min() > 0.9, "no text is cut off"
    assert (left < 0.5).sum() > 10 * (right < 0.5).sum()


def test_no_word_is_lost_in_wrapping():
    font = ImageFont.load_default(12)
    lines = wrap(LONG, 100, font)
    assert " ".join(lines) == LONG
    assert max(font.getlength(line) for line in lines) <= 100
    assert wrap("one\n\n two   three ", 1000, font) == ["one", "two three"]
    assert wrap(" \n ", 100, font) == []


@settings(deadline=None)
@given(WORDS, st.integers(20, 300))
def test_wrapping_keeps_every_character(text, width):
    font = ImageFont.load_default(11)
    lines = wrap(text, width, font)
    assert "".join("".join(line.split()) for line in lines) == "".join(text.split())
    assert all(len(line) == 1 or font.getlength(line) <= width for line in lines)


@settings(deadline=None)
@given(st.text(max_size=40))
@example("\ud800\x00\x1b")
def test_any_caption_can_be_drawn(text):
    sheet = contact_sheet([(text, torch.zeros(1, 8, 64, 3))])
    assert sheet.shape[1:] == (64, 3)


def test_accents_survive_without_any_other_font(monkeypatch):
    monkeypatch.setattr(grid, "_SYSTEM_FONTS", ())
    grid._font.cache_clear()
    accented, plain = (contact_sheet([(text, torch.zeros(1, 8, 128, 3))]) for text in ("f\u00fcnf", "funf"))
    grid._font.cache_clear()
    assert torch.equal(accented, plain)
