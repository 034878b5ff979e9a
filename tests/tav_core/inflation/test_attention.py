"""Sparse-causal attention against loops over frames, positions' tiles and heads."""

import pytest
import torch
from torch.nn import functional

from tav_core.inflation.attention import frames_before, gather_sources, sparse_causal_attention
from tav_core.inflation.mode import ATTENTION_MODES
from tav_core.pipeline.unet import attend as heads_attend

SOURCES = {
    "first+previous": lambda i, frames: [0, max(i - 1, 0)],
    "first": lambda i, frames: [0],
    "previous": lambda i, frames: [max(i - 1, 0)],
    "all": lambda i, frames: list(range(frames)),
    "off": lambda i, frames: [i],
}
TOKENS, CHANNELS = 6, 8


def attend(q, k, v):
    return heads_attend(q, k, v, 2)


def rows(frames, batch=2, tokens=TOKENS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, batch * frames, tokens, CHANNELS, generator=generator, dtype=torch.float64)


def by_hand(q, k, v, frames, mode, heads=2):
    """(batch * frames, tokens, channels): one softmax per frame, head and position."""
    out = torch.zeros_like(q)
    width = q.shape[-1] // heads
    for row in range(len(q)):
        start = row - row % frames
        sources = [start + s for s in SOURCES[mode](row % frames, frames)]
        keys, values = torch.cat([k[s] for s in sources]), torch.cat([v[s] for s in sources])
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            for token in range(q.shape[1]):
                scores = keys[:, part] @ q[row, token, part] / width**0.5
                out[row, token, part] = scores.softmax(0) @ values[:, part]
    return out


@pytest.mark.parametrize("mode", ATTENTION_MODES)
@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_every_mode_equals_loops_over_frames(mode, frames):
    q, k, v = rows(frames)
    expected = by_hand(q, k, v, frames, mode)
    torch.testing.assert_close(sparse_causal_attention(q, k, v, frames, mode, attend), expected)


@pytest.mark.parametrize("mode", ATTENTION_MODES)
@pytest.mark.parametrize("tiles", [2, 3])
@pytest.mark.parametrize("frames", [1, 3])
def test_tiled_queries_see_the_same_tile_of_their_source_frames(mode, tiles, frames):
    q, k, v = rows(frames)
    run = TOKENS // tiles
    cut = [x.reshape(-1, tiles, run, CHANNELS) for x in (q, k, v)]
    expected = torch.stack([by_hand(*(x[:, t] for x in cut), frames, mode) for t in range(tiles)], dim=1)
    out = sparse_causal_attention(q.reshape(-1, run, CHANNELS), k, v, frames, mode, attend)
    torch.testing.assert_close(out, expected.flatten(0, 1))


@pytest.mark.parametrize("mode", ATTENTION_MODES)
def test_fewer_queries_than_keys_keep_all_keys(mode):
    """Token merging shortens the queries only."""
    q, k, v = rows(3)
    expected = by_hand(q[:, :4], k, v, 3, mode)
    torch.testing.assert_close(sparse_causal_attention(q[:, :4], k, v, 3, mode, attend), expected)


@pytest.mark.parametrize("mode", ATTENTION_MODES)
def test_which_frames_a_frame_depends_on(mode):
    """Read off the gradients: no key of a frame that is not a source has any influence."""
    frames = 4
    q, k, v = rows(frames, batch=2)
    v.requires_grad_()
    out = sparse_causal_attention(q, k, v, frames, mode, attend)
    for row in range(2 * frames):
        (gradient,) = torch.autograd.grad(out[row].sum(), v, retain_graph=True)
        seen = set(gradient.abs().sum((1, 2)).nonzero().flatten().tolist())
        start = row - row % frames
        assert seen == {start + s for s in SOURCES[mode](row % frames, frames)}


@pytest.mark.parametrize("mode", ["first+previous", "previous"])
def test_a_frame_never_sees_itself(mode):
    q, k, v = rows(4, batch=1)
    for frame in range(1, 4):
        changed = v.clone()
        changed[frame] += 100.0
        before = sparse_causal_attention(q, k, v, 4, mode, attend)[frame]
        assert torch.equal(sparse_causal_attention(q, k, changed, 4, mode, attend)[frame], before)


def test_off_is_plain_attention_bit_for_bit():
    q, k, v = rows(3)
    assert torch.equal(sparse_causal_attention(q, k, v, 3, "off", attend), attend(q, k, v))


def test_the_first_two_frames_see_frame_0_twice():
    x = torch.arange(3.0).reshape(3, 1, 1)
    assert gather_sources(x, 3, "first+previous").flatten(1).tolist() == [[0, 0], [0, 0], [0, 1]]
    assert gather_sources(x, 3, "previous").flatten(1).tolist() == [[0], [0], [1]]


def test_frame_0_seen_twice_costs_no_more_than_seen_once():
    pairs = []

    def count(q, k, v):
        pairs.append(q.shape[0] * q.shape[1] * k.shape[1])
        return attend(q, k, v)

    for frames in (2, 3, 8):
        pairs.clear()
        sparse_causal_attention(*rows(frames, batch=1), frames, "first+previous", count)
        assert sum(pairs) == TOKENS**2 * (2 + 2 * (frames - 2))


def test_clips_of_a_batch_do_not_see_each_other():
    q, k, v = rows(3, batch=2)
    for mode in ATTENTION_MODES:
        both = sparse_causal_attention(q, k, v, 3, mode, attend)
        alone = sparse_causal_attention(q[3:], k[3:], v[3:], 3, mode, attend)
        torch.testing.assert_close(both[3:], alone)


def test_non_contiguous_input():
    q, k, v = (x.transpose(0, 1).contiguous().transpose(0, 1) for x in rows(3))
    assert not q.is_contiguous()
    for mode in ATTENTION_MODES:
        expected = by_hand(q, k, v, 3, mode)
        torch.testing.assert_close(sparse_causal_attention(q, k, v, 3, mode, attend), expected)


def test_attend_with_one_head_is_softmax_attention():
    q, k, v = rows(1)
    expected = (q @ k.mT / CHANNELS**0.5).softmax(-1) @ v
    torch.testing.assert_close(heads_attend(q, k, v, 1), expected)
    assert not torch.allclose(heads_attend(q, k, v, 2), expected)
    assert heads_attend(q, k, v, 2).shape == functional.scaled_dot_product_attention(q, k, v).shape


# Parts of a clip


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
