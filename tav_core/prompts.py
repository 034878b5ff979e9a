"""Prompts over time: the prompts of each frame and their weights."""

import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor

_KEY = r"^\s*(?P<quote>[\"']?)(?P<frame>\d{1,9})(?P=quote)\s*:(?P<text>.*)$"

# Frames are numbered up to here on the node; more keys could not be seen.
MOST_KEYS = 1024
# Prompts of 1, 2, 3, 4 and 5 text windows have a common multiple of 60; that of longer ones may fill the memory.
MOST_TOKENS = 60 * 77


class ScheduleError(ValueError):
    """A prompt schedule cannot be read; the message says which line and why."""


@dataclass(frozen=True)
class PromptKey:
    """From frame ``frame`` (counted from 0) on, the clip shows ``text``."""

    frame: int
    text: str


def parse_schedule(text: str) -> list[PromptKey]:
    """Reads lines such as ``0: a man is skiing`` or ``"12": "spider man is skiing"``.

    A trailing comma and quotes around the text are dropped, empty lines skipped; keys may stand in any order and come
    back sorted. Raises ScheduleError for a line without a frame number, a frame given twice, no key at all or too many.
    """
    keys: dict[int, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        match = re.match(_KEY, line)
        if match is None:
            raise ScheduleError(
                f"line {number} needs a frame number and a colon, as in '12: a cat': {line.strip()[:60]!r:.90}"
            )
        frame = int(match["frame"])
        if frame in keys:
            raise ScheduleError(f"line {number} gives frame {frame} a second time")
        keys[frame] = _unquoted(match["text"])
        if len(keys) > MOST_KEYS:
            raise ScheduleError(f"there are more than {MOST_KEYS} keys; leave some out")
    if not keys:
        raise ScheduleError("there is no key; write lines such as '0: a man is skiing'")
    return [PromptKey(frame, keys[frame]) for frame in sorted(keys)]


def key_weights(keys: list[PromptKey], frames: int, blend: bool = True) -> Tensor:
    """(frames, len(keys)) float32 weights that sum to 1 per frame.

    With ``blend`` they go linearly from one key to the next, otherwise each key holds until the next. Before the first
    key and after the last, that key alone counts.
    """
    weights = torch.zeros(frames, len(keys))
    for frame in range(frames):
        after = next((i for i, key in enumerate(keys) if key.frame > frame), len(keys))
        before = max(after - 1, 0)
        weights[frame, before] = 1.0
        if blend and 0 < after < len(keys):
            part = (frame - keys[before].frame) / (keys[after].frame - keys[before].frame)
            weights[frame, before], weights[frame, after] = 1.0 - part, part
    return weights


def blend_embeddings(embeddings: list[Tensor], weights: Tensor) -> Tensor:
    """Per-frame embeddings (frames, tokens, width) from one (1, tokens, width) per key and (frames, keys) weights.

    Prompts of different length are repeated to their least common multiple, which leaves attention as it is. Raises
    ScheduleError if that is too long.
    """
    tokens = math.lcm(*(embedding.shape[1] for embedding in embeddings))
    longest = max(embedding.shape[1] for embedding in embeddings)
    if tokens > max(MOST_TOKENS, longest):
        raise ScheduleError(
            "the prompts are of too many different lengths to blend; make the longest ones shorter"
        )
    stacked = torch.cat([e[:1].repeat(1, tokens // e.shape[1], 1) for e in embeddings])
    return torch.einsum("fk,ktw->ftw", weights.to(stacked), stacked)


def _unquoted(text: str) -> str:
    text = text.strip().rstrip(",").strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    return text
