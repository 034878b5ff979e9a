"""Parts that the example workflows share, column by column."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tav_core.settings import defaults_of
from tav_core.tuning.settings import TuningSettings

from ..world.settings import TUNING
from .graph import BLUE, GOLD, GREEN, GREY, PURPLE, Graph, Node, Socket
from .kinds import CHECKPOINT, MASK_CLIP

SOURCE = "a rabbit on the grass"
SOURCE_PROMPT, EDIT_PROMPT, EMPTY = "Source prompt", "Edit prompt", "Empty prompt"

_CHANGED = ", ".join(
    f"{name} {np.format_float_positional(default, trim='-')}"
    for name, default in defaults_of(TuningSettings).items()
    if default != getattr(TUNING, name)
)
FULL = (
    "The numbers here suit the small demo checkpoint. **For Stable Diffusion 1.5**: 512 x 512, 8 to 24 frames, "
    f"{_CHANGED} in tuning, 50 steps for inversion and sampling, strength 0.8 to 1, cfg 7 to 12.5."
)


class Loaded(NamedTuple):
    """What the first column gives."""

    model: Socket
    clip: Socket
    vae: Socket
    video: Node


class Prepared(NamedTuple):
    """What the second column gives."""

    source: Socket
    empty: Socket
    edits: list[Socket]
    latent: Socket
    model: Socket


def model_and_video(
    graph: Graph, note: str, clip: dict[str, object] | None = None, checkpoint: str = CHECKPOINT
) -> Loaded:
    """Column 1: the note, a checkpoint, the clip (what its loader has other than by default)."""
    graph.column("1  Model and video", BLUE)
    graph.note(note)
    loader = graph.add("CheckpointLoaderSimple", inputs={"ckpt_name": checkpoint})
    video = graph.add("TAVLoadVideo", inputs=clip)
    return Loaded(loader["MODEL"], loader["CLIP"], loader["VAE"], video)


def words_and_frames(graph: Graph, loaded: Loaded, edits: dict[str, str]) -> Prepared:
    """Column 2: the prompts (edits as {title: text}), the encoded clip, the inflated model."""
    graph.column("2  Prompts and frames", GREEN)
    source = graph.text(SOURCE_PROMPT, loaded.clip, SOURCE)
    edited = [graph.text(title, loaded.clip, text) for title, text in edits.items()]
    empty = graph.text(EMPTY, loaded.clip, "", negative=True)
    latent = encode(graph, loaded)
    return Prepared(source, empty, edited, latent, inflate(graph, loaded.model))


def inflate(graph: Graph, model: Socket) -> Socket:
    """Inflate Model."""
    return graph.add("TAVInflateModel", inputs={"model": model})["MODEL"]


def encode(graph: Graph, loaded: Loaded) -> Socket:
    """The clip's latents."""
    return graph.add("VAEEncode", inputs={"pixels": loaded.video["frames"], "vae": loaded.vae})["LATENT"]


def tune(graph: Graph, prepared: Prepared, prefix: str, settings: dict[str, object] | None = None) -> Node:
    """Start column 3 with Tune on One Video."""
    graph.column("3  Tune and invert", GOLD)
    inputs = {"model": prepared.model, "latent": prepared.latent, "positive": prepared.source}
    return graph.add("TAVTune", inputs=inputs | {"filename_prefix": prefix} | (settings or {}))


def invert(
    graph: Graph, model: Socket, latent: Socket, conditioning: Socket, trajectory: bool = False
) -> Socket:
    """DDIM Inversion; `trajectory` is what a mask needs."""
    inputs = {"model": model, "conditioning": conditioning, "latent": latent, "keep_trajectory": trajectory}
    return graph.add("TAVDDIMInversion", inputs=inputs)["LATENT"]


def sampling_column(graph: Graph) -> None:
    """Start column 4."""
    graph.column("4  Sample the edit", PURPLE)


def draw(
    graph: Graph, loaded: Loaded, model: Socket, pair: tuple[Socket, Socket], noise: Socket, **inputs: object
) -> Socket:
    """Sample Edited Video under the prompts `pair` (positive, negative) and VAE Decode: the edited frames."""
    title = inputs.pop("title", None)
    links = {"model": model, "positive": pair[0], "negative": pair[1], "latent": noise}
    sampled = graph.add("TAVSample", title, links | inputs)["LATENT"]
    return graph.add("VAEDecode", inputs={"samples": sampled, "vae": loaded.vae})["IMAGE"]


def compare(graph: Graph, loaded: Loaded, edited: dict[str, Socket], source: str = SOURCE) -> Socket:
    """A contact sheet of the source and the edits, as {caption: frames}."""
    videos = {f"edited.edited_{number}": frames for number, frames in enumerate(edited.values(), 1)}
    captions = "\n".join((source, *edited))
    inputs = {"source": loaded.video["frames"], **videos, "captions": captions}
    return graph.add("TAVCompareVideos", inputs=inputs)["comparison"]


def video_of(graph: Graph, loaded: Loaded, frames: Socket) -> Socket:
    """The frames as a VIDEO at the clip's pace."""
    return graph.add("CreateVideo", inputs={"images": frames, "fps": loaded.video["fps"]})["VIDEO"]


def results(graph: Graph, video: Socket, sheet: Socket) -> None:
    """Column 5: the edited video and the contact sheet, saved."""
    graph.column("5  Results", GREY)
    graph.add("SaveVideo", inputs={"video": video, "filename_prefix": f"tune_a_video/{graph.name}"})
    graph.add("SaveImage", inputs={"images": sheet, "filename_prefix": f"tune_a_video/{graph.name}-sheet"})


def draw_and_save(
    graph: Graph,
    loaded: Loaded,
    caption: str,
    model: Socket,
    pair: tuple[Socket, Socket],
    noise: Socket,
    **inputs: object,
) -> None:
    """The rest of column 4 and column 5: one edit is drawn, compared with the source under `caption`, and saved."""
    frames = draw(graph, loaded, model, pair, noise, **inputs)
    video = video_of(graph, loaded, frames)
    results(graph, video, compare(graph, loaded, {caption: frames}))


def sample_and_save(graph: Graph, *arguments: object, **inputs: object) -> None:
    """Columns 4 and 5 of one edit: see `draw_and_save`."""
    sampling_column(graph)
    draw_and_save(graph, *arguments, **inputs)


def subject_frames(graph: Graph, title: str) -> Socket:
    """The white silhouettes of the sample clip's sprite."""
    return graph.add("TAVLoadVideo", title, {"video": MASK_CLIP})["frames"]


def subject_mask(graph: Graph, silhouettes: Socket, expand: int) -> Socket:
    """The silhouettes as a MASK, grown by `expand` pixels."""
    mask = graph.add("ImageToMask", inputs={"image": silhouettes})["MASK"]
    return graph.add("GrowMask", inputs={"mask": mask, "expand": expand})["MASK"]
