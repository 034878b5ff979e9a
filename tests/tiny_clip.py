"""A CLIP model of a few kilobytes with random weights, as transformers saves one."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

_LETTERS = "abcdefghijklmnopqrstuvwxyz,"
_WIDTH = 16


def make_tiny_clip(folder: Path) -> Path:
    """Write model, image processor and a tokenizer that knows letters only into ``folder`` and return it."""
    words = [*_LETTERS, *(letter + "</w>" for letter in _LETTERS), "<|startoftext|>", "<|endoftext|>"]
    last = len(words) - 1
    encoder = {
        "hidden_size": _WIDTH,
        "intermediate_size": 2 * _WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    text = {
        **encoder,
        "vocab_size": len(words),
        "bos_token_id": last - 1,
        "eos_token_id": last,
        "pad_token_id": last,
    }
    vision = {**encoder, "image_size": 32, "patch_size": 8}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=_WIDTH))
    model.save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessor(**sizes).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": words[-2],
        "eos_token": words[-1],
        "pad_token": words[-1],
        "unk_token": words[-1],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
