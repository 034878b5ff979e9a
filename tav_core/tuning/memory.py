"""How much memory a tuning will need, told before it starts."""

import dataclasses
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ..inflation.attach import InflationMode
from ..inflation.host import Host
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
    def total(self) -> int:
        """Bytes in all."""
        return self.network + self.learned + self.step

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
        self._storages: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        aten = torch.ops.aten
        if func is aten._local_scalar_dense.default and args[0].is_meta:
            # A number that is asked of a tensor without data: zero is finite and overflows nothing.
            return True if args[0].dtype is torch.bool else (0.0 if args[0].is_floating_point() else 0)
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            self._count(tensor)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage not in self._storages:
            size = storage.nbytes()
            self._storages[storage] = size
            weakref.finalize(storage, self._freed, size)
            self.live += size
            self.peak = max(self.peak, self.live)

    def _freed(self, size: int) -> None:
        self.live -= size


class FusedAttention(TorchFunctionMode):
    """Attention as the fused kernels do it; on the meta device torch would write out the whole score matrices."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if func is functional.scaled_dot_product_attention:
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*args[:3])[0]
        return func(*args, **(kwargs or {}))


def _fused(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with FusedAttention():
        return forward(*args, **kwargs)


def _tensors(result: object) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, list | tuple):
        for item in result:
            yield from _tensors(item)


def estimate_memory(
    host: Host,
    network: nn.Module,
    latents: tuple[int, int, int, int],
    context: tuple[int, int, int],
    settings: TuningSettings,
    mode: InflationMode = InflationMode(),
) -> MemoryEstimate:
    """The memory that `Tuner` with these arguments will need on another device.

    ``host`` has its ``network`` on the meta device: shapes without data. The step that is measured is the tuner's
    own, forward and backward, on shapes; so the estimate follows the code. ``latents`` (frames, channels, height,
    width) and ``context`` (1 or frames, tokens, width) are shapes. Takes a second or two for Stable Diffusion's UNet.
    Tensors are counted; what an allocator loses between its blocks and workspaces inside of kernels are not.
    Within 20 % of the peaks measured on the CPU (tests/reliability/memory_probe.py), where tensors are mapped and not
    taken from the C library's heap, which keeps what is freed of tensors below 32 MiB.
    """
    weights = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
    with AllocationMeter() as meter:
        clip = torch.empty(latents, device="meta")
        prompt = torch.empty(context, device="meta")
        tuner = Tuner(host, clip, prompt, settings, mode)
        masters = sum(parameter.nbytes for parameter in tuner.parameters.values())
        with Overrides() as overrides:
            # Block by block and not around the whole: what is recomputed runs in the backward pass.
            for module in (
                *host.transformer_blocks().values(),
                *map(tuner.temporal.__getitem__, tuner.temporal.names),
            ):
                overrides.wrap_forward(module, _fused)
            with tuner:
                tuner.gradients(0)
    # The moments are made by the first optimiser step, after the passes that were measured.
    return MemoryEstimate(weights, 4 * masters, max(0, meter.peak - 2 * masters))


def budget(card: float) -> int:
    """The bytes that tuning may use of a card with ``card`` GiB."""
    return int((card * GIB - RESERVE) * USABLE)


def fit(
    settings: TuningSettings, frames: int, limit: int, needed: Callable[[TuningSettings], int]
) -> TuningSettings:
    """``settings`` changed so that ``needed(settings)`` bytes are at most ``limit``, and no more than that takes.

    What costs only time comes first: more gradient checkpointing. Then low-rank queries, then fewer of the clip's
    ``frames`` in each step. If nothing is small enough, the smallest.
    """
    if needed(settings) <= limit:
        return settings
    for candidate in smaller(settings, frames):
        if needed(candidate) <= limit:
            break
    return candidate


def fit_checkpointing(
    settings: TuningSettings, limit: int, needed: Callable[[TuningSettings], int]
) -> TuningSettings:
    """``settings`` with as much more gradient checkpointing as ``limit`` bytes take, which changes no result."""
    candidate = settings
    for candidate in checkpointed(settings):
        if needed(candidate) <= limit:
            break
    return candidate


def checkpointed(settings: TuningSettings) -> Iterator[TuningSettings]:
    """``settings`` and, one after the other, what checkpoints more."""
    modes: dict[Checkpointing, tuple[Checkpointing, ...]] = {
        "none": ("none", "attention", "all"),
        "attention": ("attention", "all"),
        "all": ("all",),
    }
    for checkpointing in modes[settings.gradient_checkpointing]:
        yield dataclasses.replace(settings, gradient_checkpointing=checkpointing)


def smaller(settings: TuningSettings, frames: int) -> Iterator[TuningSettings]:
    """Settings that need less and less memory than ``settings``, each on top of the one before."""
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
