"""Tuning on one clip: progress, a file as it goes, and going on where a run was stopped."""

import json
from dataclasses import replace
from pathlib import Path

from ..files.weights import TunedMetadata, TunedWeights, loss_summary
from ..inflation.attach import InflationMode
from ..pipeline.model import Model
from ..tuning.run import load_unfinished, run_fingerprint, save_unfinished
from ..tuning.settings import TuningSettings
from ..tuning.tuner import Tuner
from ..video.clip import Clip
from .say import CliError, bar, say


def tune(
    model: Model,
    clip: Clip,
    prompt: str,
    settings: TuningSettings,
    mode: InflationMode,
    out: Path,
    save_every: int = 100,
    resume: bool = True,
    quiet: bool = False,
) -> TunedWeights:
    """Tunes on ``clip`` and writes ``out``, every ``save_every`` steps (0: never), at the end and when stopped.

    With ``resume`` a finished file of the same inputs is read instead, and a stopped run goes on bit for bit from
    the state in the folder ``unfinished`` beside ``out``. Raises CliError if ``out`` came from other inputs.
    """
    latents, context = model.encode(clip.frames), model.embed(prompt)
    run = run_fingerprint(model.host.unet.state_dict(), latents, context, settings, mode)
    if out.exists():
        found, dtypes = TunedWeights.peek(out)
        if found.run != run:
            raise CliError(f"{out} exists and was tuned with other inputs; choose another name or delete it.")
        if resume and found.steps == settings.steps and dtypes == {"F32"}:
            say(f"{out}: tuned already with the same inputs")
            return TunedWeights.load(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    metadata = TunedMetadata(
        base_fingerprint=model.fingerprint(),
        prediction_type=model.host.schedule.prediction_type,
        prompt=prompt,
        frames=len(clip.frames),
        width=clip.frames.shape[2],
        height=clip.frames.shape[1],
        frame_stride=clip.step,
        learning_rate=settings.learning_rate,
        trainable=settings.trainable,
        attention=mode.attention,
        norm=mode.norm,
        seed=settings.seed,
        run=run,
    )
    with Tuner(model.host, latents, context, settings, mode) as tuner:
        run_file = _RunFile(tuner, metadata, out)
        if resume:
            run_file.resume()
        with bar(settings.steps, "tune", quiet, tuner.step_count) as progress:
            try:
                while tuner.step_count < settings.steps:
                    step = tuner.step()
                    progress.set_postfix(loss=f"{step.loss:.4f}")
                    progress.update()
                    if save_every and step.step % save_every == 0:
                        run_file.save()
            finally:
                run_file.save()
        return run_file.weights()


class _RunFile:
    """The weights file of a run and the state to go on from."""

    def __init__(self, tuner: Tuner, metadata: TunedMetadata, out: Path) -> None:
        self.tuner = tuner
        self.metadata = metadata
        self.out = out
        self.state = out.parent / "unfinished" / f"{metadata.run}.state"
        self.saved_at = 0

    def resume(self) -> None:
        """Goes on from a stopped run's state, if there is one."""
        state = load_unfinished(self.state, self.metadata.run)
        if state is not None:
            self.tuner.restore(state)
            self.saved_at = self.tuner.step_count
            say(f"{self.out}: going on from step {self.tuner.step_count} of the stopped run")

    def weights(self) -> TunedWeights:
        """What was learned so far."""
        losses = self.tuner.losses
        first, last = loss_summary(losses)
        steps = self.tuner.step_count
        metadata = replace(
            self.metadata, steps=steps, loss_first=first, loss_last=last, losses=json.dumps(losses)
        )
        return TunedWeights(self.tuner.tensors(), metadata)

    def save(self) -> None:
        """Writes what is not written yet."""
        if self.saved_at == self.tuner.step_count:
            return
        self.weights().save(self.out)
        if self.tuner.step_count < self.tuner.settings.steps:
            save_unfinished(self.state, self.tuner.state(), self.metadata.run)
        else:
            self.state.unlink(missing_ok=True)
        self.saved_at = self.tuner.step_count
