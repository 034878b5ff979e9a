"""The relatives of the base checkpoint that some rows need: a ControlNet and a DreamBooth checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor

from devkit.world.checkpoint import load_checkpoint
from devkit.world.variants import assemble, load_controlnet
from tav_core.patching import Overrides

from .model import Model

CONTROLNET, DREAMBOOTH = "controlnet", "dreambooth"


class Companions:
    """The companions of the checkpoint at ``base``, from ``files`` by their kind, loaded when first asked for."""

    def __init__(self, base: Path, files: Mapping[str, Path], device: torch.device) -> None:
        self.base = base
        self.files = files
        self.device = device

    @cached_property
    def controlnet(self) -> ControlNetModel:
        """The ControlNet whose hints are the sprites' masks."""
        control = load_controlnet(load_checkpoint(self.base), self.files[CONTROLNET])
        return control.to(self.device).requires_grad_(False)

    @cached_property
    def personalised(self) -> Model:
        """The base checkpoint after DreamBooth training: it knows one more sprite, by a word of its own."""
        with TemporaryDirectory() as folder:
            whole = Path(folder) / "personalised.safetensors"
            assemble(self.base, self.files[DREAMBOOTH], whole)
            return Model(whole, self.device)


@contextmanager
def controlled(
    unet: UNet2DConditionModel, control: ControlNetModel, hints: Tensor, strength: float
) -> Iterator[None]:
    """The UNet gets the ControlNet's residuals inside this context, of one hint (F, 3, H, W) per frame.

    As in ComfyUI the ControlNet itself sees one picture at a time, and guides both halves of guidance.
    """

    def around(
        forward: Callable[..., Any], x: Tensor, timestep: Tensor, context: Tensor, **options: Any
    ) -> Any:
        down, middle = control(
            x,
            timestep,
            context.repeat_interleave(len(x) // len(context), dim=0),
            hints.repeat(len(x) // len(hints), 1, 1, 1),
            conditioning_scale=strength,
            return_dict=False,
        )
        residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        return forward(x, timestep, context, **residuals, **options)

    with Overrides() as overrides:
        overrides.wrap_forward(unet, around)
        yield
