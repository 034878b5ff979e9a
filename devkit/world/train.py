"""Train everything from scratch: ``python -m devkit.world.train``.

The stages are vae, judge, base and variants. A killed run goes on where it was when the
same command is given again; `--stages` chooses some of them. On a CPU, `--workers 2` lets
two processes train the base together.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from . import diffusion, judge, vae, variants
from .checkpoint import Models, load_checkpoint, save_checkpoint
from .data import pictures, scenes
from .training import device, write_log

STAGES = ("vae", "judge", "base", "variants")
POOL = 32000
"""Pictures that the autoencoder and the judge learn from."""

POOL_SEED = 100
BASE_POOL = 16000
"""Pictures, the first of the pool, that the UNet learns from."""

ASSETS = Path(__file__).parents[2] / "assets" / "tiny"


def main() -> None:
    """Train the stages asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--work", type=Path, default=Path("build/world"), help="pools and states")
    parser.add_argument("--out", type=Path, default=ASSETS, help="where the weights go")
    parser.add_argument("--workers", type=int, default=1, help="processes of the base (CPU)")
    parser.add_argument("--threads", type=int, help="threads of each process (CPU)")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.threads:
        torch.set_num_threads(options.threads)
    for stage in STAGES:
        if stage in options.stages:
            _RUN[stage](options)
    settings = {
        "vae": vae.SETTINGS,
        "decoder": vae.DECODER_SETTINGS,
        "judge": judge.SETTINGS,
        "base": diffusion.SETTINGS,
        "dreambooth": variants.DREAMBOOTH,
        "lora": variants.LORA,
        "controlnet": variants.CONTROLNET,
    }
    write_log(settings, options.work, options.out / "training-log.json")


def _vae(options: argparse.Namespace) -> None:
    # Both fit() calls return at once where the saved state is already at its last step.
    pool, path = scenes(POOL, POOL_SEED), options.work / "pictures.npy"
    model = vae.train_vae(pool, path, options.work)
    vae.train_decoder(model, pool, path, options.work)


def _judge(options: argparse.Namespace) -> None:
    pool = scenes(POOL, POOL_SEED)
    model = judge.train_judge(pool, options.work / "pictures.npy", options.work)
    judge.save_judge(model.cpu(), options.out / "judge.safetensors")


def _base(options: argparse.Namespace) -> None:
    pool = scenes(POOL, POOL_SEED)
    autoencoder = _trained_vae(options, pool)
    images = pictures(pool, options.work / "pictures.npy")[:BASE_POOL]
    latents = diffusion.cache_latents(autoencoder, images, options.work / "latents.npy")
    tokens = diffusion.captions_tokens([scene.caption for scene in pool[:BASE_POOL]])
    data = diffusion.Captioned(latents, tokens)
    workers = options.workers if device().type == "cpu" else 1
    unet, text = diffusion.train_base(data, options.work, workers=workers)
    models = Models(unet, text.full(), autoencoder)
    save_checkpoint(models, options.out / "tiny-world.safetensors")


def _variants(options: argparse.Namespace) -> None:
    models = load_checkpoint(options.out / "tiny-world.safetensors")
    for name, train in (
        ("dreambooth", variants.train_dreambooth),
        ("lora", variants.train_lora),
        ("controlnet", variants.train_controlnet),
    ):
        train(models, options.work, options.out / f"tiny-world-{name}.safetensors")


def _trained_vae(options: argparse.Namespace, pool: list) -> torch.nn.Module:
    path = options.work / "pictures.npy"
    first = replace(vae.SETTINGS, steps=0)
    last = replace(vae.DECODER_SETTINGS, steps=0)
    model = vae.train_vae(pool, path, options.work, first)
    return vae.train_decoder(model, pool, path, options.work, last)


_RUN = {"vae": _vae, "judge": _judge, "base": _base, "variants": _variants}


if __name__ == "__main__":
    main()
