"""The networks and clips that are measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_FOUR_LEVELS = {
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "attention_head_dim": 8,  # diffusers' name for the number of heads
    "cross_attention_dim": 768,
}
_SMALL_CODEC = {"block_out_channels": (32, 64, 64, 64), "layers_per_block": 1}
_SD_CODEC = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}


@dataclass(frozen=True)
class Size:
    """What is measured. All weights are random.

    unet: a diffusers UNet configuration. frames, side: the clip, in latents of side x side. threads: on a CPU, None
    for all. dtype: on a CPU; a GPU computes in bfloat16. codec: a diffusers autoencoder. growth_frames,
    growth_sides: the clips that show how cost grows; growth_steps: steps of inversion, up to 25. presets: frames and
    memory presets of the tuning that are tried; presets_need_gpu: elsewhere they are only estimated.
    """

    name: str
    unet: dict[str, Any]
    frames: int
    side: int
    codec: dict[str, Any]
    threads: int | None = None
    dtype: str = "float32"
    growth_frames: tuple[int, ...] = (4, 8, 16, 32, 64)
    growth_sides: tuple[int, ...] = (16, 24, 32, 48)
    growth_steps: tuple[int, ...] = (1, 2, 4, 8)
    presets: tuple[tuple[int, str], ...] = ()
    presets_need_gpu: bool = False

    @property
    def context(self) -> int:
        """Width of the text's embedding."""
        return self.unet["cross_attention_dim"]


SIZES = {
    size.name: size
    for size in (
        Size(
            "tiny",
            {
                "block_out_channels": (32, 64),
                "layers_per_block": 1,
                "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
                "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
                "attention_head_dim": 2,
                "cross_attention_dim": 64,
            },
            frames=4,
            side=8,
            codec=_SMALL_CODEC,
            threads=1,
            growth_frames=(4, 8),
            growth_sides=(8, 16),
            presets=((4, "fits 6 GB"),),
        ),
        # The configuration whose figures of the official implementation are in the targets.
        Size(
            "cpu",
            {**_FOUR_LEVELS, "block_out_channels": (64, 128, 256, 256), "layers_per_block": 1},
            frames=8,
            side=32,
            codec=_SD_CODEC,
            threads=2,
        ),
        Size(
            "sd15",
            {**_FOUR_LEVELS, "block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2},
            frames=24,
            side=64,
            codec=_SD_CODEC,
            growth_frames=(4, 8, 16, 24, 32, 64),
            growth_sides=(32, 48, 64, 96),
            presets=tuple((n, f"fits {card} GB") for n in (8, 16, 24) for card in (6, 8, 12, 24)),
            presets_need_gpu=True,
        ),
    )
}
