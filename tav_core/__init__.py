"""Tune-A-Video (arXiv 2212.11565) in plain torch, independent of any host application.

The steps of an edit, each a function of this module::

    load_model   a checkpoint: a diffusers folder, or a single file              -> Model
    read_clip    some frames of a video                                          -> Clip
    tune         the model on the clip; writes a small file of tuned weights     -> TunedWeights
    load_tuned   such a file, instead of tuning                                  -> TunedWeights
    invert       the clip to the noise that sampling starts from                 -> InvertedLatents
    sample       from there under another prompt                                 -> frames (F, H, W, 3) in 0..1
    save_video   frames as mp4 or PNG

Frozen dataclasses say how they work: `TuningSettings`, `InflationMode`, `RunSettings`, `Inversion`, `Sampling`,
`Strengths`. Progress goes to a function that the caller gives. Errors are ModelError, VideoError, WeightsError,
NonFiniteLatentsError (ValueErrors), NonFiniteLossError (an ArithmeticError), OSError and MemoryError. Warnings go to
`logging`, under the name of the module; nothing is printed, and nothing is downloaded.

Everything is imported when it is first used, so that ``import tav_core`` costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import *  # noqa: F403

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "api" or name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import api

    return getattr(api, name)


def __dir__() -> list[str]:
    from . import api

    return [*globals(), *api.__all__]
