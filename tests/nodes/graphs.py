"""Graphs in ComfyUI's API format that several tests share; small, so that a server runs them in seconds."""

from __future__ import annotations

from tav_core.inflation.mode import InflationMode
from tav_core.settings import defaults_of
from tav_core.tuning.settings import TuningSettings
from tav_core.video.settings import FrameSelection

CHECKPOINT = "tiny-world.safetensors"

# The settings of TAVTune that suit tests.
TUNING = defaults_of(TuningSettings) | {
    "steps": 2,
    "learning_rate": 1e-3,
    "gradient_checkpointing": "none",
    "filename_prefix": "test/tuned",
    "save_every": 0,
}


def link(node: str, output: int = 0) -> list:
    """A connection from an output."""
    return [node, output]


def node(class_type: str, **inputs) -> dict:
    """A node."""
    return {"class_type": class_type, "inputs": inputs}


def base(frames: int = 3, size: int = 64) -> dict:
    """A checkpoint, three prompts and an encoded clip: nodes ckpt, source, empty, edit, clip, latent."""
    return {
        "ckpt": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
        "source": node("CLIPTextEncode", clip=link("ckpt", 1), text="a rabbit on the grass"),
        "empty": node("CLIPTextEncode", clip=link("ckpt", 1), text=""),
        "edit": node("CLIPTextEncode", clip=link("ckpt", 1), text="a cat on the beach, pixel art style"),
        "clip": node(
            "TAVLoadVideo",
            video="square.mp4",
            **defaults_of(FrameSelection) | {"frame_count": frames, "width": size, "height": size},
        ),
        "latent": node("VAEEncode", pixels=link("clip"), vae=link("ckpt", 2)),
    }


def inflate(model: list, **changes) -> dict:
    """TAVInflateModel."""
    return node("TAVInflateModel", model=model, **defaults_of(InflationMode) | changes)


def tune(model: list, **changes) -> dict:
    """TAVTune for a few steps on the clip of `base`."""
    inputs = {"model": model, "latent": link("latent"), "positive": link("source")}
    return node("TAVTune", **(inputs | TUNING | changes))


def invert(model: list, steps: int = 4, **changes) -> dict:
    """TAVDDIMInversion of the clip of `base`."""
    inputs = {
        "model": model,
        "conditioning": link("empty"),
        "latent": link("latent"),
        "steps": steps,
        "cfg": 1.0,
    }
    return node("TAVDDIMInversion", **(inputs | changes))


def sample(model: list, latent: list, steps: int = 4, **changes) -> dict:
    """TAVSample under the edit of `base`. With eta 0 its seed changes nothing but the cache's key."""
    inputs = {
        "model": model,
        "positive": link("edit"),
        "negative": link("empty"),
        "latent": latent,
        "steps": steps,
        "cfg": 4.0,
        "seed": 0,
        "start": "inverted clip",
        "eta": 0.0,
    }
    return node("TAVSample", **(inputs | changes))


def plain_sample(model: list, nonce: int = 0) -> dict:
    """Core's KSampler on one picture. Every `nonce` (0..50) is the same to it, but not to ComfyUI's cache."""
    return node(
        "KSampler",
        model=model,
        seed=7,
        steps=3,
        cfg=4.0,
        sampler_name="euler",
        scheduler="normal",
        positive=link("edit"),
        negative=link("empty"),
        latent_image=link("picture"),
        denoise=1.0 - nonce * 1e-6,
    )


def save_latent(samples: list, name: str) -> dict:
    """Core's SaveLatent, to compare bit for bit."""
    return node("SaveLatent", samples=samples, filename_prefix=name)
