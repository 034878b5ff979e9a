"""The commands info and convert."""

import argparse
import dataclasses
import json
from pathlib import Path

from ..files.lora import save_lora
from ..files.official import load_official, save_official, weights_file
from ..files.weights import TunedWeights
from . import options as shared
from .say import CliError, UsageError, say

INFO_EXAMPLES = """examples:
  python -m tav_core info skiing.safetensors
  python -m tav_core info skiing.safetensors --json | jq .prompt"""
CONVERT_EXAMPLES = """examples:
  A folder of the official code (unet/diffusion_pytorch_model.bin) to our tuned file, on its base model:
  python -m tav_core convert official-folder --to tuned --model sd14 --out skiing.safetensors
  Back, as a whole pipeline folder that the official code loads:
  python -m tav_core convert skiing.safetensors --to official --model sd14 --out official-folder
  The tuned queries alone, for any LoRA loader (no model needed):
  python -m tav_core convert skiing.safetensors --to lora --out skiing-lora.safetensors"""
_KINDS = ("tuned", "official", "lora")


def add_info(parser: argparse.ArgumentParser) -> None:
    """Options of `run_info`."""
    parser.add_argument("file", type=Path, help="a tuned-weights file")
    parser.add_argument("--json", action="store_true", help="for programs; with the losses of every step")


def run_info(options: argparse.Namespace) -> None:
    """Shows how a file was made and what it holds."""
    weights = TunedWeights.load(options.file)
    about = dataclasses.asdict(weights.metadata)
    losses = about.pop("losses")
    parts = {
        "queries": sum(name.endswith((".diff", ".lora_up.weight")) for name in weights.tensors),
        "temporal layers": sum(name.endswith(".attn_temp.to_q.weight") for name in weights.tensors),
        "parameters": sum(tensor.numel() for tensor in weights.tensors.values()),
    }
    if options.json:
        say(json.dumps({**about, "losses": json.loads(losses or "[]"), **parts}))
        return
    for name, value in {**about, **parts}.items():
        say(f"{name.replace('_', ' '):18} {value}")


def add_convert(parser: argparse.ArgumentParser) -> None:
    """Options of `run_convert`."""
    parser.add_argument("source", type=Path, help="a tuned-weights file, or a folder of the official code")
    parser.add_argument("--to", choices=_KINDS, required=True)
    parser.add_argument("--out", type=Path, required=True, help="file, or folder for --to official")
    parser.add_argument(
        "--compact",
        action="store_true",
        help="from official: without the whole query weights that make the way back exact; single values may then be "
        "off by a rounding",
    )
    # Only the official layout holds the base model too.
    shared.add_model(parser, required=False, placed=False)
    # The difference to a rounded base would be another one.
    parser.set_defaults(device="cpu", dtype="fp32")


def run_convert(options: argparse.Namespace) -> None:
    """Turns one layout into another."""
    if options.out.exists():
        raise CliError(f"{options.out} exists already; choose another name.")
    is_official = options.source.is_dir() or options.source.suffix == ".bin"
    if options.model is None and (is_official or options.to == "official"):
        raise UsageError(
            "python -m tav_core convert: official files need --model, the base model; see --help"
        )
    model = shared.model_of(options) if options.model is not None else None
    base = model.host.unet.state_dict() if model else {}
    if is_official:
        predicts = model.host.schedule.prediction_type if model else "epsilon"
        weights = load_official(weights_file(options.source), base, not options.compact, predicts)
    else:
        weights = TunedWeights.load(options.source)
    if options.to == "tuned":
        weights.save(options.out)
    elif options.to == "lora":
        save_lora(options.out, weights)
    else:
        pipeline = options.model if options.model.is_dir() else None
        # That there is a model was checked above.
        config = dict(model.host.unet.config)  # type: ignore[union-attr]
        save_official(options.out, weights, base, config, pipeline)
    say(f"wrote {options.out}")
