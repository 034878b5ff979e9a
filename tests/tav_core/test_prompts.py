"""Prompts over time."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tav_core.prompts import (
    MOST_KEYS,
    PromptKey,
    ScheduleError,
    blend_embeddings,
    key_weights,
    parse_schedule,
)


def test_lines_are_read_in_any_order_with_or_without_quotes():
    text = '12: spider man is skiing,\n\n "0" : "a man: skiing",\n'
    assert parse_schedule(text) == [PromptKey(0, "a man: skiing"), PromptKey(12, "spider man is skiing")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no key"),
        ("a man", "line 1"),
        ("0: a\n0: b", "second time"),
        ("0: a\n-3: b", "line 2"),
        ("1e3: a", "line 1"),
    ],
)
def test_what_cannot_be_read_is_named(text, says):
    with pytest.raises(ScheduleError, match=says):
        parse_schedule(text)


def test_weights_go_linearly_between_keys():
    weights = key_weights([PromptKey(1, "a"), PromptKey(5, "b")], 8)
    assert torch.allclose(weights[:, 1], torch.tensor([0, 0, 0.25, 0.5, 0.75, 1, 1, 1]))
    held = key_weights([PromptKey(1, "a"), PromptKey(5, "b")], 8, blend=False)
    assert held[:, 1].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]


@given(
    st.dictionaries(st.integers(0, 40), st.text(max_size=8), min_size=1, max_size=6),
    st.integers(1, 40),
    st.booleans(),
)
def test_weights_are_a_partition(keys, frames, blend):
    weights = key_weights([PromptKey(frame, keys[frame]) for frame in sorted(keys)], frames, blend)
    assert torch.allclose(weights.sum(1), torch.ones(frames))
    assert bool((weights >= 0).all())
    assert int((weights > 0).sum(1).max()) <= 2


LINES = st.lists(st.from_regex(r"[\"' ]?[0-9]{1,3}[\"']? ?: ?[^\n]{0,20}[,\r]?", fullmatch=True), max_size=6)


@given(st.text(max_size=200) | LINES.map("\n".join), st.integers(1, 32), st.booleans())
def test_any_text_is_read_or_refused_plainly(text, frames, blend):
    try:
        keys = parse_schedule(text)
    except ScheduleError as error:
        assert 0 < len(str(error)) < 200 and "\n" not in str(error)
        return
    assert [key.frame for key in keys] == sorted({key.frame for key in keys})
    assert all(key.text in text for key in keys)
    weights = key_weights(keys, frames, blend)
    assert torch.allclose(weights.sum(dim=1), torch.ones(frames)) and float(weights.min()) >= 0


def test_embeddings_of_different_length_are_repeated():
    short, long = torch.ones(1, 2, 4), torch.arange(12.0).reshape(1, 3, 4)
    frames = blend_embeddings([short, long], torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    assert frames.shape == (2, 6, 4)
    assert torch.equal(frames[0], torch.ones(6, 4))
    assert torch.allclose(frames[1], 0.5 + 0.5 * long[0].repeat(2, 1))


def test_more_keys_than_anyone_can_see_are_refused():
    text = "\n".join(f"{frame}: x" for frame in range(MOST_KEYS))
    assert len(parse_schedule(text)) == MOST_KEYS
    with pytest.raises(ScheduleError, match="more than 1024 keys"):
        parse_schedule(f"{text}\n{MOST_KEYS}: x")


def test_lengths_without_a_small_common_multiple_are_refused():
    few = [torch.zeros(1, 77 * windows, 2) for windows in (1, 2, 3, 4, 5)]
    assert blend_embeddings(few, torch.ones(1, 5)).shape == (1, 77 * 60, 2)
    with pytest.raises(ScheduleError, match="too many different lengths"):
        blend_embeddings([*few, torch.zeros(1, 77 * 7, 2)], torch.ones(1, 6))
    assert blend_embeddings([torch.zeros(1, 77 * 61, 2)], torch.ones(1, 1)).shape[1] == 77 * 61
