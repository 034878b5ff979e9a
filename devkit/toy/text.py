"""The text encoder in training: embeddings only for the dataset's own tokens."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from transformers import CLIPTextModel

from .models import CONTEXT, EOS_TOKEN, TOKENS, build_text_encoder
from .tokens import USED

EMPTY_SHARE = 0.1
"""Share of captions left empty, for classifier-free guidance."""

STRANGE_SHARE = 0.15
"""Share of captions into which a word from outside the dataset is put, so that those stay harmless."""


class SmallVocabulary(nn.Module):
    """A text encoder whose last embedding stands for every token of CLIP that captions do not use.

    With `new_words` the embeddings begin anew: orthogonal, so that words are apart from the first step on.
    """

    def __init__(self, encoder: CLIPTextModel | None = None, new_words: bool = False) -> None:
        super().__init__()
        self.encoder = encoder or build_text_encoder()
        table = nn.Embedding(len(USED) + 1, CONTEXT)
        full = self.encoder.get_input_embeddings().weight.data
        if encoder is None or new_words:
            nn.init.orthogonal_(table.weight, gain=CONTEXT**0.5 * 0.5)
        else:
            table.weight.data[:-1] = full[list(USED)]
            table.weight.data[-1] = full[0]
        self.encoder.set_input_embeddings(table)
        rows = torch.full((len(full),), len(USED))
        rows[list(USED)] = torch.arange(len(USED))
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the context (N, 77, 96) of CLIP tokens (N, 77)."""
        return self.encoder(self.rows[tokens]).last_hidden_state

    def full(self) -> CLIPTextModel:
        """Return a text encoder over CLIP's whole vocabulary with the same outputs."""
        whole = build_text_encoder()
        table = self.encoder.get_input_embeddings().weight.detach()[self.rows]
        weights = {
            key: value
            for key, value in self.encoder.state_dict().items()
            if not key.endswith("token_embedding.weight")
        }
        whole.load_state_dict(weights, strict=False)
        whole.get_input_embeddings().weight.data.copy_(table)
        return whole.eval()


def disturb(tokens: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Empty some of the captions (N, 77) and put an unknown word into others."""
    tokens = tokens.clone()
    for row in tokens:
        draw = rng.random()
        if draw < EMPTY_SHARE:
            row[1:] = EOS_TOKEN
        elif draw < EMPTY_SHARE + STRANGE_SHARE:
            length = int((row != EOS_TOKEN).sum())
            place = int(rng.integers(1, length + 1))
            row[place + 1 :] = row[place : TOKENS - 1].clone()
            row[place] = 0
    return tokens
