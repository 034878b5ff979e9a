"""Running a tuning inside ComfyUI: progress, live curve, files as it goes, nothing left behind."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace

import comfy.model_management
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher

from ...tav_core.inflation import InflationMode
from ...tav_core.loss_curve import loss_curve
from ...tav_core.tuning import Tuner, TuningSettings, TuningStep
from ...tav_core.unfinished import load_unfinished, run_fingerprint, save_unfinished
from ...tav_core.weights import TunedMetadata, TunedWeights, loss_summary
from . import files
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
    prefix: str,
    save_every: int,
    resume: bool,
) -> TunedWeights:
    """Tunes a private copy of ``model``'s UNet on one clip and returns what it learned.

    ``latents`` (frames, 4, height, width) are as ComfyUI's VAE gives them, ``context`` (1, tokens, width). Weights
    and the state to go on from are written every ``save_every`` steps (0: never), and when the run is stopped or
    fails; the weights at the end. With ``resume`` a finished run of the same inputs is read instead, and an
    unfinished one goes on. ``model`` is only read. Raises OSError if the folder cannot be written.
    """
    # Nodes run in inference mode, whose tensors cannot take part in a backward pass.
    with torch.inference_mode(False), torch.enable_grad():
        latents = model.model.process_latent_in(latents.clone())
        context = context.clone()
        host = TuningHost(model)
        try:
            run = run_fingerprint(host.unet.state_dict(), latents, context, settings, mode)
            finished = files.find_run(run, settings.steps) if resume else None
            if finished is not None:
                logging.info("Tune on One Video: found %s, tuned with the same inputs", finished.name)
                return TunedWeights.load(finished)
            metadata = replace(metadata, run=run, prediction_type=host.schedule.prediction_type)
            with Tuner(host, latents, context, settings, mode) as tuner:
                recorder = Recorder(tuner, metadata, prefix, save_every)
                if resume:
                    recorder.resume()
                return learn(tuner, recorder)
        finally:
            host.release()


def learn(tuner: Tuner, recorder: "Recorder") -> TunedWeights:
    """Steps until the run is complete, with progress; keeps what was learned however it ends."""
    steps = tuner.settings.steps
    report = progress(steps, tuner.step_count)
    try:
        while tuner.step_count < steps:
            comfy.model_management.throw_exception_if_processing_interrupted()
            step = tuner.step()
            recorder.after(step)
            report(step, tuner.losses)
    finally:
        # An interrupt is no Exception; what was learned until then is worth keeping all the same.
        recorder.finish()
    return recorder.weights()


class Recorder:
    """Keeps the weights, and the state to go on from, of a run on disk. Raises OSError if it cannot from the start."""

    def __init__(self, tuner: Tuner, metadata: TunedMetadata, prefix: str, save_every: int) -> None:
        self.tuner = tuner
        self.metadata = metadata
        self.path = files.new_path(prefix)
        self.state_path = files.unfinished_path(metadata.run)
        self.save_every = save_every
        self.saved_at = 0
        files.check_room(self.path.parent, 16 * sum(p.numel() for p in tuner.parameters.values()))

    def resume(self) -> None:
        """Goes on where a stopped run of the same inputs left its state, if there is one."""
        state = load_unfinished(self.state_path, self.metadata.run)
        if state is None:
            return
        self.tuner.restore(state)
        self.path = files.find_run(self.metadata.run, self.tuner.step_count) or self.path
        self.saved_at = self.tuner.step_count
        logging.info("Tune on One Video: going on from step %d of the stopped run", self.tuner.step_count)

    def weights(self) -> TunedWeights:
        """What was learned so far."""
        losses = self.tuner.losses
        first, last = loss_summary(losses)
        metadata = replace(
            self.metadata,
            steps=self.tuner.step_count,
            loss_first=first,
            loss_last=last,
            losses=json.dumps(losses),
        )
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
            if self.tuner.step_count < self.tuner.settings.steps:
                save_unfinished(self.state_path, self.tuner.state(), self.metadata.run)
            else:
                self.state_path.unlink(missing_ok=True)
        except OSError as error:
            logging.warning(
                "Tune on One Video: could not write %s (%s); the result is kept in memory", self.path, error
            )
        self.saved_at = self.tuner.step_count


def progress(steps: int, done: int = 0) -> Callable[[TuningStep, list[float]], None]:
    """A callback that moves ComfyUI's progress bar and draws the loss curve; ``done`` steps were made before."""
    bar = comfy.utils.ProgressBar(steps)
    started = time.monotonic()
    drawn = 0.0

    def report(step: TuningStep, losses: list[float]) -> None:
        nonlocal drawn
        now = time.monotonic()
        preview = None
        if now - drawn >= CURVE_INTERVAL or step.step == steps:
            drawn = now
            pace = (now - started) / (step.step - done)
            caption = f"step {step.step}/{steps}   loss {step.loss:.4f}   {pace:.2f} s/step   "
            caption += f"{pace * (steps - step.step):.0f} s left"
            preview = ("JPEG", loss_curve(losses, steps, caption), CURVE_PIXELS)
        bar.update_absolute(step.step, steps, preview)

    return report
