"""Inflation on a MODEL: patched clones, nothing on the model itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import comfy.ldm.modules.attention as comfy_attention
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from ....tav_core.inflation.attach import attach_norms, attach_temporal, combine
from ....tav_core.inflation.attention import sparse_causal_attention
from ....tav_core.inflation.chunked import attach_chunked
from ....tav_core.inflation.mode import AttentionMode, InflationMode
from ....tav_core.inflation.temporal import TemporalLayers, temporal_sizes
from ....tav_core.patching import Overrides
from .attention import fused_on_cpu
from .blocks import block_paths, blocks_at, frame_norms, patch_location
from .chunks import ChunkableUNet
from .detect import check_model, compute_dtype
from .ops import EagerOps
from .windows import AnchorWindows

KEY = "tune_a_video"


@dataclass(frozen=True)
class AttachedLayers:
    """Temporal layers of one tuned file on a MODEL, with their strength.

    ``root`` stays the one patcher of its module; graphs get clones of it, as ComfyUI's memory management wants.
    """

    root: ModelPatcher
    strength: float


@dataclass(frozen=True)
class Inflation:
    """What an inflated MODEL carries: the mode, and the temporal layers of every tuned file applied to it.

    ``chunk_frames`` > 0 evaluates so many frames at a time, with the same result.
    """

    mode: InflationMode = InflationMode()
    layers: tuple[AttachedLayers, ...] = field(default=())
    chunk_frames: int = 0


class SparseCausal:
    """ComfyUI attention replacement: sparse-causal over the frames on the batch axis."""

    def __init__(self, mode: AttentionMode) -> None:
        self.mode = mode

    def __call__(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, extra_options: dict
    ) -> torch.Tensor:
        def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            # Looked up at call time, so that the user's attention backend and overrides apply.
            return comfy_attention.optimized_attention(
                q,
                k,
                v,
                extra_options["n_heads"],
                attn_precision=extra_options["attn_precision"],
                transformer_options=extra_options,
            )

        frames = frame_count(extra_options["original_shape"][0], extra_options)
        return sparse_causal_attention(q, k, v, frames, self.mode, attend)


class InflatedForward:
    """ComfyUI diffusion-model wrapper: the UNet is inflated for the length of one forward pass."""

    def __init__(self, inflation: Inflation, paths: Mapping[str, str]) -> None:
        self.inflation = inflation
        self.paths = paths

    # A compiled UNet does not notice what is attached to its blocks later, and would go on without it.
    @torch.compiler.disable
    def __call__(
        self,
        executor: Callable,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor,
        y: torch.Tensor | None = None,
        control: dict | None = None,
        transformer_options: dict | None = None,
        **kwargs: object,
    ) -> torch.Tensor:
        # The UNet that really runs, which need not be the one of the patcher that this was attached to.
        unet = executor.class_obj
        frames = frame_count(x.shape[0], transformer_options)
        if frames > 1 and self.inflation.mode.attention != "off":
            transformer_options = fused_on_cpu(transformer_options, x.device)
        with Overrides() as overrides:
            mode, chunk = self.inflation.mode, self.inflation.chunk_frames
            layers = combine([(a.root.model, a.strength) for a in self.inflation.layers])
            if 0 < chunk < frames:
                attach_chunked(overrides, ChunkableUNet(unet, self.paths), mode, layers, frames, chunk)
            else:
                if mode.norm == "joint":
                    attach_norms(overrides, frame_norms(unet), frames)
                attach_temporal(overrides, blocks_at(unet, self.paths), layers, frames)
            return executor(x, timesteps, context, y, control, transformer_options, **kwargs)


def frame_count(rows: int, transformer_options: dict) -> int:
    """Frames of one clip in a batch of ``rows``: ComfyUI stacks one copy of the clip per condition."""
    return rows // len(transformer_options.get("cond_or_uncond", [0]))


def inflation_of(model: ModelPatcher) -> Inflation | None:
    """What `inflate` attached to ``model``, if anything."""
    return model.get_attachment(KEY)


def attention_patches(paths: Mapping[str, str], mode: AttentionMode) -> dict[tuple[str, int], SparseCausal]:
    """Self-attention replacements by ComfyUI's block locations, for the blocks at ``paths``."""
    replacement = SparseCausal(mode)
    return {patch_location(path): replacement for path in paths.values()}


def inflate(model: ModelPatcher, inflation: Inflation) -> ModelPatcher:
    """A clone of ``model`` that treats its batch as the frames of one clip.

    An inflation that ``model`` already carries is replaced. Raises ValueError for models of other kinds.
    """
    check_model(model)
    paths = block_paths(model.model.model_config.unet_config)
    inflated = model.clone()
    for location, patch in attention_patches(paths, inflation.mode.attention).items():
        inflated.set_model_attn1_replace(patch, *location)
    inflated.remove_wrappers_with_key(WrappersMP.DIFFUSION_MODEL, KEY)
    inflated.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, InflatedForward(inflation, paths))
    inflated.remove_wrappers_with_key(WrappersMP.PREDICT_NOISE, KEY)
    inflated.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, AnchorWindows(inflation.mode.attention))
    inflated.set_attachments(KEY, inflation)
    inflated.set_additional_models(KEY, [attached.root.clone() for attached in inflation.layers])
    return inflated


def temporal_patcher(model: ModelPatcher, tensors: dict[str, torch.Tensor]) -> ModelPatcher | None:
    """The temporal layers in ``tensors`` as a model that ComfyUI loads and offloads beside ``model``.

    None if there are none.
    """
    blocks = blocks_at(model.model.diffusion_model, block_paths(model.model.model_config.unet_config))
    heads = {name: block.attn1.heads for name, block in blocks.items()}
    sizes = temporal_sizes(blocks, tensors, heads)
    if not sizes:
        return None
    layers = TemporalLayers(sizes, EagerOps, device=model.offload_device, dtype=compute_dtype(model))
    layers.load(tensors)
    layers.requires_grad_(False).train(False)
    return ModelPatcher(layers, load_device=model.load_device, offload_device=model.offload_device)


def query_patches(model: ModelPatcher, deltas: dict[str, torch.Tensor]) -> dict[str, tuple]:
    """ComfyUI weight patches for query differences named ``<block>.attn1.to_q``."""
    paths = block_paths(model.model.model_config.unet_config)
    patches = {}
    for name, delta in deltas.items():
        block, attention = name.split(".attn")
        patches[f"diffusion_model.{paths[block]}.attn{attention}.weight"] = ("diff", (delta,))
    return patches
