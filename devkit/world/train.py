"""Train everything from scratch: ``python -m devkit.world.train``.

The stages are vae, judge, base, refine (the base learns on, from more pictures and mostly
from the styles with fine structure), decoder (the autoencoder's decoder learns on; the
latents stay), variants (DreamBooth, LoRA, ControlNet) and second (the UNet in SD 2.x's layout).
A killed run goes on where it was when the same command is given again. On a CPU, `--workers 2`
lets two processes train the base, the decoder and the second UNet together.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderTiny

from . import diffusion, judge, vae, variants
from .checkpoint import Models, load_checkpoint, save_checkpoint
from .data import pictures, scenes
from .models import build_vae
from .training import averaged_weights, device, write_log

STAGES = ("vae", "judge", "base", "refine", "decoder", "variants", "second")
"""Stages, in their order; all of them made the shipped weights."""

POOL = 32000
"""Pictures that the autoencoder and the judge learn from."""

POOL_SEED = 100
BASE_POOL = 8000
"""Pictures, the first of the pool, that the UNet learns from."""

REFINE_POOL = 16000
"""Pictures, the first of the pool, that the UNet learns on from."""

STYLE_WEIGHTS = {"plain": 1, "sketch": 2, "pixel art": 2}
"""How often the refining stage shows a picture of each style, compared with plain ones."""

ASSETS = Path(__file__).parents[2] / "assets" / "tiny"


def main() -> None:
    """Train the stages asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--work", type=Path, default=Path("build/world"), help="pools and states")
    parser.add_argument("--out", type=Path, default=ASSETS, help="where the weights go")
    parser.add_argument("--workers", type=int, default=1, help="processes (CPU)")
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
        "refine": diffusion.REFINE,
        "dreambooth": variants.DREAMBOOTH,
        "lora": variants.LORA,
        "controlnet": variants.CONTROLNET,
        "second": variants.SECOND,
    }
    write_log(settings, options.work, options.out / "training-log.json")


def _vae(options: argparse.Namespace) -> None:
    vae.train_vae(scenes(POOL, POOL_SEED), options.work / "pictures.npy", options.work)


def _judge(options: argparse.Namespace) -> None:
    pool = scenes(POOL, POOL_SEED)
    model = judge.train_judge(pool, options.work / "pictures.npy", options.work)
    judge.save_judge(model.cpu(), options.out / "judge.safetensors")


def _base(options: argparse.Namespace) -> None:
    data, autoencoder = _latents(options, BASE_POOL)
    unet, text = diffusion.train_base(data, options.work, workers=_workers(options))
    models = Models(unet, text.full(), autoencoder)
    save_checkpoint(models, options.out / "tiny-world.safetensors")


def _refine(options: argparse.Namespace) -> None:
    data, autoencoder = _latents(options, REFINE_POOL)
    rows = [
        row
        for row, scene in enumerate(scenes(POOL, POOL_SEED)[:REFINE_POOL])
        for _ in range(STYLE_WEIGHTS[scene.style])
    ]
    data = diffusion.Captioned(data.latents[rows], data.tokens[rows])
    weights = averaged_weights("base", options.work)
    unet, text = diffusion.refine_base(data, weights, options.work, workers=_workers(options))
    models = Models(unet, text.full(), autoencoder)
    save_checkpoint(models, options.out / "tiny-world.safetensors")


def _latents(options: argparse.Namespace, count: int) -> tuple[diffusion.Captioned, AutoencoderTiny]:
    """Return the first pictures of the pool as captioned latents, and the autoencoder."""
    pool = scenes(POOL, POOL_SEED)
    autoencoder = build_vae().to(device())
    autoencoder.load_state_dict(averaged_weights("vae", options.work))
    images = pictures(pool, options.work / "pictures.npy")[:count]
    latents = diffusion.cache_latents(autoencoder, images, options.work / f"latents-{count}.npy")
    tokens = diffusion.captions_tokens([scene.caption for scene in pool[:count]])
    return diffusion.Captioned(latents, tokens), autoencoder


def _decoder(options: argparse.Namespace) -> None:
    path = options.out / "tiny-world.safetensors"
    models = load_checkpoint(path)
    vae.train_decoder(
        models.vae.to(device()),
        scenes(POOL, POOL_SEED),
        options.work / "pictures.npy",
        options.work,
        workers=_workers(options),
    )
    save_checkpoint(models, path)


def _variants(options: argparse.Namespace) -> None:
    models = load_checkpoint(options.out / "tiny-world.safetensors")
    for name, train in (
        ("dreambooth", variants.train_dreambooth),
        ("lora", variants.train_lora),
        ("controlnet", variants.train_controlnet),
    ):
        train(models, options.work, options.out / f"tiny-world-{name}.safetensors")


def _second(options: argparse.Namespace) -> None:
    models = load_checkpoint(options.out / "tiny-world.safetensors")
    data, _ = _latents(options, REFINE_POOL)
    out = options.out / "tiny-world-2.safetensors"
    variants.train_second(models, data, options.work, out, workers=_workers(options))


def _workers(options: argparse.Namespace) -> int:
    return options.workers if device().type == "cpu" else 1


_RUN = {
    "vae": _vae,
    "judge": _judge,
    "base": _base,
    "refine": _refine,
    "decoder": _decoder,
    "variants": _variants,
    "second": _second,
}


if __name__ == "__main__":
    main()
