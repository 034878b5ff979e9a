"""Captioned latents that the UNet learns from, in shards: more can be made while it trains.

``python -m devkit.toy.shards --work DIR --count N`` makes those that are missing.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny

from ..say import say
from .captions import training_caption
from .models import build_vae
from .pool import pictures, scenes, to_tensor
from .scene import Scene
from .tokens import tokenize
from .training import averaged_weights, device
from .vae import encode

SHARD = 1000
"""Pictures of a shard."""

FIRST_SEED = 1000


@dataclass
class Captioned:
    """Latents float16 (N, 4, 16, 16) and the tokens int64 (N, 77) of their captions."""

    latents: torch.Tensor
    tokens: torch.Tensor


def shard_scenes(index: int) -> list[Scene]:
    """Return the scenes of a shard."""
    return scenes(SHARD, FIRST_SEED + index)


def make_shard(vae: AutoencoderTiny, index: int, folder: Path) -> None:
    """Render and encode a shard, unless it is there; pictures that lie ready are used."""
    path = folder / f"latents-{index:03}.npy"
    if path.exists():
        return
    ready = folder / f"pictures-{index:03}.npy"
    latents = latents_of(vae, pictures(shard_scenes(index), ready))
    temporary = path.with_suffix(".part.npy")
    np.save(temporary, latents.numpy())
    os.replace(temporary, path)
    ready.unlink()


def load_shards(folder: Path) -> Captioned:
    """Return all shards that are there. Raises FileNotFoundError if there is none."""
    latents, texts = [], []
    for path in sorted(folder.glob("latents-[0-9][0-9][0-9].npy")):
        index = int(path.stem[-3:])
        rng = np.random.default_rng([FIRST_SEED, index])
        latents.append(torch.from_numpy(np.load(path)))
        texts += [training_caption(scene, rng) for scene in shard_scenes(index)]
    if not latents:
        raise FileNotFoundError(f"no latents in {folder}: run python -m devkit.toy.shards")
    return Captioned(torch.cat(latents), captions_tokens(texts))


def latents_of(vae: AutoencoderTiny, images: np.ndarray) -> torch.Tensor:
    """Return the latents, float16 (N, 4, 16, 16), of pictures uint8 (N, 128, 128, 3)."""
    vae = vae.to(device(), memory_format=torch.channels_last)
    parts = []
    for start in range(0, len(images), 64):
        batch = to_tensor(images[start : start + 64]).to(device())
        parts.append(encode(vae, batch).half().cpu())
    return torch.cat(parts)


def captions_tokens(captions: list[str]) -> torch.Tensor:
    """Return the tokens int64 (N, 77) of captions, each distinct one tokenised once."""
    distinct = {text: tokenize(text) for text in set(captions)}
    return torch.stack([distinct[text] for text in captions])


def main() -> None:
    """Make the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=8, help="shards from the first on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    autoencoder = build_vae()
    autoencoder.load_state_dict(averaged_weights("vae", options.work))
    for index in range(options.first, options.first + options.count):
        make_shard(autoencoder.eval(), index, options.work)
        say(f"shard {index}")


if __name__ == "__main__":
    main()
