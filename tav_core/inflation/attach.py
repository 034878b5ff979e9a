"""Inflating an image UNet to video (Tune-A-Video, section 3.2), on one host.

The frames of a clip ride on the batch axis, so that convolutions, feed-forward and cross-attention see each frame by
itself, as the paper's 1 x 3 x 3 convolutions do. Three things make it a network for video:

1. self-attention becomes sparse-causal (`attention`),
2. every transformer block gets a layer over time (`temporal`),
3. group norms take their statistics over all frames (`group_norm`), as the official code does.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from ..patching import Overrides
from .group_norm import joint_group_norm
from .host import Host
from .mode import InflationMode
from .temporal import TemporalLayers


class BlockResidual(Protocol):
    """A layer after a transformer block: what to add to the block's output."""

    def __call__(self, x: Tensor, frames: int) -> Tensor:
        """(batch * frames, tokens, channels) to the same shape."""


def attach_norms(overrides: Overrides, norms: Sequence[nn.Module], frames: int) -> None:
    """Makes group ``norms`` joint over ``frames`` until ``overrides`` are detached."""
    for norm in norms:
        overrides.wrap_forward(norm, lambda forward, x: joint_group_norm(forward, x, frames))


def attach_temporal(
    overrides: Overrides, blocks: Mapping[str, nn.Module], layers: Mapping[str, BlockResidual], frames: int
) -> None:
    """Adds the ``layers`` of the same name after each of ``blocks`` until ``overrides`` are detached."""

    def after_block(layer: BlockResidual) -> Callable[..., Tensor]:
        def around(forward: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
            x = forward(*args, **kwargs)
            return x + layer(x, frames)

        return around

    for name, layer in layers.items():
        overrides.wrap_forward(blocks[name], after_block(layer))


def combine(files: Sequence[tuple[TemporalLayers, float]]) -> dict[str, BlockResidual]:
    """The temporal layers of several tuned files as one set.

    Each is (layers, strength). At every block their residuals, computed from the same input, are added with their
    strengths: the order of the files does not matter.
    """

    def weighted_sum(name: str) -> BlockResidual:
        active = [(layers[name], strength) for layers, strength in files if name in layers.names]
        if len(active) == 1 and active[0][1] == 1.0:
            return active[0][0]
        return lambda x, frames: sum(strength * layer(x, frames) for layer, strength in active)

    names = dict.fromkeys(name for layers, _ in files for name in layers.names)
    return {name: weighted_sum(name) for name in names}


def attach(
    overrides: Overrides,
    host: Host,
    mode: InflationMode,
    layers: Mapping[str, BlockResidual],
    frames: int,
) -> None:
    """Makes the three changes to the host's UNet for clips of ``frames`` frames until ``overrides`` are detached.

    Without ``layers`` this is the image model with the chosen attention, exactly.
    """
    host.attach_attention(overrides, frames, mode.attention)
    if mode.norm == "joint":
        attach_norms(overrides, host.frame_norms(), frames)
    attach_temporal(overrides, host.transformer_blocks(), layers, frames)
