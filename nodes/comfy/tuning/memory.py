"""What tuning a MODEL needs in memory: the estimate, settings for a card, advice when it was not enough."""

import logging
from dataclasses import asdict, replace

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher

from ....tav_core.tuning.memory import (
    RANK_TO_SAVE,
    USABLE,
    MemoryEstimate,
    budget,
    checkpointed,
    estimate_memory,
    first_that_fits,
    gigabytes,
    smaller,
)
from ....tav_core.tuning.run import TuningRun
from ....tav_core.tuning.settings import TuningSettings
from .unet import TuningHost, shapes_only_unet

# What the input 'memory' offers: GiB of the card, 0 for no change.
PRESETS = {"as set": 0, "fits 6 GB": 6, "fits 8 GB": 8, "fits 12 GB": 12, "fits 24 GB": 24}
# The choice of gradient_checkpointing that leaves it to the memory that is free.
AUTOMATIC = "automatic"
# The settings that the memory depends on, and under which an estimate is kept.
_SHAPING = ("gradient_checkpointing", "query_rank", "trainable", "frames_per_step")
_KEPT: dict[tuple, MemoryEstimate] = {}
# What a PyTorch raises that cannot run a pass on shapes alone. An estimate is advice: the tuning goes on without.
_NO_ESTIMATE = (RuntimeError, NotImplementedError, TypeError)


class ShapeHost(TuningHost):
    """A `TuningHost` whose UNet has shapes and no data, on the meta device; nothing is loaded or unloaded."""

    def __init__(self, model: ModelPatcher) -> None:
        self._read(model, torch.device("meta"))
        self.unet = shapes_only_unet(model, self.dtype).requires_grad_(False).train(False)


class TuningMemory:
    """What ``run`` on ``model`` needs. ``settings`` are the run's own until others are chosen."""

    def __init__(self, model: ModelPatcher, run: TuningRun) -> None:
        self.model = model
        self.run = run
        self.settings = run.settings

    def needed(self, settings: TuningSettings, scale: float = 1.0) -> MemoryEstimate:
        """The estimate, at a size of ``scale`` times the clip's. Kept, so that the same sizes cost nothing again."""
        frames, channels, height, width = self.run.latents.shape
        latents = (frames, channels, int(height * scale), int(width * scale))
        context, mode, inner = tuple(self.run.context.shape), self.run.mode, self.model.model
        config = str(sorted(inner.model_config.unet_config.items(), key=str))
        shaping = tuple(_shaping(settings).values())
        key = (config, inner.get_dtype(), inner.manual_cast_dtype, latents, context, mode, shaping)
        if key not in _KEPT:
            _KEPT[key] = estimate_memory(ShapeHost(self.model), latents, context, settings, mode)
        return _KEPT[key]

    def choose(self, preset: str) -> TuningSettings:
        """The settings as they are, or changed as far as it takes to fit the card of one of `PRESETS`; logged."""
        if PRESETS[preset]:
            before, limit = _shaping(self.settings), budget(PRESETS[preset])
            candidates = smaller(self.settings, len(self.run.latents))
            self.settings = first_that_fits(candidates, limit, lambda tried: self.needed(tried).total)
            needed, now = self.needed(self.settings), _shaping(self.settings)
            changes = ", ".join(f"{name} {value}" for name, value in now.items() if value != before[name])
            changes = changes or "the settings as they are"
            logging.info("Tune on One Video: memory '%s' chose %s; about %s", preset, changes, needed)
            if needed.total > limit:
                logging.warning(
                    "Tune on One Video: even so it needs about %s of the %s that '%s' leaves; take a smaller size",
                    gigabytes(needed.total),
                    gigabytes(limit),
                    preset,
                )
        return self.settings

    def checkpoint(self, device: torch.device) -> TuningSettings:
        """The settings with as much more gradient checkpointing as the free memory of ``device`` takes; logged.

        The network is on the device already.
        """
        free = comfy.model_management.get_free_memory(device)
        candidates, limit = checkpointed(self.settings), int(free * USABLE)
        try:
            self.settings = first_that_fits(
                candidates, limit, lambda tried: self.needed(tried).beside_network
            )
        except _NO_ESTIMATE as error:
            logging.warning("Tune on One Video: the memory it needs cannot be estimated (%s)", error)
            self.settings = replace(self.settings, gradient_checkpointing="all")
        chosen, words = self.settings.gradient_checkpointing, gigabytes(free)
        logging.info(
            "Tune on One Video: gradient_checkpointing %s, as %s is free beside the network", chosen, words
        )
        return self.settings

    def report(self, device: torch.device) -> str:
        """Logs the estimate, with a warning where ``device`` has less free, and returns it in a few words.

        The network is on the device already.
        """
        try:
            needed = self.needed(self.settings)
        except _NO_ESTIMATE as error:
            logging.warning("Tune on One Video: the memory it needs cannot be estimated (%s)", error)
            return ""
        free = comfy.model_management.get_free_memory(device)
        logging.info("Tune on One Video: needs about %s", needed)
        if needed.beside_network > free:
            words = "Tune on One Video: only %s is free beside the network; less would need: %s"
            logging.warning(words, gigabytes(free), self._advice())
        return gigabytes(needed.total)

    def out_of_memory(self, made: int, saved: str | None) -> str:
        """One sentence about a tuning that ran out of memory after ``made`` steps, and what would need less."""
        kept = f"; what it learned is saved as {saved}" if saved else ""
        try:
            needed = gigabytes(self.needed(self.settings).total)
            advice = f"These settings need about {needed}; with other settings: {self._advice()}."
        except _NO_ESTIMATE:
            advice = "Take gradient_checkpointing all, a smaller frames_per_step or a smaller size."
        return f"Tune on One Video ran out of memory at step {made + 1}{kept}. {advice}"

    def _advice(self) -> str:
        """Changes that need less memory, each with what it needs."""
        settings, (frames, _, height, width) = self.settings, self.run.latents.shape
        fewer = max(2, min(settings.frames_per_step or frames, frames) // 2)
        changes = {"gradient_checkpointing": "all", "frames_per_step": fewer, "query_rank": RANK_TO_SAVE}
        offers = {
            f"{n} {value}": self.needed(replace(settings, **{n: value})) for n, value in changes.items()
        }
        if min(height, width) >= 16:
            size = f"{int(width * 0.75) * 8} x {int(height * 0.75) * 8} pixels"
            offers[size] = self.needed(settings, 0.75)
        now = self.needed(settings).total
        less = [f"{words} about {gigabytes(o.total)}" for words, o in offers.items() if o.total < now]
        return ", ".join(less) or "none"


def _shaping(settings: TuningSettings) -> dict[str, object]:
    return {name: value for name, value in asdict(settings).items() if name in _SHAPING}
