"""Latents of a whole clip as small pictures, while a sampler works on them."""

import latent_preview
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....tav_core.video.sprites import SpriteSheet, sprite_sheet

# Latents say nothing of the clip's rate; this is the demo's and a usual one.
FPS = 8.0
_SIDE = 160
_MOST_FRAMES = 32


class LatentFrames:
    """Turns a sampler's denoised latents into sheets, by the previewer that the user chose or else by colours alone.

    ComfyUI's own preview shows the first picture of a batch only; here the batch is a clip.
    """

    def __init__(self, model: ModelPatcher) -> None:
        self._format = model.model.latent_format
        self._previewer = latent_preview.get_previewer(model.load_device, self._format)

    def sheet(self, denoised: Tensor) -> SpriteSheet | None:
        """``denoised`` (frames, channels, height, width) in the network's scale; None if it cannot be shown."""
        step = -(-len(denoised) // _MOST_FRAMES)
        kept = denoised[::step]
        if self._previewer is not None:
            frames = torch.stack([self._decoded(kept[i : i + 1]) for i in range(len(kept))])
        elif self._format.latent_rgb_factors is not None:
            frames = latent_colours(kept, self._format)
        else:
            return None
        return sprite_sheet(frames, FPS, _SIDE, _MOST_FRAMES)

    def _decoded(self, latent: Tensor) -> Tensor:
        picture = self._previewer.decode_latent_to_preview(latent).convert("RGB")
        pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        return pixels.reshape(picture.height, picture.width, 3) / 255


def latent_colours(latents: Tensor, latent_format: object) -> Tensor:
    """(F, height, width, 3) in 0..1 from (F, C, height, width), by the format's fixed mix of channels."""
    factors = torch.tensor(latent_format.latent_rgb_factors).T
    bias = latent_format.latent_rgb_factors_bias
    bias = torch.tensor(bias) if bias is not None else None
    colours = torch.nn.functional.linear(latents.float().cpu().movedim(1, -1), factors, bias)
    return ((colours + 1) / 2).clamp(0, 1)
