"""Tokenise captions of the toy dataset without CLIP's tokenizer files.

Every word is one token of CLIP's vocabulary, so that a table is enough.
"""

from __future__ import annotations

import re

import torch

from .models import BOS_TOKEN, EOS_TOKEN, TOKENS

WORDS = {
    "a": 320, "an": 550, "and": 537, ",": 267, "is": 533, "are": 631, "on": 525, "the": 518, "in": 530,
    "man": 786, "woman": 2308, "robot": 8797, "astronaut": 18376, "panda": 12952, "skeleton": 20062,
    "snowman": 22668, "knight": 7355, "dinosaur": 15095, "sks": 48136,
    "walking": 3941, "jumping": 11476, "waving": 26545, "dancing": 6226, "bowing": 46398,
    "doing": 1960, "star": 1565, "jumps": 18911,
    "beach": 2117, "snow": 2583, "moon": 3293, "forest": 4167, "city": 1305, "desert": 7301,
    "style": 1844, "sketch": 5269, "blueprint": 30594, "neon": 13919,
}  # fmt: skip
"""The dataset's words and their numbers in CLIP's vocabulary."""

USED = (*sorted(WORDS.values()), BOS_TOKEN, EOS_TOKEN)
"""Every token that a caption can hold."""


def tokenize(text: str) -> torch.Tensor:
    """Return the tokens of a caption, int64 (77,), as CLIP's tokenizer gives them.

    Raises KeyError for a word that is not of the toy dataset.
    """
    tokens = [WORDS[word] for word in re.findall(r"\w+|,", text.lower())]
    tokens = [BOS_TOKEN, *tokens, EOS_TOKEN]
    return torch.tensor(tokens + [EOS_TOKEN] * (TOKENS - len(tokens)))
