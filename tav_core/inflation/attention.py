"""Sparse-causal attention: which frames a frame looks at (Tune-A-Video, section 3.2 and eq. 3)."""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor

from .mode import AttentionMode

# The host's attention: queries, keys and values (rows, tokens, channels) to the shape of the queries.
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def gather_sources(x: Tensor, frames: int, mode: AttentionMode, tiles: int = 1) -> Tensor:
    """Lines up the tokens of each frame's source frames.

    "first+previous": frames 0 and i-1, in this order; a frame never looks at itself, except frame 0, and frames 0
    and 1 see frame 0 twice, as in the official code. "previous" of frame 0 is frame 0.

    ``x`` is (batch * frames, tokens, channels); the result is (batch * frames, n * tokens, channels) for n sources.
    With ``tiles`` > 1 the tokens are cut into that many runs, each a row of its own:
    (batch * frames * tiles, n * tokens / tiles, channels). Only slices and concatenation are used, whose
    gradients, unlike an index's, are the same in every run.
    """
    clips = rearrange(x, "(b f) (t n) c -> b f t n c", f=frames, t=tiles)
    first = clips[:, :1].expand_as(clips)
    parts = {
        "first+previous": lambda: [first, _previous(clips)],
        "first": lambda: [first],
        "previous": lambda: [_previous(clips)],
        "all": lambda: [clips[:, i : i + 1].expand_as(clips) for i in range(frames)],
    }
    return rearrange(torch.cat(parts[mode](), dim=3), "b f t n c -> (b f t) n c")


def frames_before(start: int, attention: AttentionMode) -> list[int]:
    """For a part of a clip: the frames before ``start`` that the frames from ``start`` on look at, in order.

    These are the clip's first frame and the one before ``start``, as far as the mode wants them. Set before the
    frames from ``start`` on, they make a shorter clip in which each of these finds its first and previous frame by
    position, as in the whole clip. Of "all", which looks at every frame, the same two are taken.
    """
    first, previous = [0], [start - 1]
    wanted = {
        "first+previous": first + previous,
        "first": first,
        "previous": previous,
        "all": first + previous,
        "off": [],
    }[attention]
    return sorted({frame for frame in wanted if 0 <= frame < start})


def sparse_causal_attention(
    q: Tensor, k: Tensor, v: Tensor, frames: int, mode: AttentionMode, attend: Attend
) -> Tensor:
    """Self-attention of every frame over its source frames.

    ``k`` and ``v`` (batch * frames, tokens, channels) are projected once per frame. ``q`` has the same shape, or
    (batch * frames * tiles, tokens / tiles, channels) where another tool cuts the queries into tiles (HyperTile);
    the keys of each source frame are then cut into as many runs. ``attend(q, k, v)`` is the host's attention.
    Returns the shape of ``q``.
    """
    tiles = q.shape[0] // k.shape[0]
    if mode == "off" or frames == 1:
        return attend(q, *(x.reshape(q.shape[0], -1, x.shape[-1]) for x in (k, v)))
    if tiles == 1 and mode in ("first", "all"):
        # Every frame of a clip has the same keys: one long row of queries needs no copies of them.
        kept = 1 if mode == "first" else frames
        q, k, v = (rearrange(x, "(b f) n c -> b (f n) c", f=frames) for x in (q, k, v))
        tokens = k.shape[1] // frames
        y = attend(q, k[:, : kept * tokens], v[:, : kept * tokens])
        return rearrange(y, "b (f n) c -> (b f) n c", f=frames)
    if tiles == 1 and mode == "first+previous":
        q, k, v = (rearrange(x, "(b f) n c -> b f n c", f=frames) for x in (q, k, v))
        return _first_and_previous(q, k, v, attend)
    return attend(q, gather_sources(k, frames, mode, tiles), gather_sources(v, frames, mode, tiles))


def _first_and_previous(q: Tensor, k: Tensor, v: Tensor, attend: Attend) -> Tensor:
    # (batch, frames, tokens, channels) each. Frames 0 and 1 see frame 0 twice, whose softmax is that of seeing it once:
    # half the work and no copies of keys for them.
    frames = q.shape[1]
    early = attend(q[:, :2].flatten(1, 2), k[:, 0], v[:, 0]).unflatten(1, (2, -1))
    if frames == 2:
        return early.flatten(0, 1)

    def sources(x: Tensor) -> Tensor:
        first, previous = x[:, :1].expand(-1, frames - 2, -1, -1), x[:, 1:-1]
        return torch.cat([first, previous], dim=2).flatten(0, 1)

    late = attend(q[:, 2:].flatten(0, 1), sources(k), sources(v)).unflatten(0, (-1, frames - 2))
    return torch.cat([early, late], dim=1).flatten(0, 1)


def _previous(clips: Tensor) -> Tensor:
    return torch.cat([clips[:, :1], clips[:, :-1]], dim=1)
