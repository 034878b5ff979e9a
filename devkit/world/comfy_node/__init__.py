"""Development only: lets ComfyUI load the small Stable Diffusion of the closed world.

Link this folder into `custom_nodes`. It adds no nodes; it registers the small layouts, SD
1.x's and 2.x's, so that CheckpointLoaderSimple and everything behind it work on such checkpoints.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import comfy.model_base
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base

_CLIP_CONFIG = str(Path(__file__).parent / "clip_config.json")
_CONTEXT = 96


class TinyTokenizer(comfy.sd1_clip.SDTokenizer):
    """CLIP's tokenizer; textual-inversion embeddings have the small width."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{**kwargs, "embedding_size": _CONTEXT})


class TinySD1Tokenizer(comfy.sd1_clip.SD1Tokenizer):
    """The checkpoint's tokenizer."""

    def __init__(self, embedding_directory=None, tokenizer_data=None):
        super().__init__(
            embedding_directory=embedding_directory,
            tokenizer_data=tokenizer_data or {},
            tokenizer=TinyTokenizer,
        )


class TinyClipModel(comfy.sd1_clip.SDClipModel):
    """A CLIP text encoder of two layers."""

    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(
            device=device,
            dtype=dtype,
            textmodel_json_config=_CLIP_CONFIG,
            return_projected_pooled=False,
            model_options=model_options or {},
        )


class TinySD1ClipModel(comfy.sd1_clip.SD1ClipModel):
    """The checkpoint's text encoder."""

    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(
            device=device,
            dtype=dtype,
            model_options=model_options or {},
            clip_model=TinyClipModel,
        )


class TinySD15(comfy.supported_models.SD15):
    """SD 1.5 in small; recognised by its context width and first channels."""

    unet_config: ClassVar[dict] = {
        **comfy.supported_models.SD15.unet_config,
        "context_dim": _CONTEXT,
        "model_channels": 64,
    }
    unet_extra_config: ClassVar[dict] = {"num_heads": 2, "num_head_channels": -1}

    def clip_target(self, state_dict=None):
        """Return the tokenizer and text encoder classes."""
        return comfy.supported_models_base.ClipTarget(TinySD1Tokenizer, TinySD1ClipModel)


class TinySD20(TinySD15):
    """SD 2.x in small, predicting velocity; recognised by its linear projections as well.

    Its text encoder is that of the small 1.x.
    """

    unet_config: ClassVar[dict] = {**TinySD15.unet_config, "use_linear_in_transformer": True}
    unet_extra_config: ClassVar[dict] = comfy.supported_models.SD20.unet_extra_config

    def model_type(self, state_dict, prefix=""):
        """Return what the UNet predicts: core tells 2.x's kinds apart by a weight that this one does not have."""
        return comfy.model_base.ModelType.V_PREDICTION


for layout in (TinySD15, TinySD20):
    if not any(model.__name__ == layout.__name__ for model in comfy.supported_models.models):
        comfy.supported_models.models.append(layout)

NODE_CLASS_MAPPINGS = {}
