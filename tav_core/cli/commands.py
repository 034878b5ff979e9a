"""The commands tune, invert, sample and edit: their options, and the library's functions called with them."""

import argparse
import re
from pathlib import Path

from torch import Tensor

from ..files.weights import TunedWeights
from ..pipeline.edit import InvertedLatents, invert, load_tuned, sample, tune
from ..pipeline.model import Model
from ..video.clip import Clip
from ..video.grid import compare_frames
from ..video.sound import Sound
from ..video.write import save_video
from . import options as shared
from .jobs import run_jobs
from .say import Bar, UsageError, say

TUNE_EXAMPLES = """examples:
  python -m tav_core tune --model sd14 --video skiing.mp4 --prompt "a man is skiing" --out skiing.safetensors
  Stop it with Ctrl+C and give the same command again: it goes on where it was, with the same result.
  Too little memory: --dtype bf16, fewer --frames, a smaller --size. Faster: --gradient-checkpointing none.
  The file is the one that the ComfyUI nodes load: copy it to models/tune_a_video."""
INVERT_EXAMPLES = """examples:
  python -m tav_core invert --model sd14 --tuned skiing.safetensors --video skiing.mp4 --out noise.safetensors
  Use the frames, size and model of the tuning, and the same step count here and in sample."""
SAMPLE_EXAMPLES = """examples:
  python -m tav_core sample --model sd14 --tuned skiing.safetensors --noise noise.safetensors \\
      --prompt "spider man is skiing" --out spider.mp4
  A name without .mp4 is a folder for PNG frames. Motion too weak: lower --cfg; edit too weak: raise it."""
EDIT_EXAMPLES = """examples:
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


def add_tune(parser: argparse.ArgumentParser) -> None:
    """Options of `run_tune`."""
    parser.add_argument("--prompt", required=True, help="the source prompt, which describes the clip")
    parser.add_argument("--out", type=Path, required=True, help="the tuned-weights file (.safetensors)")
    shared.add_model(parser)
    shared.add_clip(parser)
    shared.add_tuning(parser)
    shared.add_quiet(parser)


def run_tune(options: argparse.Namespace) -> None:
    """Tunes on one clip."""
    clip = shared.clip_of(options)
    weights = _tune(shared.model_of(options), clip, options, options.out)
    if TunedWeights.peek(options.out)[0] != weights.metadata:
        # The disk refused at the end, which was a warning.
        weights.save(options.out)
    say(f"wrote {options.out}")


def _tune(model: Model, clip: Clip, options: argparse.Namespace, out: Path) -> TunedWeights:
    settings, mode, saving = shared.tuning_of(options)
    with Bar("tune", options.quiet) as bar:
        return tune(
            model,
            clip,
            options.prompt,
            out,
            settings,
            mode,
            saving,
            on_step=lambda step: bar(step.step, settings.steps, f"loss={step.loss:.4f}"),
        )


def add_invert(parser: argparse.ArgumentParser) -> None:
    """Options of `run_invert`."""
    _add_tuned(parser)
    parser.add_argument(
        "--out", type=Path, required=True, help="the file for the inverted latents (.safetensors)"
    )
    shared.add_model(parser)
    shared.add_clip(parser)
    shared.add_inversion(parser, steps=True)
    shared.add_strengths(parser)
    shared.add_quiet(parser)


def run_invert(options: argparse.Namespace) -> None:
    """Inverts a clip to the noise that sampling starts from."""
    clip = shared.clip_of(options)
    model = shared.model_of(options)
    _invert(model, clip, load_tuned(options.tuned, model), options, options.steps).save(options.out)
    say(f"wrote {options.out}")


def _invert(
    model: Model, clip: Clip, tuned: TunedWeights | None, options: argparse.Namespace, steps: int
) -> InvertedLatents:
    inversion, strengths = shared.inversion_of(options, steps), shared.strengths_of(options)
    with Bar("invert", options.quiet) as bar:
        return invert(model, clip, tuned, inversion, strengths, bar)


def add_sample(parser: argparse.ArgumentParser) -> None:
    """Options of `run_sample`."""
    _add_tuned(parser)
    parser.add_argument("--noise", type=Path, required=True, help="from the command invert")
    parser.add_argument("--prompt", required=True, help="the edit prompt: what the new video shows")
    parser.add_argument("--out", type=Path, required=True, help="an .mp4 file, or a folder for PNG frames")
    shared.add_model(parser)
    shared.add_sampling(parser)
    shared.add_strengths(parser)
    shared.add_quiet(parser)


def run_sample(options: argparse.Namespace) -> None:
    """Samples the clip under an edit prompt."""
    inverted = InvertedLatents.load(options.noise)
    model = shared.model_of(options)
    frames = _sample(model, inverted, load_tuned(options.tuned, model), options.prompt, options)
    _write(options.out, frames, inverted.fps)


def _sample(
    model: Model,
    inverted: InvertedLatents,
    tuned: TunedWeights | None,
    prompt: str,
    options: argparse.Namespace,
) -> Tensor:
    sampling, strengths = shared.sampling_of(options), shared.strengths_of(options)
    with Bar("sample", options.quiet) as bar:
        return sample(model, inverted, tuned, prompt, sampling, strengths, bar)


def add_edit(parser: argparse.ArgumentParser) -> None:
    """Options of `run_edit`."""
    parser.add_argument("--prompt", help="the source prompt, which describes the clip")
    parser.add_argument("--edit", action="append", metavar="TEXT", help="an edit prompt; may be repeated")
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
    """Tunes, inverts and samples one clip, or all of --jobs."""
    if options.jobs is not None:
        run_jobs(options, _edit_parser, _check_edit, _edit)
        return
    _check_edit(options)
    _edit(shared.model_of(options), options)


def _check_edit(options: argparse.Namespace) -> None:
    """Raises UsageError unless everything that one clip needs is given."""
    missing = [f"--{name}" for name in _REQUIRED if not vars(options)[name]]
    if not options.prompt and options.tuned is None:
        missing.append("--prompt (or --tuned)")
    if missing:
        raise UsageError(f"python -m tav_core edit: needs {', '.join(missing)}; see --help")


def _edit(model: Model, options: argparse.Namespace) -> None:
    clip = shared.clip_of(options)
    tuned = load_tuned(options.tuned, model) or _tune(model, clip, options, options.out / "tuned.safetensors")
    inverted = _invert(model, clip, tuned, options, options.sampling_steps)
    suffix = ".mp4" if options.format == "mp4" else ""
    videos = [(options.prompt or tuned.metadata.prompt or "source", clip.frames)]
    for number, prompt in enumerate(options.edit, 1):
        frames = _sample(model, inverted, tuned, prompt, options)
        _write(options.out / f"{number}-{_slug(prompt)}{suffix}", frames, clip.fps, clip.sound)
        videos.append((prompt, frames))
    comparison = compare_frames(videos, columns=min(len(videos), _COLUMNS))
    _write(options.out / f"comparison{suffix}", comparison, clip.fps, clip.sound)


def _write(path: Path, frames: Tensor, fps: float, sound: Sound | None = None) -> None:
    save_video(path, frames, fps, sound)
    say(f"wrote {path}")


def _edit_parser() -> argparse.ArgumentParser:
    parser = shared.Parser(prog="edit", add_help=False)
    add_edit(parser)
    return parser


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-")[:40] or "edit"


def _add_tuned(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tuned", type=Path, help="the tuned weights; without them the model is inflated only"
    )
