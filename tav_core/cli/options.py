"""Options that several commands share."""

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ..diffusion.settings import Inversion, Sampling, Strengths
from ..inflation.attach import InflationMode
from ..inflation.attention import ATTENTION_MODES
from ..inflation.group_norm import NORM_MODES
from ..pipeline.model import DTYPES, Model, load_model
from ..tuning.lr_scheduler import LR_SCHEDULERS
from ..tuning.settings import CHECKPOINTING_MODES, TRAINABLE_SETS, RunSettings, TuningSettings
from ..tuning.timesteps import TIMESTEP_SAMPLINGS
from ..video.clip import Clip, read_clip
from ..video.fit import FITS
from .say import UsageError


class Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse would end the process, and keeps the examples' lines as they are."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs["allow_abbrev"] = False
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Called by argparse for a wrong command line."""
        raise UsageError(f"{self.prog}: {message}; see {self.prog} --help")


def add_model(parser: argparse.ArgumentParser, required: bool = True, placed: bool = True) -> None:
    """--model and how to load it; where it runs, too, if ``placed``."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", type=Path, required=required, help="diffusers folder, or a checkpoint (.safetensors)"
    )
    group.add_argument(
        "--config",
        type=Path,
        help="for a single file: a diffusers folder of the same kind, for its small files",
    )
    group.add_argument("--vae", type=Path, help="folder with another VAE")
    if not placed:
        return
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    group.add_argument(
        "--dtype",
        choices=["auto", *DTYPES],
        default="auto",
        help="auto: bf16 or fp16 on a GPU, fp32 on the CPU",
    )


def add_clip(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """--video and which frames of it."""
    group = parser.add_argument_group("clip")
    group.add_argument("--video", type=Path, required=required, help="the clip")
    group.add_argument("--frames", type=at_least(2), default=24, help="how many frames (default: 24)")
    group.add_argument("--start", type=at_least(0), default=0, help="the first frame, from 0")
    group.add_argument("--frame-stride", type=at_least(1), default=1, help="take every n-th frame")
    group.add_argument(
        "--size",
        type=_size,
        default=(512, 512),
        metavar="WxH",
        help="pixels, multiples of 8 (default: 512x512)",
    )
    group.add_argument("--fit", choices=FITS, default="crop", help="how to fill the size (default: crop)")


def add_tuning(parser: argparse.ArgumentParser, steps: str = "--steps") -> None:
    """How to tune. ``steps`` names the option for the number of steps."""
    defaults, mode = TuningSettings(), InflationMode()
    group = parser.add_argument_group(
        "tuning (the paper's: --timesteps random --temporal-lr-scale 1 and 500 steps)"
    )
    group.add_argument(
        steps,
        dest="tuning_steps",
        type=at_least(1),
        default=defaults.steps,
        help=f"default: {defaults.steps}",
    )
    group.add_argument(
        "--learning-rate", type=_positive, default=defaults.learning_rate, help="default: 3e-5"
    )
    group.add_argument("--trainable", choices=TRAINABLE_SETS, default=defaults.trainable, help="what learns")
    group.add_argument(
        "--query-rank",
        type=at_least(0),
        default=0,
        help="0: full query matrices; 4 to 64: low rank, small files",
    )
    group.add_argument(
        "--lr-scheduler", choices=LR_SCHEDULERS, default=defaults.lr_scheduler, help="of the learning rate"
    )
    group.add_argument(
        "--lr-warmup-steps", type=at_least(0), default=0, help="rise of the learning rate from zero"
    )
    group.add_argument("--weight-decay", type=_not_negative, default=defaults.weight_decay)
    group.add_argument(
        "--max-grad-norm",
        type=_positive,
        default=defaults.max_grad_norm,
        help="longer gradients are shortened to it",
    )
    group.add_argument("--min-snr-gamma", type=_not_negative, default=0.0, help="0: off; 5 is usual")
    group.add_argument(
        "--gradient-accumulation-steps", type=at_least(1), default=1, help="noise draws per step"
    )
    group.add_argument(
        "--frames-per-step",
        type=at_least(0),
        default=0,
        help="for long clips: learn from so many consecutive frames at a time; 0: from all",
    )
    group.add_argument(
        "--timesteps",
        choices=TIMESTEP_SAMPLINGS,
        default=defaults.timesteps,
        help=f"how noise levels are drawn (default: {defaults.timesteps})",
    )
    group.add_argument(
        "--temporal-lr-scale",
        type=_positive,
        default=defaults.temporal_lr_scale,
        help=f"factor on the rate of the temporal layers (default: {defaults.temporal_lr_scale:g})",
    )
    group.add_argument(
        "--gradient-checkpointing",
        choices=CHECKPOINTING_MODES,
        default="all",
        help="all: least memory; none: fastest; same result",
    )
    group.add_argument(
        "--attention", choices=ATTENTION_MODES, default=mode.attention, help="which frames a frame looks at"
    )
    group.add_argument(
        "--norm", choices=NORM_MODES, default=mode.norm, help="group norms over the clip or each frame"
    )
    group.add_argument(
        "--tuning-seed", type=at_least(0), default=0, help="same seed and inputs, same weights"
    )
    group.add_argument(
        "--save-every", type=at_least(0), default=100, help="0: only at the end and when stopped"
    )
    group.add_argument("--no-resume", action="store_true", help="start over instead of going on")


def add_strengths(parser: argparse.ArgumentParser) -> None:
    """How much of the tuned weights counts."""
    group = parser.add_argument_group("strengths, -2 to 2")
    group.add_argument("--query-strength", type=_strength, default=1.0)
    group.add_argument("--temporal-strength", type=_strength, default=1.0)


def add_inversion(parser: argparse.ArgumentParser) -> None:
    """How to invert, besides the number of steps."""
    group = parser.add_argument_group("inversion")
    group.add_argument(
        "--strength",
        type=_fraction,
        default=1.0,
        help="how far to go towards noise: 1 all the way (default), 0.5 to 0.8 holds the clip's motion more tightly",
    )
    group.add_argument(
        "--inversion-prompt", default="", help="the sentence to invert under; empty as in the paper (default)"
    )


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """How to sample."""
    defaults = Sampling()
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--sampling-steps", type=at_least(1), default=defaults.steps, help="of inversion too where both run"
    )
    group.add_argument("--cfg", type=_not_negative, default=defaults.cfg, help="guidance (default: 12.5)")
    group.add_argument("--negative", default=defaults.negative, help="what to avoid")
    group.add_argument("--eta", type=_fraction, default=0.0, help="fresh noise, 0 to 1 (default: 0)")
    group.add_argument("--seed", type=at_least(0), default=0, help="only matters with --eta")


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """--quiet."""
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def model_of(options: argparse.Namespace) -> Model:
    """The model that the options name."""
    return load_model(options.model, options.config, options.vae, options.device, options.dtype)


def clip_of(options: argparse.Namespace) -> Clip:
    """The clip that the options name."""
    return read_clip(
        options.video, options.frames, options.size, options.start, options.frame_stride, options.fit
    )


def tuning_of(options: argparse.Namespace) -> tuple[TuningSettings, InflationMode, RunSettings]:
    """The tuning that the options ask for."""
    settings = TuningSettings(
        steps=options.tuning_steps,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        max_grad_norm=options.max_grad_norm,
        lr_scheduler=options.lr_scheduler,
        lr_warmup_steps=options.lr_warmup_steps,
        min_snr_gamma=options.min_snr_gamma,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        trainable=options.trainable,
        query_rank=options.query_rank,
        gradient_checkpointing=options.gradient_checkpointing,
        frames_per_step=options.frames_per_step,
        timesteps=options.timesteps,
        temporal_lr_scale=options.temporal_lr_scale,
        seed=options.tuning_seed,
    )
    saving = RunSettings(options.save_every, not options.no_resume)
    return settings, InflationMode(options.attention, options.norm), saving


def strengths_of(options: argparse.Namespace) -> Strengths:
    """The strengths that the options ask for."""
    return Strengths(options.query_strength, options.temporal_strength)


def inversion_of(options: argparse.Namespace, steps: int) -> Inversion:
    """The inversion that the options ask for."""
    return Inversion(steps, options.strength, options.inversion_prompt)


def sampling_of(options: argparse.Namespace) -> Sampling:
    """The sampling that the options ask for."""
    return Sampling(options.sampling_steps, options.cfg, options.seed, options.eta, options.negative)


def at_least(least: int) -> Callable[[str], int]:
    """An option's type: a whole number from ``least`` on."""

    def whole_number(text: str) -> int:
        if not re.fullmatch(r"\d{1,19}", text, re.ASCII) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
        return int(text)

    return whole_number


def _number(low: float, high: float, with_low: bool = True) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or not math.isfinite(value) or (value == low and not with_low):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number in range")
        return value

    return number


_positive = _number(0.0, math.inf, with_low=False)
_not_negative = _number(0.0, math.inf)
_strength = _number(-2.0, 2.0)
_fraction = _number(0.0, 1.0)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text, re.ASCII)
    sides = tuple(int(side) for side in match.groups()) if match else (0, 0)
    if not all(sides) or any(side % 8 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 512x512, in multiples of 8")
    return sides[0], sides[1]
