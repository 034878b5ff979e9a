"""How a model is inflated: which frames a frame looks at, and what the group norms run over."""

from dataclasses import dataclass
from typing import Literal, get_args

from ..settings import Settings, setting

AttentionMode = Literal["first+previous", "first", "previous", "all", "off"]
ATTENTION_MODES: tuple[str, ...] = get_args(AttentionMode)
NormMode = Literal["joint", "per frame"]
NORM_MODES: tuple[str, ...] = get_args(NormMode)


@dataclass(frozen=True)
class InflationMode(Settings):
    """How an image model is inflated: sparse-causal ``attention`` and group ``norm`` over frames."""

    attention: AttentionMode = setting(
        "first+previous",
        "Which frames each frame attends to. first+previous is the paper's; all is steadier and needs far more "
        "memory; off attends to the frame itself only.",
        choices=ATTENTION_MODES,
    )
    norm: NormMode = setting(
        "joint",
        "joint: group norm statistics over all frames, as in the official code. per frame: as in the image model.",
        choices=NORM_MODES,
    )
