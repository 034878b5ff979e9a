"""Measure the trained weights: ``python -m devkit.toy.report``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from ..say import say
from .agreement import agreement
from .captions import caption, is_held_out
from .checkpoint import Models, load_checkpoint
from .classifier import Classifier, load_classifier
from .figures import FIGURES
from .grounds import GROUNDS
from .pool import scenes, to_tensor
from .poses import VERBS
from .reading import labels_of
from .sample import GUIDANCE, STEPS, prompts, text_to_image, write_png
from .scene import Picture, render
from .styles import STYLES
from .train import ASSETS
from .vae import decode, reconstruction_psnr

SAMPLES = 300


def vae_figures(models: Models, count: int = 100, seed: int = 901) -> dict:
    """Return reconstruction PSNR in dB over pictures of held-out compositions."""
    pool = scenes(count, seed, held_out=True)
    images = to_tensor(np.stack([render(scene).image for scene in pool]))
    values = torch.cat([reconstruction_psnr(models.vae, part) for part in images.split(20)])
    return {
        "pictures": count,
        "psnr_mean": _round(values.mean()),
        "psnr_lowest": _round(values.min()),
        "psnr_by_style": {
            style: _round(values[[scene.style == style for scene in pool]].mean()) for style in STYLES
        },
    }


def classifier_figures(classifier: Classifier, count: int = 500, seed: int = 903) -> dict:
    """Return the classifier's accuracy and joint errors on rendered pictures of held-out compositions."""
    shown = [render(scene) for scene in scenes(count, seed, held_out=True)]
    reading = classifier(torch.from_numpy(np.stack([picture.image for picture in shown])).float().div(255))
    labels = labels_of([picture.scene for picture in shown], [picture.joints for picture in shown])
    labels = {name: value.cpu() for name, value in labels.items()}
    there = labels["figure"] >= 0
    figures = {"pictures": count, "count": _share((reading.there > 0.5) == there)}
    for name in ("figure", "look", "verb", "facing"):
        figures[name] = _share((reading.best(name) == labels[name])[there])
    for name in ("ground", "style"):
        figures[name] = _share(reading.best(name) == labels[name])
    errors = (reading.joints - labels["joints"]).norm(dim=3)[there]
    figures["joint_error_median_px"] = _round(errors.median())
    figures["joint_error_p90_px"] = _round(errors.flatten().quantile(0.9))
    return figures


def ceiling_figures(models: Models, classifier: Classifier, count: int = 100, seed: int = 905) -> dict:
    """Return re-render agreement of rendered pictures after a round trip through the autoencoder."""
    shown = [render(scene) for scene in scenes(count, seed, pair_share=0)]
    return agreement_figures(classifier, round_trip(models, shown))


@torch.no_grad()
def round_trip(models: Models, shown: list[Picture]) -> np.ndarray:
    """Return the pictures, uint8 (N, 128, 128, 3), encoded and decoded."""
    images = to_tensor(np.stack([picture.image for picture in shown]))
    parts = [decode(models.vae, models.vae.encoder(part)) for part in images.split(20)]
    return _bytes(torch.cat(parts).add(1).div(2).permute(0, 2, 3, 1))


def agreement_figures(classifier: Classifier, images: np.ndarray) -> dict:
    """Return the median agreement of pictures, uint8 (N, 128, 128, 3), with what is read in them."""
    found = agreement(classifier, images)
    return {
        "psnr_median": _round(np.median([one.psnr for one in found])),
        "similarity_median": round(float(np.median([one.similarity for one in found])), 3),
        "misfit_median_px": _round(np.median([one.misfit for one in found])),
    }


def sampling_figures(
    models: Models, classifier: Classifier, count: int, ceiling: float, seed: int = 912
) -> tuple[dict, np.ndarray]:
    """Return how often text-to-image samples show what was asked, and how crisply.

    Also returns the samples, uint8 (count, 128, 128, 3). `ceiling` is the autoencoder's own
    re-render agreement in dB.
    """
    asked = prompts(count, seed)
    parts = []
    for start in range(0, count, 20):
        texts = [caption(*meaning) for meaning in asked[start : start + 20]]
        parts.append(_bytes(text_to_image(models, texts, seed + start)))
    images = np.concatenate(parts)
    found = agreement(classifier, images)
    hits = {
        "figure": [
            one.scene.figures[0].name == meaning.figures[0] for one, meaning in zip(found, asked, strict=True)
        ],
        "verb": [
            one.scene.figures[0].verb == meaning.verb for one, meaning in zip(found, asked, strict=True)
        ],
        "ground": [one.scene.ground == meaning.ground for one, meaning in zip(found, asked, strict=True)],
        "style": [one.scene.style == meaning.style for one, meaning in zip(found, asked, strict=True)],
        "one_figure": [len(one.scene.figures) == 1 for one in found],
    }
    every = np.all(list(hits.values()), axis=0)
    unseen = np.array([is_held_out(meaning.figures[0], *meaning[1:3]) for meaning in asked])
    figures = {"samples": count, "sampler": "DDIM", "steps": STEPS, "guidance": GUIDANCE}
    figures |= {name: _share(torch.tensor(values)) for name, values in hits.items()}
    figures |= {
        "all": round(float(every.mean()), 4),
        "all_held_out": round(float(every[unseen].mean()), 4) if unseen.any() else None,
        "agreement_psnr_median": _round(np.median([one.psnr for one in found])),
        "within_3_db_of_ceiling": round(float(np.mean([one.psnr > ceiling - 3 for one in found])), 4),
        "missed": [caption(*meaning) for meaning, hit in zip(asked, every, strict=True) if not hit],
    }
    return figures, images


def main() -> None:
    """Measure the weights in a folder and write toy-figures.json there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=ASSETS / "toy.safetensors")
    parser.add_argument("--classifier", type=Path, default=ASSETS / "toy-classifier.safetensors")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--out", type=Path, default=ASSETS / "toy-figures.json")
    parser.add_argument("--sheet", type=Path, help="also write 40 samples side by side (.png)")
    options = parser.parse_args()
    models, classifier = load_checkpoint(options.checkpoint), load_classifier(options.classifier)
    ceiling = ceiling_figures(models, classifier)
    sampling, images = sampling_figures(models, classifier, options.samples, ceiling["psnr_median"])
    figures = {
        "vae": vae_figures(models),
        "classifier": classifier_figures(classifier),
        "agreement_ceiling": ceiling,
        "text_to_image": sampling,
        "names": {"figures": FIGURES, "verbs": VERBS, "grounds": GROUNDS, "styles": STYLES},
    }
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    say(options.out.read_text())
    if options.sheet:
        write_png(images[:40], options.sheet)


def _bytes(pictures: torch.Tensor) -> np.ndarray:
    return pictures.mul(255).round().clamp(0, 255).byte().cpu().numpy()


def _round(value: float | torch.Tensor | np.floating) -> float:
    return round(float(value), 2)


def _share(hits: torch.Tensor) -> float:
    return round(hits.float().mean().item(), 4)


if __name__ == "__main__":
    main()
