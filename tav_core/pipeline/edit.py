"""The steps of an edit with a diffusers model: tune, invert, sample."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..atomic import save_tensors
from ..diffusion.ddim import ddim_invert, ddim_sample, inversion_sigmas, level_scale, sampling_sigmas
from ..diffusion.settings import Inversion, Sampling, Strengths
from ..files.weights import TunedWeights, warn_of_another_base
from ..inflation.mode import InflationMode
from ..tuning.run import SingleFile, TuningRun, TuningSession, advised
from ..tuning.settings import RunSettings, TuningSettings
from ..tuning.tuner import TuningStep
from ..video.clip import Clip
from .apply import applied
from .model import Model

Progress = Callable[[int, int], object]
"""Called with the number of steps done and of all steps, after each evaluation of the network."""
_FORMAT = "tune-a-video-noise"
_LESS_MEMORY = (
    "There is too little memory to tune; take fewer frames, a smaller size, the dtype bf16, or the settings "
    "gradient_checkpointing='all', query_rank=16 or a small frames_per_step. What was learned so far is saved."
)


@dataclass(frozen=True)
class InvertedLatents:
    """Inverted latents (F, 4, H, W) = x_0 + sigma noise, and the rate at which the clip plays.

    strength: the share of the way to noise that they went, as in `tav_core.diffusion.ddim.inversion_sigmas`.
    """

    latents: Tensor
    sigma: float
    fps: float
    strength: float = 1.0

    def save(self, path: Path | str) -> None:
        """Writes a safetensors file. Raises OSError if it cannot."""
        numbers = {"sigma": self.sigma, "fps": self.fps, "strength": self.strength}
        header = {"format": _FORMAT, **{name: repr(value) for name, value in numbers.items()}}
        save_tensors(Path(path), {"latents": self.latents.cpu()}, header)

    @classmethod
    def load(cls, path: Path | str) -> "InvertedLatents":
        """Reads `save`'s file. Raises ValueError for any other file."""
        try:
            with safe_open(str(path), framework="pt", device="cpu") as file:
                header = file.metadata() or {}
                if header.get("format") == _FORMAT:
                    numbers = (float(header[name]) for name in ("sigma", "fps", "strength"))
                    return cls(file.get_tensor("latents").clone(), *numbers)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"{path} cannot be read; make it again with invert.") from error
        raise ValueError(f"{path} does not hold inverted latents; make it with invert.")


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


def load_tuned(path: Path | str | None, model: Model) -> TunedWeights | None:
    """The tuned weights at ``path``, None without one. Raises WeightsError if the file is not sound.

    A warning is logged if they were tuned on another base than ``model``.
    """
    if path is None:
        return None
    weights = TunedWeights.load(Path(path))
    warn_of_another_base(weights.metadata, model.fingerprint())
    return weights


def invert(
    model: Model,
    clip: Clip,
    tuned: TunedWeights | None = None,
    inversion: Inversion = Inversion(),
    strengths: Strengths = Strengths(),
    progress: Progress | None = None,
) -> InvertedLatents:
    """DDIM inversion of ``clip`` without guidance (Tune-A-Video, section 3.3).

    Without ``tuned`` the model is inflated only. Raises WeightsError if ``tuned`` does not fit the model, and
    NonFiniteLatentsError.
    """
    schedule = model.host.schedule
    sigmas = inversion_sigmas(schedule.sigmas, inversion.steps, inversion.strength)
    latents = model.encode(clip.frames)
    with applied(model.host, tuned, strengths) as (mode, layers):
        denoiser = model.host.denoiser(model.embed(inversion.prompt), mode=mode, layers=layers)
        result = ddim_invert(
            denoiser,
            latents,
            sigmas.to(latents.device),
            callback=_counting(progress, len(sigmas) - 1),
            clean_sigma=float(schedule.sigmas[0]),
        )
    return InvertedLatents(result, float(sigmas[-1]), clip.fps, inversion.strength)


def sample(
    model: Model,
    inverted: InvertedLatents,
    tuned: TunedWeights | None,
    prompt: str,
    sampling: Sampling = Sampling(),
    strengths: Strengths = Strengths(),
    progress: Progress | None = None,
) -> Tensor:
    """DDIM from inverted latents under ``prompt``; frames (F, H, W, 3) in 0..1 on the CPU.

    Raises WeightsError if ``tuned`` does not fit the model, and NonFiniteLatentsError.
    """
    schedule, device = model.host.schedule, model.host.device
    sigmas = sampling_sigmas(schedule.sigmas, sampling.steps, inverted.strength)
    # Another step count starts at another level.
    start = inverted.latents.to(device) * level_scale(inverted.sigma, float(sigmas[0]))
    generator = torch.Generator().manual_seed(sampling.seed)
    with applied(model.host, tuned, strengths) as (mode, layers):
        denoiser = model.host.denoiser(
            model.embed(prompt), model.embed(sampling.negative), sampling.cfg, mode, layers
        )
        latents = ddim_sample(
            denoiser,
            start,
            sigmas.to(device),
            callback=_counting(progress, len(sigmas) - 1),
            clean_sigma=float(schedule.sigmas[0]),
            eta=sampling.eta,
            noise_sampler=lambda like: torch.randn(like.shape, generator=generator).to(like),
        )
    return model.decode(latents)


def _counting(progress: Progress | None, steps: int) -> Callable[[dict], object] | None:
    return None if progress is None else lambda state: progress(state["i"] + 1, steps)
