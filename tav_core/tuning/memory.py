"""How much memory a tuning will need, estimated before it starts, and settings that need less."""

import dataclasses
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from ..inflation.host import Host
from ..inflation.mode import InflationMode
from ..patching import Overrides
from .settings import Checkpointing, TuningSettings
from .tuner import Tuner

GIB = 2**30
# What a card holds beside tensors: its driver's context, the kernels' workspaces, another program's window.
RESERVE = 0.75 * GIB
# The part of the rest that is taken for tensors; the remainder is for what the allocator loses between its blocks.
USABLE = 0.9
RANK_TO_SAVE = 16
FRAMES_TO_SAVE = (24, 16, 12, 8, 6, 4, 3, 2)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a tuning needs at its peak.

    network: weights of the UNet; learned: float32 masters, their gradients and AdamW's two moments; step: what
    one forward and backward pass holds on top.
    """

    network: int
    learned: int
    step: int

    @property
    def beside_network(self) -> int:
        """Bytes that are needed once the network is there."""
        return self.learned + self.step

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.network + self.beside_network

    def __str__(self) -> str:
        return (
            f"{gigabytes(self.total)} ({gigabytes(self.network)} the network, {gigabytes(self.learned)} what learns, "
            f"{gigabytes(self.step)} a step)"
        )


class AllocationMeter(TorchDispatchMode):
    """Counts the bytes of all tensors that are made while it is active: ``live`` now, ``peak`` at most.

    On the meta device, where tensors have shapes and no data, it tells what the same program would need elsewhere.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            # A number that is asked of a tensor without data: zero is finite and overflows nothing.
            return True if args[0].dtype is torch.bool else (0.0 if args[0].is_floating_point() else 0)
        # What comes in was there before, a network's weights for example; a view of it is nothing new.
        self._known.update(tensor.untyped_storage() for tensor in _tensors(args))
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if storage not in self._known:
                self._known.add(storage)
                self._add(storage.nbytes())
                weakref.finalize(storage, self._add, -storage.nbytes())
        return result

    def _add(self, size: int) -> None:
        self.live += size
        self.peak = max(self.peak, self.live)


def _tensors(values: object) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)


class _FusedAttention(torch.autograd.Function):
    """What attention keeps and makes in the fused kernels, without the arithmetic: for tensors without data."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # (batch, heads, tokens, width), laid out as the kernels do.
        out = q.transpose(1, 2).new_empty(q.transpose(1, 2).shape).transpose(1, 2)
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


def estimate_memory(
    host: Host,
    latents: tuple[int, int, int, int],
    context: tuple[int, int, int],
    settings: TuningSettings,
    mode: InflationMode = InflationMode(),
) -> MemoryEstimate:
    """The memory that `Tuner` with these arguments will need on another device.

    ``host`` has its network on the meta device: shapes without data. The step that is measured is the tuner's
    own, forward and backward, on shapes; so the estimate follows the code. ``latents`` (frames, channels, height,
    width) and ``context`` (1 or frames, tokens, width) are shapes. Takes a second or two for Stable Diffusion's UNet.
    Tensors are counted; what an allocator loses between its blocks and workspaces inside of kernels are not.
    Within 5 % of the peaks measured on the CPU (tests/reliability/memory_probe.py), where tensors are mapped and not
    taken from the C library's heap, which keeps what is freed of tensors below 32 MiB.
    """
    network = sum(tensor.nbytes for tensor in (*host.unet.parameters(), *host.unet.buffers()))
    attention = functional.scaled_dot_product_attention

    def fused(q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Any:
        # Other threads may be sampling meanwhile, on tensors with data.
        return _FusedAttention.apply(q, k, v) if q.is_meta else attention(q, k, v, *args, **kwargs)

    with AllocationMeter() as meter, Overrides() as overrides:
        # On the meta device torch itself would write out the whole score matrices.
        overrides.set(functional, "scaled_dot_product_attention", fused)
        clip, prompt = (torch.empty(shape, device="meta") for shape in (latents, context))
        with Tuner(host, clip, prompt, settings, mode) as tuner:
            masters = sum(parameter.nbytes for parameter in tuner.parameters.values())
            tuner.gradients(0)
    # The moments are made by the first optimiser step, after the passes that were measured.
    return MemoryEstimate(network, 4 * masters, max(0, meter.peak - 2 * masters))


def budget(card: float) -> int:
    """The bytes that tuning may use of a card with ``card`` GiB."""
    return int((card * GIB - RESERVE) * USABLE)


def first_that_fits(
    candidates: Iterable[TuningSettings], limit: int, needed: Callable[[TuningSettings], int]
) -> TuningSettings:
    """The first of ``candidates`` whose ``needed`` bytes are at most ``limit``; if none is, the last."""
    for candidate in candidates:
        if needed(candidate) <= limit:
            break
    return candidate


def checkpointed(settings: TuningSettings) -> Iterator[TuningSettings]:
    """``settings`` and, one after the other, what checkpoints more, which changes no result."""
    modes: tuple[Checkpointing, ...] = get_args(Checkpointing)
    for checkpointing in modes[modes.index(settings.gradient_checkpointing) :]:
        yield dataclasses.replace(settings, gradient_checkpointing=checkpointing)


def smaller(settings: TuningSettings, frames: int) -> Iterator[TuningSettings]:
    """``settings`` and, one after the other, what needs less and less memory for a clip of ``frames`` frames.

    What costs only time comes first: more gradient checkpointing. Then low-rank queries, then fewer frames per step.
    """
    for changed in checkpointed(settings):
        settings = changed
        yield settings
    if settings.trainable != "temporal" and not 0 < settings.query_rank <= RANK_TO_SAVE:
        settings = dataclasses.replace(settings, query_rank=RANK_TO_SAVE)
        yield settings
    now = min(settings.frames_per_step or frames, frames)
    for count in FRAMES_TO_SAVE:
        if count < now:
            yield dataclasses.replace(settings, frames_per_step=count)


def gigabytes(size: float) -> str:
    """``size`` bytes as people say it: "7.3 GB", or "85 MB" where it is little."""
    return f"{size / GIB:.1f} GB" if size >= GIB / 10 else f"{size / 2**20:.0f} MB"
