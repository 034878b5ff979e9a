"""A long clip in the real server: drawn in windows by a model that was tuned on a part of it."""

from __future__ import annotations

import torch
from graphs import base, invert, link, node, sample, tune
from test_isolation import Laboratory

from devkit.client import Client
from devkit.server import Server

LONG, TUNED_ON, WINDOW = 128, 24, 24
RATE = 160.0
"""Frames per second at which the short clip has more than `LONG` frames."""


def frames(count: int) -> dict:
    """The short clip, read so finely that it has as many frames as are wanted."""
    return node(
        "TAVLoadVideo",
        video="square.mp4",
        start_frame=0,
        frame_stride=1,
        frame_count=count,
        width=64,
        height=64,
        fit="crop",
        resample_fps=RATE,
    )


def windows(model: list, length: int, overlap: int) -> dict:
    return node(
        "ContextWindowsManual",
        model=model,
        context_length=length,
        context_overlap=overlap,
        context_schedule="standard_static",
        context_stride=1,
        closed_loop=False,
        fuse_method="pyramid",
        dim=0,
        freenoise=False,
        cond_retain_index_list="",
        split_conds_to_windows=False,
        latent_retain_index_list="",
        causal_window_fix=True,
    )


def test_128_frames_are_drawn_by_a_model_that_was_tuned_on_24(server: Server, client: Client) -> None:
    laboratory = Laboratory(server)
    graph = base() | {
        "clip": frames(TUNED_ON),
        "long": frames(LONG),
        "long latent": node("VAEEncode", pixels=link("long"), vae=link("ckpt", 2)),
        "tuned": tune(link("ckpt"), steps=1, frames_per_step=8, filename_prefix="long/tuned"),
        "windowed": windows(link("tuned"), WINDOW, 6),
        "noise": invert(link("windowed"), steps=1, latent=link("long latent")),
        "sampled": sample(link("windowed"), link("noise"), steps=1, cfg=1.0),
    }
    before = len(server.log)
    noise, sampled = laboratory.latents(graph, "noise", "sampled")
    assert "context windows" in server.log[before:]
    assert len(noise) == len(sampled) == LONG
    assert bool(noise.isfinite().all()) and bool(sampled.isfinite().all())
    # Every frame was drawn, the last ones too.
    assert float(sampled.flatten(1).std(dim=1).min()) > 0.1


def test_windows_of_16_over_16_frames_equal_no_windows(server: Server, client: Client) -> None:
    laboratory = Laboratory(server)
    graph = base() | {
        "clip": frames(16),
        "tuned": tune(link("ckpt"), steps=1, filename_prefix="long/sixteen"),
        "windowed": windows(link("tuned"), 16, 4),
        "noise": invert(link("tuned"), steps=2),
        "noise in windows": invert(link("windowed"), steps=2),
        "whole": sample(link("tuned"), link("noise"), steps=2),
        "in windows": sample(link("windowed"), link("noise in windows"), steps=2),
    }
    whole, windowed = laboratory.latents(graph, "whole", "in windows")
    assert torch.equal(whole, windowed)
