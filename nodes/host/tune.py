"""Running a tuning inside ComfyUI: progress, live curve, files as it goes, nothing left behind."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import comfy.model_management
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher

from ...tav_core.inflation import InflationMode
from ...tav_core.loss_curve import loss_curve
from ...tav_core.tuning import Tuner, TuningSettings, TuningStep
from ...tav_core.weights import TunedMetadata, TunedWeights, loss_summary
from .tuning_unet import TuningHost

CURVE_PIXELS = 512
CURVE_INTERVAL = 0.5


def tune(
    model: ModelPatcher,
    latents: torch.Tensor,
    context: torch.Tensor,
    settings: TuningSettings,
    mode: InflationMode,
    metadata: TunedMetadata,
    path: Path,
    save_every: int,
) -> tuple[TunedWeights, list[float]]:
    """Tunes a private copy of ``model``'s UNet on one clip and returns what it learned, with the loss per step.

    ``latents`` (frames, 4, height, width) are as ComfyUI's VAE gives them, ``context`` (1, tokens, width). The
    weights are written to ``path`` every ``save_every`` steps (0: never) and at the end, also when the run is
    stopped or fails. ``model`` is only read.
    """
    # Nodes run in inference mode, whose tensors cannot take part in a backward pass.
    with torch.inference_mode(False), torch.enable_grad():
        latents = model.model.process_latent_in(latents.clone())
        host = TuningHost(model)
        metadata = replace(metadata, prediction_type=host.schedule.prediction_type)
        try:
            with Tuner(host, latents, context.clone(), settings, mode) as tuner:
                recorder = Recorder(tuner, metadata, path, save_every)
                try:
                    report = progress(settings.steps)
                    while tuner.step_count < settings.steps:
                        comfy.model_management.throw_exception_if_processing_interrupted()
                        step = tuner.step()
                        recorder.after(step)
                        report(step, tuner.losses)
                finally:
                    # An interrupt is no Exception; what was learned until then is worth keeping all the same.
                    recorder.finish()
                return recorder.weights(), tuner.losses
        finally:
            host.release()


class Recorder:
    """Writes the tuned weights as they are made."""

    def __init__(self, tuner: Tuner, metadata: TunedMetadata, path: Path, save_every: int) -> None:
        self.tuner = tuner
        self.metadata = metadata
        self.path = path
        self.save_every = save_every
        self.saved_at = 0

    def weights(self) -> TunedWeights:
        """What was learned so far."""
        first, last = loss_summary(self.tuner.losses)
        metadata = replace(self.metadata, steps=self.tuner.step_count, loss_first=first, loss_last=last)
        return TunedWeights(self.tuner.tensors(), metadata)

    def after(self, step: TuningStep) -> None:
        """Saves if it is time to."""
        if self.save_every and step.step % self.save_every == 0:
            self.finish()

    def finish(self) -> None:
        """Saves what has not been saved yet; a disk that refuses is a warning, for the result is still in memory."""
        if self.saved_at == self.tuner.step_count:
            return
        try:
            self.weights().save(self.path)
        except OSError as error:
            logging.warning(
                "Tune on One Video: could not write %s (%s); the result is kept in memory", self.path, error
            )
        self.saved_at = self.tuner.step_count


def progress(steps: int) -> Callable[[TuningStep, list[float]], None]:
    """A callback that moves ComfyUI's progress bar and draws the loss curve on the node."""
    bar = comfy.utils.ProgressBar(steps)
    started = time.monotonic()
    drawn = 0.0

    def report(step: TuningStep, losses: list[float]) -> None:
        nonlocal drawn
        now = time.monotonic()
        preview = None
        if now - drawn >= CURVE_INTERVAL or step.step == steps:
            drawn = now
            pace = (now - started) / step.step
            caption = f"step {step.step}/{steps}   loss {step.loss:.4f}   {pace:.2f} s/step   "
            caption += f"{pace * (steps - step.step):.0f} s left"
            preview = ("JPEG", loss_curve(losses, steps, caption), CURVE_PIXELS)
        bar.update_absolute(step.step, steps, preview)

    return report
