"""Checks of what comes in over ComfyUI's connections, each with one plain sentence."""

import torch
from torch import Tensor


def check_text_encoder(clip: object) -> None:
    """Raises ValueError if a checkpoint without a text encoder gave nothing for the input 'clip'."""
    if clip is None:
        raise ValueError("The input 'clip' is empty: the checkpoint has no text encoder; use one that has.")


def check_latents(latent: dict, name: str, least: int = 1) -> Tensor:
    """The (frames, 4, height, width) latents of a LATENT input called ``name``.

    Raises ValueError for latents of other models, values that are not finite, or fewer than ``least`` frames.
    """
    samples = latent["samples"]
    if not isinstance(samples, Tensor) or samples.ndim != 4 or samples.shape[1] != 4:
        shape = list(getattr(samples, "shape", []))
        raise ValueError(
            f"The input '{name}' has the shape {shape}, not (frames, 4, height, width); "
            "encode the frames with the VAE of a Stable Diffusion 1.x or 2.x checkpoint."
        )
    if len(samples) < least:
        raise ValueError(
            f"The input '{name}' holds {len(samples)} frame; a clip needs at least {least}: "
            "raise frame_count on Load Video Frames."
        )
    if not bool(torch.isfinite(samples).all()):
        raise ValueError(
            f"The input '{name}' holds values that are not finite numbers; "
            "check the VAE (run it in fp32 with --fp32-vae) and the frames."
        )
    return samples


def prompt_embedding(conditioning: list, name: str) -> Tensor:
    """The (1, tokens, width) text embedding of a CONDITIONING input called ``name``; its first entry counts."""
    if not conditioning or not isinstance(conditioning[0][0], Tensor):
        raise ValueError(f"The input '{name}' holds no text embedding; connect CLIP Text Encode.")
    return conditioning[0][0]


def check_conditioning_frames(conditioning: list, frames: int, name: str) -> None:
    """Raises ValueError if per-frame embeddings or ControlNet hints are not as many as the clip's frames.

    One for all frames is fine. ComfyUI repeats or cuts wrong counts silently.
    """
    for embedding, options in conditioning:
        if embedding is not None and embedding.shape[0] not in (1, frames):
            raise ValueError(
                f"The input '{name}' has embeddings for {embedding.shape[0]} frames but the clip has {frames}; "
                "give one, or one per frame."
            )
        control = options.get("control")
        while control is not None:
            hint = getattr(control, "cond_hint_original", None)
            if isinstance(hint, Tensor) and hint.shape[0] not in (1, frames):
                raise ValueError(
                    f"The input '{name}' has a ControlNet with {hint.shape[0]} hint pictures but the clip has "
                    f"{frames} frames; give one picture per frame, or one for all."
                )
            control = control.previous_controlnet
