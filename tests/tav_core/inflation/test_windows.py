"""Which frames a part of a clip needs before it."""

import pytest
import torch

from tav_core.inflation.attention import ATTENTION_MODES, gather_sources
from tav_core.inflation.windows import frames_before


@pytest.mark.parametrize("attention", [mode for mode in ATTENTION_MODES if mode not in ("all", "off")])
@pytest.mark.parametrize("start", range(6))
def test_a_part_with_the_frames_before_it_sees_what_it_sees_in_the_whole_clip(attention, start):
    """Each frame holds its number, so that what is gathered tells its sources."""
    clip = torch.arange(8.0).reshape(8, 1, 1)
    whole = gather_sources(clip, 8, attention)
    before = frames_before(start, attention)
    part = torch.cat([clip[before], clip[start:7]])
    assert torch.equal(gather_sources(part, len(part), attention)[len(before) :], whole[start:7])


@pytest.mark.parametrize(
    ("attention", "start", "expected"),
    [
        ("first+previous", 5, [0, 4]),
        ("first+previous", 1, [0]),
        ("first+previous", 0, []),
        ("first", 5, [0]),
        ("previous", 5, [4]),
        ("all", 5, [0, 4]),
        ("off", 5, []),
    ],
)
def test_only_what_is_wanted_comes_along(attention, start, expected):
    assert frames_before(start, attention) == expected
