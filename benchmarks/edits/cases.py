"""What is edited into what: cases files.

A cases file is JSON: ``name``, ``settings`` (see `Settings`; what is left out keeps its default) and ``sources``.
A source says what the script draws (``id``, ``sprite``, ``background``, ``style``, ``trajectory``, ``start``,
``end``, ``size``, ``end_size``, ``seed`` and perhaps ``second``, another sprite with a way of its own) and has
``edits``: a ``prompt`` each and its ``kind``: object, background, style or several.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from devkit.world.clips import TRAJECTORIES, Actor, ClipPlan, inside, render_clip
from devkit.world.settings import CLIP, INVERSION, SAMPLING, TUNING
from devkit.world.vocabulary import BACKGROUNDS, NEW_WORD, OBJECTS, STYLES, Meaning, caption, parse_caption
from tav_core.diffusion.settings import Inversion, Sampling
from tav_core.inflation.mode import InflationMode
from tav_core.settings import settings_of
from tav_core.tuning.settings import TuningSettings

KINDS = ("object", "background", "style", "several")
SHIPPED = Path(__file__).parent / "cases.json"
DEVELOPMENT = Path(__file__).parent / "cases-dev.json"


class CasesError(ValueError):
    """A cases file is not sound; the message says where."""


@dataclass(frozen=True)
class Settings:
    """How every case of a file is run.

    frames: length of the clips. tuning: besides seed and trainable, which seeds and rows choose. steps: of inversion
    and of sampling. inversion_prompt: the clip is inverted under the "source" sentence or the "empty" one. strength:
    how much of the way to noise it goes, 0..1. cfg: of sampling an edit; the reconstruction has none.
    image_strength: of the weaker of the two image-to-image rows. control_strength: of the ControlNet, 0..2. seeds:
    every case is run once with each, for tuning and noise.
    """

    frames: int = CLIP.frame_count
    tuning: TuningSettings = replace(TUNING, gradient_checkpointing="none")
    attention: str = InflationMode().attention
    norm: str = InflationMode().norm
    steps: int = INVERSION.steps
    inversion_prompt: str = "empty"
    strength: float = INVERSION.strength
    cfg: float = SAMPLING.cfg
    image_strength: float = 0.3
    control_strength: float = 1.0
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        InflationMode(self.attention, self.norm)
        Inversion(self.steps, self.strength)
        Sampling(self.steps, self.cfg)
        if self.frames < 1:
            raise ValueError("frames must be at least 1")
        if self.inversion_prompt not in ("source", "empty"):
            raise ValueError("inversion_prompt must be source or empty")
        if not 0 < self.image_strength <= 1:
            raise ValueError("image_strength must be above 0 and at most 1")
        if not 0 <= self.control_strength <= 2:
            raise ValueError("control_strength must be from 0 to 2")


@dataclass(frozen=True)
class Edit:
    """What a clip shall become."""

    prompt: str
    kind: str

    @property
    def meaning(self) -> Meaning:
        """What the prompt asks for."""
        return parse_caption(self.prompt)


@dataclass(frozen=True)
class Source:
    """A clip of the closed world and its edits. `actors` holds one or two sprites."""

    id: str
    actors: tuple[Actor, ...]
    background: str
    style: str = "plain"
    seed: int = 0
    edits: tuple[Edit, ...] = field(default=())

    @property
    def prompt(self) -> str:
        """The sentence that the clip is tuned with."""
        return self.plan(1).caption

    @property
    def meaning(self) -> Meaning:
        """What the clip shows."""
        return Meaning(tuple(actor.name for actor in self.actors), self.background, self.style)

    @property
    def personal_edits(self) -> tuple[Edit, ...]:
        """The newcomer in the sprite's place, for a DreamBooth checkpoint; none for a clip of two sprites."""
        if len(self.actors) > 1:
            return ()
        return (Edit(caption((NEW_WORD,), self.background, self.style), "object"),)

    def plan(self, frames: int) -> ClipPlan:
        """What the script draws."""
        return ClipPlan(self.actors, self.background, self.style, frames, self.seed)


@dataclass(frozen=True)
class Cases:
    """A cases file."""

    name: str
    settings: Settings
    sources: tuple[Source, ...]


def load_cases(path: Path, changes: Mapping[str, Any] | None = None) -> Cases:
    """Read a cases file; ``changes`` replace some of its settings, "tuning.steps" that of tuning.

    Raises CasesError, naming the place, if it is no sound cases file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CasesError(f"{path}: {error}") from error
    try:
        _only(content, {"name", "settings", "sources"}, "the file")
        settings = _settings(content.get("settings", {}), changes or {})
        sources = tuple(_source(entry, settings.frames) for entry in content["sources"])
        if len({source.id for source in sources}) < len(sources):
            raise CasesError("two sources have the same id")
        return Cases(str(content.get("name") or path.stem), settings, sources)
    except KeyError as error:
        raise CasesError(f"{path}: {error.args[0]!r} is missing") from error
    except (TypeError, ValueError) as error:
        raise CasesError(f"{path}: {error}") from error


def kind_of(source: Meaning, edit: Meaning) -> str:
    """The kind of an edit by what it changes. Raises CasesError if that is nothing."""
    changed = [
        name
        for name, before, after in zip(("object", "background", "style"), source, edit, strict=True)
        if before != after
    ]
    if not changed:
        raise CasesError("an edit must change something")
    return changed[0] if len(changed) == 1 else "several"


def _settings(entry: Mapping[str, Any], changes: Mapping[str, Any]) -> Settings:
    own = {name: value for name, value in changes.items() if "." not in name}
    values, tuning = {**entry, **own}, dict(entry.get("tuning", {}))
    tuning |= {name.partition(".")[2]: value for name, value in changes.items() if "." in name}
    _only(values, {f.name for f in dataclasses.fields(Settings)}, "the settings")
    _only(tuning, set(settings_of(TuningSettings)), "tuning")
    if "seeds" in values:
        values["seeds"] = tuple(int(seed) for seed in values["seeds"])
    return Settings(**{**values, "tuning": replace(Settings.tuning, **tuning)})


def _source(entry: Mapping[str, Any], frames: int) -> Source:
    name = entry["id"]
    own = {"id", "background", "style", "seed", "edits", "second"}
    _only(entry, own | _ACTOR, f"source {name}")
    second = entry.get("second")
    if second is not None:
        _only(second, _ACTOR, f"the second sprite of {name}")
    actors = (_actor(entry, name), *([] if second is None else [_actor(second, name)]))
    _known(entry["background"], BACKGROUNDS, name)
    _known(entry.get("style", "plain"), STYLES, name)
    source = Source(name, actors, entry["background"], entry.get("style", "plain"), int(entry.get("seed", 0)))
    if not inside(render_clip(source.plan(frames))):
        raise CasesError(f"source {name}: a sprite leaves the picture; correct start, end or size")
    edits = tuple(_edit(edit, source) for edit in entry["edits"])
    return replace(source, edits=edits)


_ACTOR = {"sprite", "trajectory", "start", "end", "size", "end_size"}


def _actor(entry: Mapping[str, Any], where: str) -> Actor:
    _known(entry["sprite"], OBJECTS, where)
    trajectory = entry.get("trajectory", "straight")
    _known(trajectory, TRAJECTORIES, where)
    start, end = (tuple(float(value) for value in entry[name]) for name in ("start", "end"))
    if len(start) != 2 or len(end) != 2:
        raise CasesError(f"source {where}: start and end are two numbers, x and y")
    end_size = entry.get("end_size")
    return Actor(
        entry["sprite"],
        start,
        end,
        float(entry.get("size", 56)),
        trajectory,
        None if end_size is None else float(end_size),
    )


def _edit(entry: Mapping[str, Any], source: Source) -> Edit:
    _only(entry, {"prompt", "kind"}, f"an edit of {source.id}")
    edit = Edit(entry["prompt"], entry["kind"])
    meaning = edit.meaning
    for name in meaning.objects:
        _known(name, OBJECTS, source.id)
    _known(meaning.style, STYLES, source.id)
    if len(meaning.objects) != len(source.actors):
        raise CasesError(f"source {source.id}: {edit.prompt!r} has another number of objects than the clip")
    kind = kind_of(source.meaning, meaning)
    if edit.kind != kind:
        raise CasesError(f"source {source.id}: {edit.prompt!r} is of kind {kind!r}, not {edit.kind!r}")
    return edit


def _only(entry: object, names: set[str], where: str) -> None:
    if not isinstance(entry, Mapping):
        raise CasesError(f"{where} must be an object")
    unknown = sorted(set(entry) - names)
    if unknown:
        raise CasesError(f"{where} has the unknown entry {unknown[0]!r}; known: {', '.join(sorted(names))}")


def _known(value: str, names: tuple[str, ...], where: str) -> None:
    if value not in names:
        raise CasesError(f"source {where}: unknown {value!r}; known: {', '.join(names)}")
