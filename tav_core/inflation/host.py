"""What the method needs to know of a program that runs a Stable Diffusion UNet."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from ..diffusion.schedule import NoiseSchedule
from ..patching import Overrides
from .mode import AttentionMode

# An nn.Module with attn1 and attn2, see `Host`. Type checkers take every attribute of a module for a tensor or a
# module; a type that says more would have to be a base class that no host's blocks have.
TransformerBlock: TypeAlias = Any

_STAGES = ("down_blocks", "mid_block", "up_blocks")
_T = TypeVar("_T")


def in_network_order(blocks: Mapping[str, _T]) -> dict[str, _T]:
    """``blocks`` by diffusers name, with the middle block between down and up: the order in which the network runs.

    New layers are initialised in this order, so that the same seed gives the same layers in every program.
    """
    return dict(sorted(blocks.items(), key=lambda item: _STAGES.index(item[0].split(".")[0])))


class Host(Protocol):
    """A UNet with named parts. Block names are diffusers' (``down_blocks.0.attentions.0.transformer_blocks.0``).

    Transformer blocks take and return (batch * frames, tokens, channels) first, and have ``attn1`` (self) and
    ``attn2`` (cross) with ``heads`` and ``to_q``; frames ride on the batch axis, clip by clip.
    """

    schedule: NoiseSchedule
    unet: Any
    """The network: an nn.Module with the weights that it samples with, LoRAs merged."""

    @property
    def device(self) -> torch.device:
        """Where the network computes."""

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""

    def transformer_blocks(self) -> Mapping[str, TransformerBlock]:
        """All transformer blocks by name, in the order of the network."""

    def residual_blocks(self) -> Sequence[nn.Module]:
        """All residual blocks; called with tensors only."""

    def frame_norms(self) -> Sequence[nn.Module]:
        """The group norms whose statistics the official code takes over all frames.

        These are both norms of every residual block and the norm before the last convolution, not the norm at
        the entrance of a transformer.
        """

    def attach_attention(self, overrides: Overrides, frames: int, mode: AttentionMode) -> None:
        """Makes every self-attention sparse-causal over ``frames`` until ``overrides`` are detached.

        Cross-attention then projects a prompt that frames share once for all of them.
        """

    def predict(self, x: Tensor, timestep: int | Tensor, context: Tensor) -> Tensor:
        """The network's raw answer.

        ``x`` is (batch * frames, channels, height, width) in the network's scale, ``timestep`` one number or
        (batch,), ``context`` (batch or batch * frames, tokens, width); ``x`` and ``context`` are cast to the
        network's dtype. Returns float32, shaped as ``x``.
        """


def network_inputs(
    x: Tensor, timestep: int | Tensor, context: Tensor, dtype: torch.dtype, shared_context: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """What `Host.predict` hands to the network: ``x``, timesteps (rows,) float32, and the context.

    The context has a row for each of ``x``, unless cross-attention takes one that frames share
    (``shared_context``).
    """
    rows = len(x)
    timesteps = torch.as_tensor(timestep, dtype=torch.float32, device=x.device).reshape(-1)
    context = context.to(x.device, dtype)
    if not shared_context:
        context = context.repeat_interleave(rows // len(context), dim=0)
    return x.to(dtype), timesteps.repeat_interleave(rows // len(timesteps)), context
