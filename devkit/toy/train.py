"""Train everything: ``python -m devkit.toy.train``.

The stages are vae, base (UNet and text encoder, at a constant rate: `--steps` sets or extends its
length), anneal (the same at a falling rate, from whatever base has reached), decoder (the
autoencoder's decoder learns on; the latents stay), classifier, variants (DreamBooth, LoRA, ControlNet)
and second (the UNet in SD 2.x's layout); the last three take their networks from anneal. A killed
run goes on where it was when the same command is given again. On a CPU, `--workers 2` lets two
processes take steps together.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from . import classifier, diffusion, lora, reading, vae, variants
from .checkpoint import load_checkpoint
from .export import models_in_training
from .models import build_vae
from .shards import load_shards
from .training import averaged_weights, device, write_log

STAGES = ("vae", "base", "anneal", "decoder", "classifier", "variants", "second")
ASSETS = Path(__file__).parents[2] / "assets" / "tiny"
AUTOENCODER = ASSETS / "toy-autoencoder.safetensors"
"""The autoencoder as far as it is trained; 28 dB are wanted before a UNet learns on its latents."""


def main() -> None:
    """Train the stages asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--work", type=Path, default=Path("build/toy"), help="pools and states")
    parser.add_argument("--out", type=Path, default=ASSETS, help="where the weights of other stages go")
    parser.add_argument("--start", type=Path, help="a checkpoint whose weights vae and base begin with")
    parser.add_argument(
        "--autoencoder", type=Path, default=AUTOENCODER, help="weights that vae goes on from, without a start"
    )
    parser.add_argument("--steps", type=int, default=diffusion.SETTINGS.steps, help="length of base")
    parser.add_argument(
        "--batch", type=int, default=diffusion.SETTINGS.batch, help="pictures of a step of base"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes (CPU)")
    parser.add_argument("--threads", type=int, help="threads of each process (CPU)")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.threads:
        torch.set_num_threads(options.threads)
    for stage in STAGES:
        if stage in options.stages:
            _RUN[stage](options)
    options.out.mkdir(parents=True, exist_ok=True)
    write_log(_SETTINGS, options.work, options.out / "toy-training-log.json")


def _vae(options: argparse.Namespace) -> None:
    if options.start:
        model = load_checkpoint(options.start).vae
    else:
        model = build_vae()
        weights = load_file(options.autoencoder)
        model.load_state_dict({key: value.float() for key, value in weights.items()})
    vae.train_vae(model, options.work, workers=_workers(options))


def _base(options: argparse.Namespace) -> None:
    start = load_checkpoint(options.start) if options.start else None
    settings = replace(diffusion.SETTINGS, steps=options.steps, batch=options.batch)
    diffusion.train_base(load_shards(options.work), options.work, start, settings, _workers(options))


def _anneal(options: argparse.Namespace) -> None:
    diffusion.anneal_base(load_shards(options.work), options.work, workers=_workers(options))


def _decoder(options: argparse.Namespace) -> None:
    model = build_vae()
    model.load_state_dict(averaged_weights("vae", options.work))
    vae.train_decoder(model, options.work, workers=_workers(options))


def _classifier(options: argparse.Namespace) -> None:
    model = reading.train_classifier(options.work, workers=_workers(options))
    classifier.save_classifier(model.cpu(), options.out / "toy-classifier.safetensors")


def _variants(options: argparse.Namespace) -> None:
    models = models_in_training(options.work, "anneal")
    variants.train_dreambooth(models, options.work, options.out / "toy-dreambooth.safetensors")
    lora.train_lora(models, options.work, options.out / "toy-lora.safetensors")
    variants.train_controlnet(models, options.work, options.out / "toy-controlnet.safetensors")


def _second(options: argparse.Namespace) -> None:
    models = models_in_training(options.work, "anneal")
    out = options.out / "toy-2.safetensors"
    variants.train_second(models, load_shards(options.work), options.work, out, workers=_workers(options))


def _workers(options: argparse.Namespace) -> int:
    return options.workers if device().type == "cpu" else 1


_RUN = {
    "vae": _vae,
    "base": _base,
    "anneal": _anneal,
    "decoder": _decoder,
    "classifier": _classifier,
    "variants": _variants,
    "second": _second,
}
_SETTINGS = {
    "vae": vae.SETTINGS,
    "base": diffusion.SETTINGS,
    "anneal": diffusion.ANNEAL,
    "decoder": vae.DECODER_SETTINGS,
    "classifier": reading.SETTINGS,
    "dreambooth": variants.DREAMBOOTH,
    "lora": lora.SETTINGS,
    "controlnet": variants.CONTROLNET,
    "second": variants.SECOND,
}


if __name__ == "__main__":
    main()
