"""Runs the method, or what a row leaves of it, on one source clip."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from devkit.world.clips import render_clip
from devkit.world.judge import Judge
from tav_core.diffusion.ddim import ddim_invert, ddim_sample, inversion_sigmas, sampling_sigmas
from tav_core.files.weights import TunedMetadata, TunedWeights
from tav_core.inflation.attach import BlockResidual
from tav_core.inflation.mode import InflationMode
from tav_core.patching import Overrides
from tav_core.pipeline.apply import applied
from tav_core.tuning.queries import TunableQueries
from tav_core.tuning.tuner import Tuner

from .cases import Settings, Source
from .companions import Companions, controlled
from .lineup import Lineup
from .measure import MARGIN, squares
from .meter import Cost, measured
from .model import Model, as_frames
from .rows import Row

T = TypeVar("T")
_IMAGE_MODEL = InflationMode("off", "per frame")


@dataclass
class Tuned:
    """What tuning on a clip learned; ``file`` holds the same for other models."""

    layers: dict[str, BlockResidual]
    queries: TunableQueries
    losses: list[float]
    file: TunedWeights

    @contextmanager
    def attached(self):
        """The model has the tuned queries inside this context."""
        with Overrides() as overrides:
            self.queries.attach(overrides)
            yield


@dataclass
class Result:
    """Frames (F, H, W, 3) in 0..1 and what each stage took."""

    frames: Tensor
    costs: dict[str, Cost]


class SourceRun:
    """One source clip with one seed. What several rows or edits share is computed once, when first asked for."""

    def __init__(
        self,
        model: Model,
        source: Source,
        settings: Settings,
        seed: int,
        companions: Companions | None = None,
    ) -> None:
        self.model = model
        self.companions = companions
        self.source = source
        self.settings = settings
        self.seed = seed
        self.clip = render_clip(source.plan(settings.frames))
        self.frames = as_frames(self.clip.frames)
        self._made: dict[tuple, tuple[object, Cost]] = {}

    def edit(self, row: Row, prompt: str) -> Result:
        """The clip as ``row`` edits it towards ``prompt``."""
        if row.start == "source":
            return Result(self.frames, {})
        return self._sample(row, prompt, self.settings.cfg)

    def reconstruction(self, row: Row) -> Result | None:
        """The clip inverted and sampled again under its own sentence, unguided; None for rows that do not invert."""
        if row.start != "inverted":
            return None
        key = ("reconstruction", *self._identity(row))
        result, _ = self._once(key, lambda: self._sample(row, self.source.prompt, 1.0))
        return result

    def autoencoded(self) -> Tensor:
        """The frames after the autoencoder alone: what no edit or reconstruction can surpass."""
        frames, _ = self._once(("autoencoded",), lambda: self.model.decode(self._latents()[0]))
        return frames

    def lineup(self, judge: Judge) -> Lineup:
        """What tells whether a frame shows the sprite that only a personalised checkpoint knows."""

        def make() -> Lineup:
            place = squares(self.clip, MARGIN)
            return Lineup(
                judge, self.clip, place, lambda frames: self.model.decode(self.model.encode(frames))
            )

        lineup, _ = self._once(("lineup",), make)
        return lineup

    def _sample(self, row: Row, prompt: str, guidance: float) -> Result:
        _, encode = self._latents()
        costs = {"encode": encode}
        tuned = None
        if row.tuned:
            tuned, costs["tune"] = self._tuned(row)
        x, sigmas = self._start(row, tuned, costs)
        with measured(self.model.device) as costs["sample"]:
            x = self._denoise(row, tuned, x, sigmas, prompt, guidance)
        with measured(self.model.device) as costs["decode"]:
            frames = self.model.decode(x)
        return Result(frames, costs)

    def _latents(self) -> tuple[Tensor, Cost]:
        return self._once(("latents",), lambda: self.model.encode(self.frames))

    def _identity(self, row: Row) -> tuple:
        """What of a row shapes its inversion."""
        return row.tuned, self._mode(row), row.trainable, row.controlled, row.personalised

    def _mode(self, row: Row) -> InflationMode:
        if not row.inflated:
            return _IMAGE_MODEL
        return InflationMode(self.settings.attention if row.sparse_causal else "off", self.settings.norm)

    def _tuned(self, row: Row) -> tuple[Tuned, Cost]:
        mode = self._mode(row)
        return self._once(("tuned", mode, row.trainable), lambda: self._tune(mode, row.trainable))

    def _tune(self, mode: InflationMode, trainable: str) -> Tuned:
        latents, _ = self._latents()
        settings = replace(self.settings.tuning, seed=self.seed, trainable=trainable)
        context = self.model.embed(self.source.prompt)
        with Tuner(self.model.host, latents, context, settings, mode) as tuner:
            for _ in range(settings.steps):
                tuner.step()
            metadata = TunedMetadata(
                prediction_type=self.model.host.schedule.prediction_type,
                attention=mode.attention,
                norm=mode.norm,
            )
            file = TunedWeights(tuner.tensors(), metadata)
        layers = {name: tuner.temporal[name] for name in tuner.temporal.names}
        return Tuned(layers if trainable != "queries" else {}, tuner.queries, tuner.losses, file)

    def _start(self, row: Row, tuned: Tuned | None, costs: dict[str, Cost]) -> tuple[Tensor, Tensor]:
        """Where sampling starts and the noise levels it goes down.

        Those that know nothing of the clip start from pure noise, whatever the strength.
        """
        latents, _ = self._latents()
        strength = {"random": 1.0, "shared": 1.0, "weak image": self.settings.image_strength}
        sigmas = sampling_sigmas(
            self._sigmas, self.settings.steps, strength.get(row.start, self.settings.strength)
        )
        if row.start == "inverted":
            key = ("inverted", *self._identity(row))
            x, costs["invert"] = self._once(key, lambda: self._invert(row, tuned, latents))
            return x, sigmas
        shape = latents.shape if row.start != "shared" else (1, *latents.shape[1:])
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(self.seed)).to(latents)
        if row.start in ("image", "weak image"):
            return latents + sigmas[0] * noise, sigmas
        return (noise * (1 + sigmas[0] ** 2).sqrt()).expand_as(latents), sigmas

    def _invert(self, row: Row, tuned: Tuned | None, latents: Tensor) -> Tensor:
        sigmas = inversion_sigmas(self._sigmas, self.settings.steps, self.settings.strength)
        prompt = self.source.prompt if self.settings.inversion_prompt == "source" else ""
        return self._run(ddim_invert, row, tuned, latents, sigmas, prompt, 1.0)

    def _denoise(
        self, row: Row, tuned: Tuned | None, x: Tensor, sigmas: Tensor, prompt: str, guidance: float
    ) -> Tensor:
        return self._run(ddim_sample, row, tuned, x, sigmas, prompt, guidance)

    def _run(
        self,
        solver: Callable[..., Tensor],
        row: Row,
        tuned: Tuned | None,
        x: Tensor,
        sigmas: Tensor,
        prompt: str,
        guidance: float,
    ) -> Tensor:
        model = self.companions.personalised if row.personalised else self.model
        with ExitStack() as stack:
            layers = {}
            if tuned is not None and row.personalised:
                _, layers = stack.enter_context(applied(model.host, tuned.file))
            elif tuned is not None:
                layers = tuned.layers
                stack.enter_context(tuned.attached())
            if row.controlled:
                hints = torch.from_numpy(self.clip.masks.any(axis=1)).float().to(self.model.device)
                hints = hints[:, None].expand(-1, 3, -1, -1)
                strength = self.settings.control_strength
                stack.enter_context(controlled(model.host.unet, self.companions.controlnet, hints, strength))
            denoiser = model.host.denoiser(
                model.embed(prompt),
                model.embed("") if guidance > 1 else None,
                guidance,
                self._mode(row),
                layers,
            )
            return solver(denoiser, x, sigmas, clean_sigma=float(self._sigmas[0]))

    @property
    def _sigmas(self) -> Tensor:
        return self.model.host.schedule.sigmas.to(self.model.device)

    def _once(self, key: tuple, make: Callable[[], T]) -> tuple[T, Cost]:
        if key not in self._made:
            with measured(self.model.device) as cost:
                made = make()
            self._made[key] = made, cost
        return self._made[key]
