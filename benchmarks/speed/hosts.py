"""Opening the hosts: what it takes before their stages can be timed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from devkit import comfyui as comfyui_source
from devkit import inprocess

from .diffusers_stages import Inputs, Stage, build_unet, diffusers_stages, plain
from .sizes import Size

_started: list[tempfile.TemporaryDirectory] = []


def prepare(size: Size, device: torch.device) -> None:
    """Threads as the size wants them."""
    if device.type == "cpu" and size.threads:
        torch.set_num_threads(size.threads)


def open_host(host: str, size: Size, device: torch.device) -> Callable[[], dict[str, Callable[[], Stage]]]:
    """Loads the host's libraries; the result builds the networks and gives what makes each stage."""
    if host == "plain":
        return lambda: {"plain": lambda: plain(build_unet(size, device), Inputs(size, device))}
    if host == "diffusers":
        return lambda: diffusers_stages(build_unet(size, device), Inputs(size, device))
    start_comfyui()
    from .comfyui_stages import (  # imports ComfyUI, which had to be started first
        build_model,
        comfyui_stages,
        preset_stages,
    )

    def stages() -> dict[str, Callable[[], Stage]]:
        model = build_model(build_unet(size, device))
        return comfyui_stages(model, Inputs(size, device)) | preset_stages(model, size, device)

    return stages


def start_comfyui() -> None:
    """Makes `comfy` importable in this process, once."""
    if not _started:
        folder = tempfile.TemporaryDirectory(prefix="bench-speed-")
        _started.append(folder)  # lives as long as this process
        inprocess.start(comfyui_source.locate(), Path(folder.name))
