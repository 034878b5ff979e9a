"""Exact evaluation in chunks of frames: the whole clip's result with the memory of a part of it.

A frame needs little of the other frames: the keys and values of two of them, the group norms' statistics, and for its
temporal layers all frames at one position. So convolutions, attention and feed-forward run on some frames at a time,
and temporal layers on some positions. Only the tensors between the parts of the network stay as large as the clip.
For sampling only: nothing here takes part in a backward pass.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..patching import Overrides
from .attach import BlockResidual
from .attention import frames_before
from .group_norm import GroupStatistics
from .mode import InflationMode


@dataclass(frozen=True)
class ResidualBlock:
    """A residual block and what decides where it can be cut: its norms, and the convolution between them."""

    block: nn.Module
    first_norm: nn.GroupNorm
    convolution: nn.Module
    second_norm: nn.GroupNorm


class ChunkableNetwork(Protocol):
    """What chunking needs to know of a UNet. All modules are called with frames on the batch axis."""

    def transformer_blocks(self) -> Mapping[str, nn.Module]:
        """All transformer blocks by name."""

    def chunkable_residual_blocks(self) -> Sequence[ResidualBlock]:
        """All residual blocks."""

    def resampling_layers(self) -> Sequence[nn.Module]:
        """The layers between resolutions, which work picture by picture."""

    def last_norm(self) -> nn.GroupNorm:
        """The group norm before the last convolution."""

    def affine(self, norm: nn.GroupNorm, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of a group norm, where and as its input ``x`` is."""

    def run_block(self, forward: Callable[..., Tensor], frames: int, args: tuple, kwargs: dict) -> Tensor:
        """Calls a transformer block's ``forward`` with clips that are ``frames`` frames long."""


def attach_chunked(
    overrides: Overrides,
    network: ChunkableNetwork,
    mode: InflationMode,
    layers: Mapping[str, BlockResidual],
    frames: int,
    chunk: int,
) -> None:
    """`attach.attach` without the attention, evaluated ``chunk`` frames at a time (>= 1).

    The host's attention must be attached before. With "all", where every frame looks at every other, transformer
    blocks see all frames at once.
    """
    chunks = _Chunks(frames, chunk)
    for module in network.resampling_layers():
        overrides.wrap_forward(module, chunks.each)
    for parts in network.chunkable_residual_blocks():
        around = _joint_residual(network, parts, chunks) if mode.norm == "joint" else chunks.each
        overrides.wrap_forward(parts.block, around)
    if mode.norm == "joint":
        overrides.wrap_forward(network.last_norm(), _joint_norm(network, network.last_norm(), chunks))
    whole = _Chunks(frames, frames) if mode.attention == "all" else chunks
    for name, block in network.transformer_blocks().items():
        overrides.wrap_forward(block, _transformer_block(network, mode, layers.get(name), whole, chunks))


class _Chunks:
    """Cutting clips of ``frames`` frames, with the frames on the batch axis, into chunks of ``size``."""

    def __init__(self, frames: int, size: int) -> None:
        self.frames = frames
        self.size = size

    def __iter__(self) -> Iterator[range]:
        for start in range(0, self.frames, self.size):
            yield range(start, min(start + self.size, self.frames))

    def clips(self, x: Tensor) -> Tensor:
        """(clips * frames, ...) as (clips, frames, ...)."""
        return x.unflatten(0, (-1, self.frames))

    def part(self, frames: range, values: Any, rows: int, before: Sequence[int] = ()) -> Any:
        """Each tensor among ``values`` that has ``rows`` rows cut to those of ``frames``, with ``before`` before."""

        def cut(value: Any) -> Any:
            if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != rows:
                return value
            clips = self.clips(value)
            pieces = [clips[:, frame : frame + 1] for frame in before]
            pieces.append(clips[:, frames.start : frames.stop])
            return (torch.cat(pieces, dim=1) if before else pieces[0]).flatten(0, 1)

        if isinstance(values, dict):
            return {name: cut(value) for name, value in values.items()}
        return tuple(cut(value) for value in values)

    def write(self, out: Tensor | None, frames: range, y: Tensor) -> Tensor:
        """Puts the rows ``y`` of ``frames`` into ``out``, which is made if there is none yet."""
        clips = len(y) // len(frames)
        if out is None:
            out = y.new_empty(clips * self.frames, *y.shape[1:])
        self.clips(out)[:, frames.start : frames.stop] = y.unflatten(0, (clips, -1))
        return out

    def each(self, forward: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """``forward`` of a module that works picture by picture."""
        out: Any = None
        rows = len(x)
        for frames in self:
            y = forward(*self.part(frames, (x, *args), rows), **self.part(frames, kwargs, rows))
            out = self.write(out, frames, y)
        return out


class _JointNorm:
    """A group norm with statistics over all frames, gathered in chunks."""

    def __init__(self, network: ChunkableNetwork, norm: nn.GroupNorm, chunks: _Chunks) -> None:
        self.network = network
        self.norm = norm
        self.chunks = chunks
        self.statistics = GroupStatistics(norm.num_groups)

    def add(self, x: Tensor, frames: range) -> None:
        """Counts the rows ``x`` of ``frames``."""
        self.statistics.add(x.unflatten(0, (-1, len(frames))))

    def add_all(self, x: Tensor) -> None:
        """Counts (clips * frames, channels, height, width)."""
        for frames in self.chunks:
            self.statistics.add(self.chunks.clips(x)[:, frames.start : frames.stop])

    def apply(self, x: Tensor, frames: range) -> Tensor:
        """The norm of the rows ``x`` of ``frames``, once all are counted."""
        weight, bias = self.network.affine(self.norm, x)
        clips = x.unflatten(0, (-1, len(frames)))
        return self.statistics.normalise(clips, weight, bias, self.norm.eps).flatten(0, 1)


class _ReachedError(Exception):
    """Carries the input of a module inside a block out of the block."""

    def __init__(self, value: Tensor) -> None:
        super().__init__("reached")
        self.value = value


def _joint_norm(network: ChunkableNetwork, norm: nn.GroupNorm, chunks: _Chunks) -> Callable[..., Tensor]:
    def around(forward: Callable[..., Tensor], x: Tensor) -> Tensor:
        joint = _JointNorm(network, norm, chunks)
        joint.add_all(x)
        out: Any = None
        for frames in chunks:
            (some,) = chunks.part(frames, (x,), len(x))
            out = chunks.write(out, frames, joint.apply(some, frames))
        return out

    return around


def _joint_residual(
    network: ChunkableNetwork, parts: ResidualBlock, chunks: _Chunks
) -> Callable[..., Tensor]:
    """The host's own forward in two passes: up to the second norm, whose statistics need all frames, and from there on.

    What the first pass leaves is kept, so that nothing is computed twice, and the result takes its place.
    """

    def stop(x: Tensor) -> Tensor:
        raise _ReachedError(x)

    def until_second_norm(forward: Callable[..., Tensor], args: tuple, kwargs: dict) -> Tensor:
        try:
            forward(*args, **kwargs)
        except _ReachedError as reached:
            return reached.value
        raise RuntimeError(f"{type(parts.block).__name__} did not call its second norm")

    def around(forward: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        first, second = (_JointNorm(network, norm, chunks) for norm in (parts.first_norm, parts.second_norm))
        first.add_all(x)
        between: Any = None
        rows = len(x)
        for frames in chunks:
            inputs = chunks.part(frames, (x, *args), rows), chunks.part(frames, kwargs, rows)
            with Overrides() as overrides:
                overrides.set(parts.first_norm, "forward", lambda y, frames=frames: first.apply(y, frames))
                overrides.set(parts.second_norm, "forward", stop)
                y = until_second_norm(forward, *inputs)
            second.add(y, frames)
            between = chunks.write(between, frames, y)
        for frames in chunks:
            inputs = chunks.part(frames, (x, *args), rows), chunks.part(frames, kwargs, rows)
            (kept,) = chunks.part(frames, (between,), rows)
            normed = second.apply(kept, frames)
            with Overrides() as overrides:
                overrides.set(parts.first_norm, "forward", lambda y: y)
                overrides.set(parts.convolution, "forward", lambda y, kept=kept: kept)
                overrides.set(parts.second_norm, "forward", lambda y, normed=normed: normed)
                y = forward(*inputs[0], **inputs[1])
            chunks.write(between, frames, y)
        return between

    return around


def _transformer_block(
    network: ChunkableNetwork,
    mode: InflationMode,
    layer: BlockResidual | None,
    chunks: _Chunks,
    positions: _Chunks,
) -> Callable[..., Tensor]:
    def around(forward: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        out: Any = None
        rows = len(x)
        for frames in chunks:
            before = frames_before(frames.start, mode.attention)
            length = len(before) + len(frames)
            inputs = (chunks.part(frames, values, rows, before) for values in ((x, *args), kwargs))
            y = network.run_block(forward, length, *inputs)
            own = y.unflatten(0, (-1, length))[:, len(before) :].flatten(0, 1)
            out = chunks.write(out, frames, own)
        if layer is not None:
            step = max(1, out.shape[1] * positions.size // positions.frames)
            for start in range(0, out.shape[1], step):
                some = out[:, start : start + step]
                some += layer(some, positions.frames)
        return out

    return around
