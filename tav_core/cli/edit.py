"""The command edit: tune (or reuse), invert, sample and write, for one clip or a list of them."""

import argparse
import re
from pathlib import Path

from torch import Tensor

from ..pipeline.edit import invert, sample
from ..pipeline.model import Model
from ..video.clip import write_clip
from ..video.grid import compare_frames
from . import options as shared
from .commands import load_tuned, tune_with
from .jobs import run_jobs
from .say import UsageError, say

EXAMPLES = """examples:
  python -m tav_core edit --model sd14 --video skiing.mp4 --prompt "a man is skiing" \\
      --edit "spider man is skiing" --edit "wonder woman is skiing" --out results
      tunes and inverts once, then writes results/1-spider-man-is-skiing.mp4 and so on, all of them with the source
      under captions in results/comparison.mp4, and results/tuned.safetensors.
  python -m tav_core edit ... --tuned skiing.safetensors
      takes tuned weights that are there already (--prompt is then not needed).
  accelerate launch -m tav_core edit --model sd14 --jobs jobs.jsonl
      many clips, one at a time on each GPU. A line of jobs.jsonl is one clip, with this command's options as keys:
      {"video": "skiing.mp4", "prompt": "a man is skiing", "edit": ["spider man is skiing"], "out": "results/skiing"}
      Options on the command line hold for every line. Give the same command again after a stop: finished
      clips are skipped, the others go on. Without accelerate the clips run one after the other."""
_COLUMNS = 4
_REQUIRED = ("video", "edit", "out")


def add_edit(parser: argparse.ArgumentParser) -> None:
    """Options of `run_edit`."""
    parser.add_argument("--prompt", help="one sentence that says what the clip shows")
    parser.add_argument("--edit", action="append", metavar="TEXT", help="what it shall show; may be repeated")
    parser.add_argument("--out", type=Path, help="the folder for the results")
    parser.add_argument("--tuned", type=Path, help="use these tuned weights instead of tuning")
    parser.add_argument(
        "--format", choices=["mp4", "png"], default="mp4", help="default: mp4; png: a folder each"
    )
    parser.add_argument("--jobs", type=Path, metavar="FILE", help="a JSON-lines file of clips")
    shared.add_model(parser)
    shared.add_clip(parser, required=False)
    shared.add_tuning(parser, steps="--tuning-steps")
    shared.add_inversion(parser)
    shared.add_sampling(parser)
    shared.add_strengths(parser)
    shared.add_quiet(parser)


def run_edit(options: argparse.Namespace) -> None:
    """Edits one clip, or all of --jobs."""
    if options.jobs is not None:
        run_jobs(options, _parser, check, edit_with)
        return
    check(options)
    edit_with(shared.model_of(options), options)


def check(options: argparse.Namespace) -> None:
    """Raises UsageError unless everything that one clip needs is given."""
    missing = [f"--{name}" for name in _REQUIRED if not vars(options)[name]]
    if not options.prompt and options.tuned is None:
        missing.append("--prompt (or --tuned)")
    if missing:
        raise UsageError(f"python -m tav_core edit: needs {', '.join(missing)}; see --help")


def edit_with(model: Model, options: argparse.Namespace) -> None:
    """Edits one clip on a loaded model."""
    clip = shared.clip_of(options)
    weights = load_tuned(model, options.tuned)
    if weights is None:
        weights = tune_with(model, clip, options, options.out / "tuned.safetensors")
    strengths, sampling = shared.strengths_of(options), shared.sampling_of(options)
    inversion = shared.inversion_of(options, sampling.steps)
    noise = invert(model, clip, weights, inversion, strengths, options.quiet)
    suffix = ".mp4" if options.format == "mp4" else ""
    videos = [(options.prompt or weights.metadata.prompt or "source", clip.frames)]
    for number, prompt in enumerate(options.edit, 1):
        frames = sample(model, noise, weights, prompt, sampling, strengths, options.quiet)
        _write(options.out / f"{number}-{_slug(prompt)}{suffix}", frames, clip.fps)
        videos.append((prompt, frames))
    _write(
        options.out / f"comparison{suffix}",
        compare_frames(videos, columns=min(len(videos), _COLUMNS)),
        clip.fps,
    )


def _write(path: Path, frames: Tensor, fps: float) -> None:
    write_clip(path, frames, fps)
    say(f"wrote {path}")


def _parser() -> argparse.ArgumentParser:
    parser = shared.Parser(prog="edit", add_help=False)
    add_edit(parser)
    return parser


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-")[:40] or "edit"
