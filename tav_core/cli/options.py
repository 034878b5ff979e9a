"""Options that several commands share."""

import argparse
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ..diffusion.settings import Inversion, Sampling, Strengths
from ..inflation.mode import InflationMode
from ..pipeline.model import DTYPES, Model, load_model
from ..settings import Setting, Settings, settings_of
from ..tuning.settings import RunSettings, TuningSettings
from ..video.clip import Clip, read_clip
from ..video.settings import FrameSelection
from .say import UsageError

Owner = TypeVar("Owner", bound=Settings)

# The options that are not called as the setting is.
_CLIP = {"frame_count": "frames", "start_frame": "start"}
_TUNING = {"steps": "tuning_steps", "seed": "tuning_seed"}
_INVERSION = {"prompt": "inversion_prompt"}
_SAMPLING = {"steps": "sampling_steps"}


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
    known = settings_of(FrameSelection)
    # Tuning needs at least two frames.
    known["frame_count"] = replace(known["frame_count"], minimum=2)
    for name in ("frame_count", "start_frame", "frame_stride", "fit"):
        _add(group, known[name], _CLIP.get(name))
    size = known["width"].default, known["height"].default
    group.add_argument(
        "--size",
        type=_size,
        default=size,
        metavar="WxH",
        help=f"pixels, multiples of 8 (default: {size[0]}x{size[1]})",
    )


def add_tuning(parser: argparse.ArgumentParser, steps: str = "--steps") -> None:
    """How to tune. ``steps`` names the option for the number of steps."""
    group = parser.add_argument_group(
        "tuning (the paper's: --timesteps random --temporal-lr-scale 1 and 500 steps)"
    )
    _add_all(group, TuningSettings, _TUNING, {"steps": steps})
    _add_all(group, InflationMode)
    _add_all(group, RunSettings)


def add_strengths(parser: argparse.ArgumentParser) -> None:
    """How much of the tuned weights counts."""
    _add_all(parser.add_argument_group("strengths"), Strengths)


def add_inversion(parser: argparse.ArgumentParser, steps: bool = False) -> None:
    """How to invert; the number of steps, too, if ``steps``."""
    group = parser.add_argument_group("inversion")
    for name, known in settings_of(Inversion).items():
        if steps or name != "steps":
            _add(group, known, _INVERSION.get(name))


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """How to sample. The number of steps is that of the inversion, too, where both run."""
    _add_all(parser.add_argument_group("sampling"), Sampling, _SAMPLING)


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
    return (
        _given(options, TuningSettings, _TUNING),
        _given(options, InflationMode),
        _given(options, RunSettings),
    )


def strengths_of(options: argparse.Namespace) -> Strengths:
    """The strengths that the options ask for."""
    return _given(options, Strengths)


def inversion_of(options: argparse.Namespace, steps: int) -> Inversion:
    """The inversion that the options ask for."""
    return _given(argparse.Namespace(**vars(options) | {"steps": steps}), Inversion, _INVERSION)


def sampling_of(options: argparse.Namespace) -> Sampling:
    """The sampling that the options ask for."""
    return _given(options, Sampling, _SAMPLING)


def _add_all(
    group: argparse._ArgumentGroup,
    owner: type[Settings],
    names: Mapping[str, str] = {},
    flags: Mapping[str, str] = {},
) -> None:
    for name, known in settings_of(owner).items():
        _add(group, known, names.get(name), flags.get(name))


def _add(
    group: argparse._ArgumentGroup, known: Setting, name: str | None = None, flag: str | None = None
) -> None:
    """An option for a setting, under another ``name`` than its own or another ``flag`` than its name."""
    name = name or known.name
    flag = flag or "--" + name.replace("_", "-")
    text = known.help.replace("%", "%%")
    if known.default is True:
        flag = flag.replace("--", "--no-", 1)
        group.add_argument(flag, dest=name, action="store_false", help=f"switches off: {text}")
        return
    shown = f"{known.default:g}" if isinstance(known.default, float) else known.default
    offered: dict[str, Any] = {
        "default": known.default,
        "help": f"{text} (default: {'empty' if shown == '' else shown})",
    }
    if known.choices:
        offered["choices"] = known.choices
    elif not isinstance(known.default, str):
        offered |= {"type": _number(known), "metavar": "N" if isinstance(known.default, int) else "X"}
    group.add_argument(flag, dest=name, **offered)


def _number(known: Setting) -> Callable[[str], float]:
    """The type of an option for a number."""
    kind = type(known.default)

    def number(text: str) -> float:
        try:
            value: float = kind(text)
        except ValueError:
            value = math.nan
        if known.problem(value):
            whole = "whole " if kind is int else ""
            limits = f"from {known.minimum} to {known.maximum}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a {whole}number {limits}")
        return value

    return number


def _given(options: argparse.Namespace, owner: type[Owner], names: Mapping[str, str] = {}) -> Owner:
    return owner(**{name: getattr(options, names.get(name, name)) for name in settings_of(owner)})


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text, re.ASCII)
    sides = tuple(int(side) for side in match.groups()) if match else (0, 0)
    if not all(sides) or any(side % 8 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 512x512, in multiples of 8")
    return sides[0], sides[1]
