"""Tuning a diffusers model on one clip."""

from collections.abc import Callable
from pathlib import Path

from ..files.weights import TunedWeights
from ..inflation.attach import InflationMode
from ..tuning.run import SingleFile, TuningRun, TuningSession, advised
from ..tuning.settings import RunSettings, TuningSettings
from ..tuning.tuner import TuningStep
from ..video.clip import Clip
from .model import Model

_LESS_MEMORY = (
    "There is too little memory to tune; take fewer frames, a smaller size, the dtype bf16, or the settings "
    "gradient_checkpointing='all', query_rank=16 or a small frames_per_step. What was learned so far is saved."
)


def tune(
    model: Model,
    clip: Clip,
    prompt: str,
    out: Path | str | None = None,
    settings: TuningSettings = TuningSettings(),
    mode: InflationMode = InflationMode(),
    saving: RunSettings = RunSettings(),
    on_step: Callable[[TuningStep], object] | None = None,
) -> TunedWeights:
    """One-shot tuning of ``model`` on ``clip``, which shows what ``prompt`` says (Tune-A-Video, section 3.3).

    The model itself stays as it is. The weights are written to the safetensors file ``out`` as `RunSettings` say, at
    the end, and when an error or Ctrl+C stops the run. A finished file of the same inputs is read instead of tuning
    again. A stopped run goes on from the state in the folder ``unfinished`` beside ``out``, to the result that it would
    have had. ``on_step`` is called after every step; where it returns True the run stops and what was learned is kept.

    A disk that refuses later than at the start is a warning in the log. Raises FileExistsError if ``out`` came from
    other inputs, MemoryError with advice if there is too little memory, NonFiniteLossError if the loss explodes.
    """

    def work() -> TunedWeights:
        run = TuningRun(
            model.encode(clip.frames),
            model.embed(prompt),
            settings,
            mode,
            saving,
            prompt=prompt,
            frame_stride=clip.frame_stride,
            base_fingerprint=model.fingerprint(),
        )
        session = TuningSession(model.host, run, SingleFile(Path(out)) if out is not None else None)
        with session:
            for step in session:
                if on_step is not None and on_step(step) is True:
                    break
        return session.weights()

    return advised(work, lambda: _LESS_MEMORY)
