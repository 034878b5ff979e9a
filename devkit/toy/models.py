"""The layouts of the small Stable Diffusion's networks, untrained."""

from __future__ import annotations

from diffusers import AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

CONTEXT = 96
"""Width of the text encoder's output and of the UNet's cross-attention context."""

TOKENS = 77
"""Length of every tokenised caption."""

BOS_TOKEN = 49406
EOS_TOKEN = 49407
"""End of text, also the padding."""

HEADS = 2
"""Attention heads, the same number in the whole UNet, as in SD 1.x."""

HEAD_WIDTH = 64
"""Channels of every attention head in SD 2.x's layout."""

# Integer multiples of the first: ComfyUI computes its channel_mult by integer division.
CHANNELS = (64, 128, 128)
"""Channels of the UNet's levels (16x16, 8x8 and 4x4)."""

LAYERS = 1
"""Residual blocks per level on the way down; one more on the way up."""

SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
}
"""The noise schedule of SD 1.x, in diffusers' words."""


def build_vae() -> AutoencoderTiny:
    """Return an untrained TAESD-format autoencoder: 8x, 4 channels.

    Its latents are the UNet's: no scaling lies between them.
    """
    return AutoencoderTiny(scaling_factor=1.0)


def build_unet(version: int = 1) -> UNet2DConditionModel:
    """Return an untrained UNet with the kinds of blocks of SD 1.x or, with `version` 2, of SD 2.x.

    2.x projects linearly around its transformers, and its heads are 64 wide instead of two on every level.
    """
    if version == 1:
        heads = HEADS
    else:
        heads = tuple(width // HEAD_WIDTH for width in CHANNELS)
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=CHANNELS,
        layers_per_block=LAYERS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=CONTEXT,
        # diffusers means the number of heads.
        attention_head_dim=heads,
        use_linear_projection=version == 2,
    )


def prediction_type(unet: UNet2DConditionModel) -> str:
    """Return what a small UNet predicts, in diffusers' words: in 2.x's layout the velocity."""
    return "v_prediction" if unet.config.use_linear_projection else "epsilon"


def build_text_encoder() -> CLIPTextModel:
    """Return an untrained CLIP text encoder of two layers over CLIP's own vocabulary."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=CONTEXT,
            intermediate_size=4 * CONTEXT,
            num_hidden_layers=2,
            num_attention_heads=HEADS,
            max_position_embeddings=TOKENS,
            hidden_act="quick_gelu",
            projection_dim=CONTEXT,
            bos_token_id=BOS_TOKEN,
            eos_token_id=EOS_TOKEN,
            pad_token_id=EOS_TOKEN,
            attn_implementation="eager",
        )
    )
