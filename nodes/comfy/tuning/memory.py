"""What tuning a MODEL needs in memory: the estimate, settings for a card, advice when it was not enough."""

import logging
from collections.abc import Iterator
from dataclasses import asdict, replace

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher

from ....tav_core.inflation.attach import InflationMode
from ....tav_core.tuning.memory import (
    USABLE,
    MemoryEstimate,
    budget,
    estimate_memory,
    fit,
    fit_checkpointing,
    gigabytes,
    smaller,
)
from ....tav_core.tuning.settings import TuningSettings
from .unet import TuningHost, shapes_only_unet

# What the input 'memory' offers: GiB of the card, 0 for no change.
PRESETS = {"as set": 0, "fits 6 GB": 6, "fits 8 GB": 8, "fits 12 GB": 12, "fits 24 GB": 24}
# The choice of gradient_checkpointing that leaves it to the memory that is free.
AUTOMATIC = "automatic"
# The settings that the memory depends on, and under which an estimate is kept.
_SHAPING = ("gradient_checkpointing", "query_rank", "trainable", "frames_per_step")
_KEPT: dict[tuple, MemoryEstimate] = {}
_MOST_KEPT = 64
# What a PyTorch raises that cannot run a pass on shapes alone.
_UNTELLABLE = (RuntimeError, NotImplementedError, TypeError)


class ShapeHost(TuningHost):
    """A `TuningHost` whose UNet has shapes and no data, on the meta device; nothing is loaded or unloaded."""

    def __init__(self, model: ModelPatcher) -> None:
        self._read(model, torch.device("meta"))
        self.unet = shapes_only_unet(model, self.dtype).requires_grad_(False).train(False)


class TuningMemory:
    """Estimates for tuning ``model`` on latents and an embedded prompt of these shapes."""

    def __init__(
        self,
        model: ModelPatcher,
        latents: tuple[int, int, int, int],
        context: tuple[int, int, int],
        mode: InflationMode,
    ) -> None:
        self.model = model
        self.latents = latents
        self.context = context
        self.mode = mode
        self.foretold: TuningSettings | None = None

    def needed(self, settings: TuningSettings, scale: float = 1.0) -> MemoryEstimate:
        """The estimate, at a size of ``scale`` times the clip's. Kept, so that the same sizes cost nothing again."""
        frames, channels, height, width = self.latents
        latents = (frames, channels, int(height * scale), int(width * scale))
        config = str(sorted(self.model.model.model_config.unet_config.items(), key=str))
        shaping = tuple(_shaping(settings).values())
        dtypes = (self.model.model.get_dtype(), self.model.model.manual_cast_dtype)
        key = (config, dtypes, latents, self.context, self.mode, shaping)
        if key not in _KEPT:
            while len(_KEPT) >= _MOST_KEPT:
                del _KEPT[next(iter(_KEPT))]
            host = ShapeHost(self.model)
            _KEPT[key] = estimate_memory(host, host.unet, latents, self.context, settings, self.mode)
        return _KEPT[key]

    def choose(self, settings: TuningSettings, preset: str) -> TuningSettings:
        """``settings`` as they are, or changed as far as it takes to fit the card of one of `PRESETS`; logged."""
        card = PRESETS[preset]
        if not card:
            return settings
        limit = budget(card)
        chosen = fit(settings, self.latents[0], limit, lambda tried: self.needed(tried).total)
        before = _shaping(settings)
        changes = ", ".join(
            f"{name} {value}" for name, value in _shaping(chosen).items() if value != before[name]
        )
        needed = self.needed(chosen)
        logging.info(
            "Tune on One Video: memory '%s' chose %s; about %s",
            preset,
            changes or "the settings as they are",
            needed,
        )
        if needed.total > limit:
            logging.warning(
                "Tune on One Video: even so it needs about %s of the %s that '%s' leaves; take a smaller size",
                gigabytes(needed.total),
                gigabytes(limit),
                preset,
            )
        return chosen

    def checkpoint(self, settings: TuningSettings, device: torch.device) -> TuningSettings:
        """``settings`` with as much more gradient checkpointing as the free memory of ``device`` takes; logged.

        The network is on the device already. Everything is checkpointed where the need cannot be told.
        """
        free = comfy.model_management.get_free_memory(device)

        def beside_the_network(tried: TuningSettings) -> int:
            needed = self.needed(tried)
            return needed.total - needed.network

        try:
            chosen = fit_checkpointing(settings, int(free * USABLE), beside_the_network)
        except _UNTELLABLE:
            chosen = replace(settings, gradient_checkpointing="all")
        logging.info(
            "Tune on One Video: gradient_checkpointing %s, as %s is free beside the network",
            chosen.gradient_checkpointing,
            gigabytes(free),
        )
        return chosen

    def foretell(self, settings: TuningSettings, device: torch.device) -> str:
        """Logs the estimate, with a warning where ``device`` has less free, and returns it in a few words.

        ``settings`` are those of the run that begins, and kept as `foretold`.

        The network is on the device already. An estimate is advice: a PyTorch that cannot make it is no reason
        not to tune.
        """
        self.foretold = settings
        try:
            needed = self.needed(settings)
        except _UNTELLABLE as error:
            logging.info("Tune on One Video: the memory it needs cannot be told (%s)", error)
            return ""
        logging.info("Tune on One Video: needs about %s", needed)
        free = comfy.model_management.get_free_memory(device)
        if needed.total - needed.network > free:
            logging.warning(
                "Tune on One Video: only %s is free beside the network; less would need: %s",
                gigabytes(free),
                self.advice(settings),
            )
        return gigabytes(needed.total)

    def advice(self, settings: TuningSettings) -> str:
        """Changes of settings that need less memory, each with what it needs."""
        now = self.needed(settings).total
        offers = [(words, self.needed(changed).total) for words, changed in self._changes(settings)]
        height, width = self.latents[2:]
        if min(height, width) >= 16:
            small = self.needed(settings, 0.75).total
            offers.append((f"{int(width * 0.75) * 8} x {int(height * 0.75) * 8} pixels", small))
        return ", ".join(f"{words} about {gigabytes(size)}" for words, size in offers if size < now) or "none"

    def _changes(self, settings: TuningSettings) -> Iterator[tuple[str, TuningSettings]]:
        if settings.gradient_checkpointing != "all":
            yield "gradient_checkpointing all", replace(settings, gradient_checkpointing="all")
        frames = min(settings.frames_per_step or self.latents[0], self.latents[0])
        if frames >= 4:
            yield f"frames_per_step {frames // 2}", replace(settings, frames_per_step=frames // 2)
        for changed in smaller(settings, self.latents[0]):
            if changed.query_rank != settings.query_rank:
                rank = changed.query_rank
                yield f"query_rank {rank}", replace(settings, query_rank=rank)
                return


def _shaping(settings: TuningSettings) -> dict[str, object]:
    return {name: value for name, value in asdict(settings).items() if name in _SHAPING}


def out_of_memory_message(
    memory: TuningMemory, settings: TuningSettings, made: int, saved: str | None
) -> str:
    """One sentence about a tuning that ran out of memory after ``made`` steps, and what would need less."""
    kept = f"; what it learned is saved as {saved}" if saved else ""
    try:
        needed, less = gigabytes(memory.needed(settings).total), memory.advice(settings)
        advice = f"These settings need about {needed}; with other settings: {less}."
    except _UNTELLABLE:
        advice = "Take gradient_checkpointing all, a smaller frames_per_step or a smaller size."
    return f"Tune on One Video ran out of memory at step {made + 1}{kept}. {advice}"
