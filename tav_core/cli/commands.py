"""The commands tune, invert and sample."""

import argparse
from pathlib import Path

from ..files.weights import TunedWeights
from ..pipeline.edit import Noise, invert, sample, warn_of_another_base
from ..pipeline.model import Model
from ..video.clip import Clip, write_clip
from . import options as shared
from .say import say
from .tuning import tune

TUNE_EXAMPLES = """examples:
  python -m tav_core tune --model sd14 --video skiing.mp4 --prompt "a man is skiing" --out skiing.safetensors
  Stop it with Ctrl+C and give the same command again: it goes on bit for bit where it was.
  Too little memory: --dtype bf16, fewer --frames, a smaller --size. Faster: --gradient-checkpointing none.
  The file is the one that the ComfyUI nodes load: copy it to models/tune_a_video."""
INVERT_EXAMPLES = """examples:
  python -m tav_core invert --model sd14 --tuned skiing.safetensors --video skiing.mp4 --out noise.safetensors
  Use the frames, size and model of the tuning, and the same step count here and in sample."""
SAMPLE_EXAMPLES = """examples:
  python -m tav_core sample --model sd14 --tuned skiing.safetensors --noise noise.safetensors \\
      --prompt "spider man is skiing" --out spider.mp4
  A name without .mp4 is a folder for PNG frames. Motion too weak: lower --cfg; edit too weak: raise it."""


def add_tune(parser: argparse.ArgumentParser) -> None:
    """Options of `run_tune`."""
    parser.add_argument("--prompt", required=True, help="one sentence that says what the clip shows")
    parser.add_argument("--out", type=Path, required=True, help="the tuned-weights file (.safetensors)")
    shared.add_model(parser)
    shared.add_clip(parser)
    shared.add_tuning(parser)
    shared.add_quiet(parser)


def run_tune(options: argparse.Namespace) -> None:
    """Tunes on one clip."""
    clip = shared.clip_of(options)
    tune_with(shared.model_of(options), clip, options, options.out)
    say(f"wrote {options.out}")


def tune_with(model: Model, clip: Clip, options: argparse.Namespace, out: Path) -> TunedWeights:
    """Tunes as the options say."""
    settings, mode = shared.tuning_of(options)
    return tune(
        model,
        clip,
        options.prompt,
        settings,
        mode,
        out,
        options.save_every,
        not options.no_resume,
        options.quiet,
    )


def add_invert(parser: argparse.ArgumentParser) -> None:
    """Options of `run_invert`."""
    _add_tuned(parser)
    parser.add_argument("--out", type=Path, required=True, help="the file for the noise (.safetensors)")
    parser.add_argument("--steps", type=shared.at_least(1), default=50, help="inversion steps (default: 50)")
    shared.add_model(parser)
    shared.add_clip(parser)
    shared.add_inversion(parser)
    shared.add_strengths(parser)
    shared.add_quiet(parser)


def run_invert(options: argparse.Namespace) -> None:
    """Turns a clip into noise that remembers it."""
    clip = shared.clip_of(options)
    model = shared.model_of(options)
    weights = load_tuned(model, options.tuned)
    inversion = shared.inversion_of(options, options.steps)
    noise = invert(model, clip, weights, inversion, shared.strengths_of(options), options.quiet)
    noise.save(options.out)
    say(f"wrote {options.out}")


def add_sample(parser: argparse.ArgumentParser) -> None:
    """Options of `run_sample`."""
    _add_tuned(parser)
    parser.add_argument("--noise", type=Path, required=True, help="from the command invert")
    parser.add_argument("--prompt", required=True, help="what the new video shall show")
    parser.add_argument("--out", type=Path, required=True, help="an .mp4 file, or a folder for PNG frames")
    shared.add_model(parser)
    shared.add_sampling(parser)
    shared.add_strengths(parser)
    shared.add_quiet(parser)


def run_sample(options: argparse.Namespace) -> None:
    """Draws the clip again under another sentence."""
    noise = Noise.load(options.noise)
    model = shared.model_of(options)
    weights = load_tuned(model, options.tuned)
    sampling, strengths = shared.sampling_of(options), shared.strengths_of(options)
    frames = sample(model, noise, weights, options.prompt, sampling, strengths, options.quiet)
    write_clip(options.out, frames, noise.fps)
    say(f"wrote {options.out}")


def load_tuned(model: Model, path: Path | None) -> TunedWeights | None:
    """The tuned weights at ``path``, with a warning if they were tuned on another base; None without a path."""
    if path is None:
        return None
    weights = TunedWeights.load(path)
    warn_of_another_base(model, weights)
    return weights


def _add_tuned(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tuned", type=Path, help="the tuned weights; without them the model is inflated only"
    )
