"""One tuning run, from its inputs to its file: found again, resumed, saved as it goes."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .. import __version__
from ..atomic import save_tensors
from ..files.weights import TunedMetadata, TunedWeights, loss_summary
from ..inflation.host import Host
from ..inflation.mode import InflationMode
from .settings import RunSettings, TuningSettings
from .tuner import Tuner, TuningStep

T = TypeVar("T")
_log = logging.getLogger(__name__)
# What changes the cost of a run but not its result.
_IRRELEVANT = ("gradient_checkpointing",)
# Settings that came later count only where they do something, so that earlier runs keep their fingerprint.
_LATER = {"frames_per_step": 0, "timesteps": "random", "temporal_lr_scale": 1.0}


@dataclass(frozen=True, eq=False)
class TuningRun:
    """What one run learns from, how it learns, and how it is kept.

    latents: the clip's clean latents (frames, channels, height, width) in the network's scale. context: the embedded
    prompt (1, tokens, width), or one per frame. prompt, frame_stride and base_fingerprint stand in the file's header
    (`TunedMetadata`) and shape nothing.
    """

    latents: Tensor
    context: Tensor
    settings: TuningSettings = TuningSettings()
    mode: InflationMode = InflationMode()
    saving: RunSettings = RunSettings()
    prompt: str = ""
    frame_stride: int = 0
    base_fingerprint: str = ""


class RunFiles(Protocol):
    """Where runs are kept."""

    def find(self, run: str, steps: int) -> Path | None:
        """The weights, in full precision, that the run with this fingerprint had after ``steps`` steps."""

    def new(self, run: str, size: int) -> Path:
        """Where this run writes its weights; weights and state take up to ``size`` bytes.

        Raises OSError or ValueError, with one plain sentence, if it cannot write there.
        """

    def state(self, run: str) -> Path:
        """Where the state of this run is kept while it is unfinished."""


class SingleFile:
    """`RunFiles` with the weights in one file and the state in the folder ``unfinished`` beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, run: str, steps: int) -> Path | None:
        """See `RunFiles.find`. Raises WeightsError if the file is not a tuned file."""
        return self.path if self.path.exists() and is_run(self.path, run, steps) else None

    def new(self, run: str, size: int) -> Path:
        """See `RunFiles.new`. Raises FileExistsError rather than replace the file of another run."""
        if self.path.exists() and TunedWeights.peek(self.path)[0].run != run:
            raise FileExistsError(
                f"{self.path} exists and was tuned with other inputs; choose another name or delete it."
            )
        return self.path

    def state(self, run: str) -> Path:
        """See `RunFiles.state`."""
        return self.path.parent / "unfinished" / f"{run}.state"


def is_run(path: Path, run: str, steps: int) -> bool:
    """Whether the file holds, in full precision, what the run had after ``steps`` steps. Raises WeightsError."""
    metadata, dtypes = TunedWeights.peek(path)
    return metadata.run == run and metadata.steps == steps and dtypes == {"F32"}


class TuningSession:
    """A `TuningRun` at work on ``host``. Without ``files`` nothing is written or found again.

    A finished run with the same inputs is read at once: ``finished`` is then true and there is nothing left to do.
    Otherwise enter it and iterate over its steps; to break out of the loop stops the run and keeps it::

        session = TuningSession(host, run, files)
        with session:
            for step in session:
                print(step.step, step.loss)
        weights = session.weights()

    Weights and the state, which resumes the run with bit-identical results, are saved every ``run.saving.save_every``
    steps and whenever the context is left. ``settings`` may be replaced before entering by others
    with the same result and another cost (gradient_checkpointing). Entering raises what `RunFiles.new` raises.
    """

    def __init__(self, host: Host, run: TuningRun, files: RunFiles | None = None) -> None:
        self.host = host
        self.run = run
        self.files = files
        self.settings = run.settings
        self.fingerprint = run_fingerprint(
            host.unet.state_dict(), run.latents, run.context, run.settings, run.mode
        )
        self.path: Path | None = None
        self._found: TunedWeights | None = None
        self._tuner: Tuner | None = None
        self._saved_at = 0
        if files is not None and run.saving.resume:
            self.path = files.find(self.fingerprint, run.settings.steps)
        if self.path is not None:
            self._found = TunedWeights.load(self.path)
            _log.info("%s: tuned already with the same inputs", self.path)

    @property
    def finished(self) -> bool:
        """Whether the run was found complete."""
        return self._found is not None

    @property
    def losses(self) -> list[float]:
        """The loss of every step so far."""
        if self._found is not None:
            return list(json.loads(self._found.metadata.losses))
        return self._tuner.losses if self._tuner is not None else []

    def weights(self) -> TunedWeights:
        """What was learned so far."""
        if self._found is not None:
            return self._found
        assert self._tuner is not None, "enter the session first"  # noqa: S101
        run, settings, losses = self.run, self.settings, self.losses
        first, last = loss_summary(losses)
        metadata = TunedMetadata(
            base_fingerprint=run.base_fingerprint,
            prediction_type=self.host.schedule.prediction_type,
            prompt=run.prompt,
            frames=len(run.latents),
            width=run.latents.shape[3] * 8,
            height=run.latents.shape[2] * 8,
            frame_stride=run.frame_stride,
            steps=len(losses),
            learning_rate=settings.learning_rate,
            trainable=settings.trainable,
            attention=run.mode.attention,
            norm=run.mode.norm,
            seed=settings.seed,
            loss_first=first,
            loss_last=last,
            losses=json.dumps(losses),
            run=self.fingerprint,
        )
        return TunedWeights(self._tuner.tensors(), metadata)

    def __enter__(self) -> "TuningSession":
        if self._found is None:
            tuner = Tuner(self.host, self.run.latents, self.run.context, self.settings, self.run.mode)
            if self.files is not None:
                # Weights, and a state with the two moments of AdamW: float32 each.
                size = 16 * sum(parameter.numel() for parameter in tuner.parameters.values())
                self.path = self.files.new(self.fingerprint, size)
                if self.run.saving.resume:
                    self._resume(tuner, self.files)
            self._tuner = tuner.__enter__()
        return self

    def __iter__(self) -> Iterator[TuningStep]:
        while self._tuner is not None and self._tuner.step_count < self.settings.steps:
            step = self._tuner.step()
            if step.skipped:
                _log.info("step %d taught nothing: its fp16 gradients overflowed", step.step)
            if self.run.saving.save_every and step.step % self.run.saving.save_every == 0:
                self._save()
            yield step

    def __exit__(self, *error: object) -> None:
        if self._tuner is not None:
            try:
                self._save()
            finally:
                self._tuner.__exit__(*error)

    def _resume(self, tuner: Tuner, files: RunFiles) -> None:
        path = files.state(self.fingerprint)
        if not path.exists():
            return
        try:
            tuner.restore(_read_state(path, self.fingerprint))
        except (OSError, SafetensorError, ValueError) as error:
            _log.warning("%s: the run starts over, because its saved state cannot be used: %s", path, error)
            return
        self._saved_at = tuner.step_count
        self.path = files.find(self.fingerprint, tuner.step_count) or self.path
        _log.info("%s: going on from step %d of the stopped run", self.path, tuner.step_count)

    def _save(self) -> None:
        """Writes what is not written yet. A disk that refuses is a warning: the result is still in memory."""
        steps = len(self.losses)
        if self.files is None or self.path is None or self._tuner is None or self._saved_at == steps:
            return
        state = self.files.state(self.fingerprint)
        try:
            self.weights().save(self.path)
            if steps < self.settings.steps:
                save_tensors(state, self._tuner.state(), {"run": self.fingerprint})
            else:
                state.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("could not write %s (%s); the result is kept in memory", self.path, error)
        self._saved_at = steps


def run_fingerprint(
    weights: Mapping[str, Tensor],
    latents: Tensor,
    context: Tensor,
    settings: TuningSettings,
    mode: InflationMode,
) -> str:
    """32 hex digits over everything that shapes a tuning run's result.

    ``weights`` is the UNet's state dict with LoRAs merged; ``latents`` and ``context`` are what `Tuner` gets. The
    program's version counts as well.
    """
    digest = hashlib.sha256()
    shaping = {k: v for k, v in dataclasses.asdict(settings).items() if k not in _IRRELEVANT}
    shaping = {k: v for k, v in shaping.items() if k not in _LATER or v != _LATER[k]}
    digest.update(json.dumps([__version__, shaping, dataclasses.asdict(mode)], sort_keys=True).encode())
    for name, tensor in sorted({**weights, "latents": latents, "context": context}.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def advised(work: Callable[[], T], advise: Callable[[], str]) -> T:
    """What ``work()`` returns; where it runs out of memory, MemoryError with the sentence ``advise()``."""
    try:
        return work()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Out of the handler: the error holds on to every tensor of the step that failed.
    raise MemoryError(advise())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that there was not enough memory, on a GPU or in the machine."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def _read_state(path: Path, run: str) -> dict[str, Tensor]:
    with safe_open(str(path), framework="pt", device="cpu") as file:
        if (file.metadata() or {}).get("run") != run:
            raise ValueError("it belongs to another run")
        return {name: file.get_tensor(name).clone() for name in file.keys()}
