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

from ....tav_core.files.weights import TunedMetadata, TunedWeights, loss_summary
from ....tav_core.inflation.attach import InflationMode
from ....tav_core.tuning.run import load_unfinished, run_fingerprint, save_unfinished
from ....tav_core.tuning.settings import TuningSettings
from ....tav_core.tuning.tuner import Tuner, TuningStep
from .. import files
from ..page.live import STOPPED, Reporter, reporting
from .memory import TuningMemory, is_out_of_memory, out_of_memory_message
from .unet import TuningHost


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
    memory: str = "as set",
    automatic: bool = False,
    extra_pnginfo: dict | None = None,
) -> TunedWeights:
    """Tunes a private copy of ``model``'s UNet on one clip and returns what it learned.

    ``latents`` (frames, 4, height, width) are as ComfyUI's VAE gives them, ``context`` (1, tokens, width). Weights
    and the state to go on from are written every ``save_every`` steps (0: never), and when the run is stopped or
    fails; the weights at the end. With ``resume`` a finished run of the same inputs is read instead, and an
    unfinished one goes on. ``memory`` is one of `tuning_memory.PRESETS`. ``automatic`` adds as much gradient
    checkpointing as the free memory takes. ``extra_pnginfo`` is the node's hidden input. ``model`` is only read.
    Raises OSError if the folder cannot be written, MemoryError with advice if there is not enough memory.
    """
    # Nodes run in inference mode, whose tensors cannot take part in a backward pass.
    with reporting("tuning", extra_pnginfo) as reporter, torch.inference_mode(False), torch.enable_grad():
        foreseen = TuningMemory(model, tuple(latents.shape), tuple(context.shape), mode)
        settings = foreseen.choose(settings, memory)
        try:
            return _tune(
                model,
                latents,
                context,
                settings,
                mode,
                metadata,
                prefix,
                save_every,
                resume,
                reporter,
                foreseen,
                automatic,
            )
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Out of the handler: the error holds on to every tensor of the step that failed.
        comfy.model_management.soft_empty_cache()
        shown = reporter.state.data
        made = shown.get("step", 0)
        raise MemoryError(
            out_of_memory_message(
                foreseen, foreseen.foretold or settings, made, shown.get("file") if made else None
            )
        )


def _tune(
    model: ModelPatcher,
    latents: torch.Tensor,
    context: torch.Tensor,
    settings: TuningSettings,
    mode: InflationMode,
    metadata: TunedMetadata,
    prefix: str,
    save_every: int,
    resume: bool,
    reporter: Reporter,
    foreseen: TuningMemory,
    automatic: bool,
) -> TunedWeights:
    reporter.show(step=0, steps=settings.steps)
    latents = model.model.process_latent_in(latents.clone())
    context = context.clone()
    host = TuningHost(model)
    try:
        run = run_fingerprint(host.unet.state_dict(), latents, context, settings, mode)
        finished = files.find_run(run, settings.steps) if resume else None
        if finished is not None:
            logging.info("Tune on One Video: found %s, tuned with the same inputs", finished.name)
            weights = TunedWeights.load(finished)
            reporter.extend("losses", json.loads(weights.metadata.losses))
            reporter.show(step=settings.steps, file=finished.name, found=True)
            return weights
        metadata = replace(metadata, run=run, prediction_type=host.schedule.prediction_type)
        if automatic:
            settings = foreseen.checkpoint(settings, host.device)
        reporter.show(memory=foreseen.foretell(settings, host.device))
        with Tuner(host, latents, context, settings, mode) as tuner:
            recorder = Recorder(tuner, metadata, prefix, save_every)
            if resume:
                recorder.resume()
            return learn(tuner, recorder, reporter)
    finally:
        host.release()


def learn(tuner: Tuner, recorder: "Recorder", reporter: Reporter) -> TunedWeights:
    """Steps until the run is complete or somebody stops it to keep it, with progress.

    What was learned is kept however it ends; a stopped run can go on later, like an interrupted one.
    """
    steps = tuner.settings.steps
    report = progress(steps, reporter, tuner.step_count)
    try:
        while tuner.step_count < steps and not (reporter.stop_asked and tuner.losses):
            comfy.model_management.throw_exception_if_processing_interrupted()
            step = tuner.step()
            if step.skipped:
                logging.info(
                    "Tune on One Video: step %d taught nothing, its fp16 gradients overflowed", step.step
                )
            recorder.after(step)
            report(step, tuner.losses)
    finally:
        # An interrupt is no Exception; what was learned until then is worth keeping all the same.
        recorder.finish()
        reporter.extend("losses", tuner.losses)
        reporter.show(step=tuner.step_count, file=recorder.path.name)
    if tuner.step_count < steps:
        reporter.end(STOPPED)
        logging.info("Tune on One Video: stopped at step %d of %d and kept", tuner.step_count, steps)
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


def progress(steps: int, reporter: Reporter, done: int = 0) -> Callable[[TuningStep, list[float]], None]:
    """A callback that moves ComfyUI's progress bar and shows the loss on the page; ``done`` steps were made before."""
    bar = comfy.utils.ProgressBar(steps)
    started = time.monotonic()

    def report(step: TuningStep, losses: list[float]) -> None:
        pace = (time.monotonic() - started) / (step.step - done)
        left = pace * (steps - step.step)
        bar.update_absolute(step.step, steps)
        if reporter.due():
            reporter.extend("losses", losses)
        reporter.show(step=step.step, steps_per_second=1 / pace if pace > 0 else None, seconds_left=left)

    return report
