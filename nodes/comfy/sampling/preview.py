"""A moving preview of the whole clip while a sampler works on its latents."""

import logging
from functools import cached_property

import latent_preview
import torch
from comfy.model_patcher import ModelPatcher
from PIL import Image
from torch import Tensor

from ....tav_core.video.sprites import SpriteSheet, sprite_sheet

# Latents do not say how fast the clip plays; this is the demo's rate and a usual one.
FPS = 8.0
_SIDE = 160
_MOST_FRAMES = 32


class ClipPreview:
    """Turns a sampler's denoised latents into sprite sheets, which the page plays.

    ComfyUI's own preview shows the first picture of a batch only; here the batch is a clip. Frames are decoded by the
    previewer that the user chose, and mixed from the latents' channels where there is none. A preview never ends a
    run: whatever goes wrong in one is logged once.
    """

    def __init__(self, model: ModelPatcher) -> None:
        self._device = model.load_device
        self._format = model.model.latent_format
        self._renderers = [self._with_previewer, self._with_colours]

    def sheet(self, denoised: Tensor) -> SpriteSheet | None:
        """``denoised`` (frames, channels, height, width) in the network's scale; None if it cannot be shown."""
        latents = denoised[:: -(-len(denoised) // _MOST_FRAMES)]
        while self._renderers:
            try:
                frames = self._renderers[0](latents)
                if frames is not None:
                    return sprite_sheet(frames, FPS, _SIDE, _MOST_FRAMES)
            except Exception as error:
                logging.warning("Tune-A-Video: a preview could not be made: %s", error, exc_info=True)
            del self._renderers[0]
        return None

    @cached_property
    def _previewer(self) -> latent_preview.LatentPreviewer | None:
        return latent_preview.get_previewer(self._device, self._format)

    def _with_previewer(self, latents: Tensor) -> Tensor | None:
        if self._previewer is None:
            return None
        return torch.stack([self._decoded(latents[i : i + 1]) for i in range(len(latents))])

    def _decoded(self, latent: Tensor) -> Tensor:
        picture = self._previewer.decode_latent_to_preview(latent)
        if not isinstance(picture, Image.Image):
            raise TypeError(f"{type(self._previewer).__name__} gave {type(picture).__name__}, not a picture")
        pixels = torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8)
        return pixels.reshape(picture.height, picture.width, 3) / 255

    def _with_colours(self, latents: Tensor) -> Tensor | None:
        return latent_colours(latents, self._format) if self._format.latent_rgb_factors is not None else None


def latent_colours(latents: Tensor, latent_format: object) -> Tensor:
    """(F, height, width, 3) in 0..1 from (F, C, height, width), by the format's fixed mix of channels."""
    factors = torch.tensor(latent_format.latent_rgb_factors).T
    bias = latent_format.latent_rgb_factors_bias
    bias = torch.tensor(bias) if bias is not None else None
    colours = torch.nn.functional.linear(latents.float().cpu().movedim(1, -1), factors, bias)
    return ((colours + 1) / 2).clamp(0, 1)
