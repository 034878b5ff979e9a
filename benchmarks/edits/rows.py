"""The rows of the table: the method and what is left of it when a part is taken away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .companions import CONTROLNET, DREAMBOOTH

Start = Literal["inverted", "random", "shared", "image", "weak image", "source"]


@dataclass(frozen=True)
class Row:
    """One way to edit a clip.

    tuned: with weights tuned on the clip. sparse_causal, temporal: with these parts of the inflation (and tuned
    with them). inflated: False is the image model, one frame at a time. start: what sampling starts from; the
    inverted clip; noise, another one or the same one for every frame; the clip's frames under noise as strong as
    the inversion's or weaker; or "source" for no edit at all. controlled: a ControlNet with the source's masks holds
    inversion and sampling, not tuning. personalised: a DreamBooth checkpoint of the base inverts and samples, with
    weights tuned on the base; its edits put the sprite that only it knows in the place of the source's.
    """

    name: str
    title: str
    tuned: bool = True
    sparse_causal: bool = True
    temporal: bool = True
    inflated: bool = True
    start: Start = "inverted"
    controlled: bool = False
    personalised: bool = False

    @property
    def companion(self) -> str | None:
        """The kind of file that the row needs besides the checkpoint, if any."""
        if self.controlled:
            return CONTROLNET
        return DREAMBOOTH if self.personalised else None

    @property
    def trainable(self) -> str:
        """What its tuning learns."""
        return "queries + temporal" if self.temporal else "queries"


ROWS = {
    row.name: row
    for row in (
        Row("full", "this project"),
        Row("untuned", "without tuning", tuned=False),
        Row("per-frame-attention", "without sparse-causal attention", sparse_causal=False),
        Row("no-temporal", "without temporal attention", temporal=False),
        Row("random-noise", "without inversion, a noise per frame", start="random"),
        Row("shared-noise", "without inversion, one noise for all frames", start="shared"),
        Row("image", "each frame by itself, equal strength", tuned=False, inflated=False, start="image"),
        Row("weak-image", "each frame by itself, weaker", tuned=False, inflated=False, start="weak image"),
        Row("source", "the source, untouched", tuned=False, inflated=False, start="source"),
        Row("controlnet", "with ControlNet", controlled=True),
        Row("untuned-controlnet", "without tuning, with ControlNet", tuned=False, controlled=True),
        Row("dreambooth", "tuned on the base, drawn by a DreamBooth of it", personalised=True),
        Row("untuned-dreambooth", "without tuning, by a DreamBooth", tuned=False, personalised=True),
    )
}

DEFAULT = [name for name, row in ROWS.items() if row.companion is None]
"""What runs when no rows are named: those that need no file besides the checkpoint."""
