"""Measure the shipped weights: ``python -m devkit.world.report``."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch

from ..say import say
from .checkpoint import Models, load_checkpoint
from .compose import Scene
from .data import rendered, scenes, to_tensor
from .judge import Judge, load_judge
from .sample import GUIDANCE, STEPS, text_to_image
from .train import ASSETS
from .vae import reconstruction_psnr
from .variants import assemble
from .vocabulary import BACKGROUNDS, OBJECTS, STYLES, caption, is_held_out

SAMPLES = 200


def vae_figures(models: Models, count: int = 100, seed: int = 901) -> dict:
    """Return reconstruction PSNR in dB over pictures of held-out compositions."""
    pool = scenes(count, seed, held_out=True)
    images = to_tensor(rendered(pool))
    values = torch.cat([reconstruction_psnr(models.vae, part) for part in images.split(20)])
    by_style = {
        style: round(values[[scene.style == style for scene in pool]].mean().item(), 2) for style in STYLES
    }
    return {
        "pictures": count,
        "psnr_mean": round(values.mean().item(), 2),
        "psnr_lowest": round(values.min().item(), 2),
        "psnr_by_style": by_style,
    }


def judge_figures(judge: Judge, images: np.ndarray, pool: list[Scene]) -> dict:
    """Return the judge's accuracy and centre error on pictures with one sprite each."""
    frames = torch.from_numpy(images).float().div(255)
    answers = [judge(part) for part in frames.split(50)]
    found = {key: torch.cat([answer[key] for answer in answers]) for key in answers[0]}
    asked = [_numbers(scene.sprites[0].name, scene.background, scene.style) for scene in pool]
    objects, backgrounds, styles = torch.tensor(asked).T
    centres = torch.tensor([scene.sprites[0].centre for scene in pool])
    errors = (found["centre"] - centres).norm(dim=1)
    return {
        "pictures": len(pool),
        "object": _share(found["object"] == objects),
        "background": _share(found["background"] == backgrounds),
        "style": _share(found["style"] == styles),
        "centre_error_median_px": round(errors.median().item(), 2),
        "centre_error_p90_px": round(errors.quantile(0.9).item(), 2),
    }


def prompts(count: int, seed: int) -> list[tuple[str, str, str]]:
    """Return `count` seeded compositions (object, background, style), all equally likely."""
    rng = np.random.default_rng(seed)
    return [
        (str(rng.choice(OBJECTS)), str(rng.choice(BACKGROUNDS)), str(rng.choice(STYLES)))
        for _ in range(count)
    ]


def sampling_figures(
    models: Models,
    judge: Judge,
    count: int = SAMPLES,
    seed: int = 912,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
) -> tuple[dict, torch.Tensor]:
    """Return how often the judge finds what was asked in text-to-image samples.

    Also returns the samples, float (count, 128, 128, 3) in 0..1.
    """
    asked = prompts(count, seed)
    parts = []
    for start in range(0, count, 50):
        texts = [caption((name,), *rest) for name, *rest in asked[start : start + 50]]
        parts.append(text_to_image(models, texts, seed + start, steps, guidance))
    pictures = torch.cat(parts)
    answers = [judge(part) for part in pictures.split(50)]
    numbers = torch.tensor([_numbers(*item) for item in asked])
    hits = torch.stack(
        [
            torch.cat([answer[key] for answer in answers]) == numbers[:, column]
            for column, key in enumerate(("object", "background", "style"))
        ]
    )
    every = hits.all(dim=0)
    unseen = torch.tensor([is_held_out(*item) for item in asked])
    figures = {
        "samples": count,
        "sampler": "DDIM",
        "steps": steps,
        "guidance": guidance,
        "object": _share(hits[0]),
        "background": _share(hits[1]),
        "style": _share(hits[2]),
        "all_three": _share(every),
        "all_three_held_out": _share(every[unseen]),
        "held_out_samples": int(unseen.sum()),
        "missed": [
            caption((name,), *rest)
            for (name, *rest), hit in zip(asked, every.tolist(), strict=True)
            if not hit
        ],
    }
    return figures, pictures


def load_second(assets: Path) -> Models:
    """Return the models of the checkpoint of SD 2.x's kind, of its UNet and the base in the folder `assets`."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.safetensors"
        assemble(assets / "tiny-world.safetensors", assets / "tiny-world-2.safetensors", whole)
        return load_checkpoint(whole)


def write_sheet(pictures: torch.Tensor, path: Path, columns: int = 10) -> None:
    """Write pictures, float (N, H, W, 3) in 0..1, side by side as a PNG."""
    array = pictures.mul(255).round().byte().numpy()
    array = array[: len(array) // columns * columns]
    rows = [np.hstack(array[start : start + columns]) for start in range(0, len(array), columns)]
    cv2.imwrite(str(path), np.ascontiguousarray(np.vstack(rows)[..., ::-1]))


def main() -> None:
    """Measure the weights in a folder and write figures.json there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=Path, default=ASSETS)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--sheet", type=Path, help="also write the samples side by side (.png)")
    options = parser.parse_args()
    models = load_checkpoint(options.assets / "tiny-world.safetensors")
    judge = load_judge(options.assets / "judge.safetensors")
    pool = scenes(500, 903, held_out=True)
    images = rendered(pool)
    sampling, pictures = sampling_figures(models, judge, options.samples)
    figures = {
        "vae": vae_figures(models),
        "judge_held_out": judge_figures(judge, images, pool),
        "text_to_image": sampling,
        "text_to_image_2": sampling_figures(load_second(options.assets), judge, options.samples)[0],
    }
    path = options.assets / "figures.json"
    path.write_text(json.dumps(figures, indent=1) + "\n")
    say(path.read_text())
    if options.sheet:
        write_sheet(pictures, options.sheet)


def _numbers(name: str, background: str, style: str) -> tuple[int, int, int]:
    return OBJECTS.index(name), BACKGROUNDS.index(background), STYLES.index(style)


def _share(hits: torch.Tensor) -> float:
    return round(hits.float().mean().item(), 4)


if __name__ == "__main__":
    main()
