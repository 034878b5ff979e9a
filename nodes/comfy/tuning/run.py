"""Running a tuning inside ComfyUI: progress, a live curve, stop-and-keep, nothing left behind."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace

import comfy.model_management
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher

from ....tav_core.files.weights import TunedWeights
from ....tav_core.tuning.run import TuningRun, TuningSession, advised
from ....tav_core.tuning.tuner import TuningStep
from ..files import RunFolder
from ..page.live import STOPPED, Reporter, reporting
from .memory import TuningMemory
from .unet import TuningHost


def tune(
    model: ModelPatcher,
    run: TuningRun,
    prefix: str,
    memory: str = "as set",
    automatic: bool = False,
    extra_pnginfo: dict | None = None,
) -> TunedWeights:
    """Tunes a private copy of ``model``'s UNet, which itself is only read, and returns what it learned.

    ``run`` has the latents as ComfyUI's VAE gives them; ``prefix`` names its file. ``memory`` is one of
    `tuning.memory.PRESETS`. ``automatic`` adds as much gradient checkpointing as the free memory takes.
    ``extra_pnginfo`` is the node's hidden input. Raises OSError if the folder cannot be written, MemoryError with
    advice if there is not enough memory.
    """
    # Nodes run in inference mode, whose tensors cannot take part in a backward pass.
    with reporting("tuning", extra_pnginfo) as reporter, torch.inference_mode(False), torch.enable_grad():
        estimates = TuningMemory(model, run)
        run = replace(
            run,
            settings=estimates.choose(memory),
            latents=model.model.process_latent_in(run.latents.clone()),
            context=run.context.clone(),
        )
        reporter.show(step=0, steps=run.settings.steps)

        def work() -> TunedWeights:
            host = TuningHost(model)
            try:
                return _tune(TuningSession(host, run, RunFolder(prefix)), estimates, automatic, reporter)
            finally:
                host.release()

        def advise() -> str:
            comfy.model_management.soft_empty_cache()
            shown = reporter.state.data
            made = shown.get("step", 0)
            return estimates.out_of_memory(made, shown.get("file") if made else None)

        return advised(work, advise)


def _tune(
    session: TuningSession, estimates: TuningMemory, automatic: bool, reporter: Reporter
) -> TunedWeights:
    """Steps until the run is complete or somebody stops it to keep it; a stopped run can go on later."""
    steps = session.settings.steps
    if session.finished:
        reporter.extend("losses", session.losses)
        reporter.show(step=steps, file=session.path.name, found=True)
        return session.weights()
    if automatic:
        session.settings = estimates.checkpoint(session.host.device)
    reporter.show(memory=estimates.report(session.host.device))
    try:
        with session:
            report = progress(steps, reporter, len(session.losses))
            for step in session:
                report(step, session.losses)
                if reporter.stop_asked:
                    break
                comfy.model_management.throw_exception_if_processing_interrupted()
    finally:
        if session.path is not None:
            reporter.extend("losses", session.losses)
            reporter.show(step=len(session.losses), file=session.path.name)
    made = len(session.losses)
    if made < steps:
        reporter.end(STOPPED)
        logging.info("Tune on One Video: stopped at step %d of %d and kept", made, steps)
    return session.weights()


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
