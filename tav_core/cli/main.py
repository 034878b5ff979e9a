"""The commands, and what their exit codes mean."""

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from . import commands, files
from .options import Parser
from .say import LogLines, UsageError, explain, print_error

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

_DESCRIPTION = """Tune-A-Video (arXiv 2212.11565) without ComfyUI: a Stable Diffusion 1.x or 2.x model learns the
motion of one clip, then regenerates the clip with another prompt.

Models are diffusers folders (unet, vae, text_encoder, tokenizer, scheduler), or single checkpoint files together
with --config. Nothing is downloaded. Tuned files are those of the ComfyUI nodes."""
_EXAMPLES = """start here:
  python -m tav_core edit --model sd14 --video skiing.mp4 --prompt "a man is skiing" \\
      --edit "spider man is skiing" --out results
  python -m tav_core COMMAND --help shows examples of each command.

exit codes: 0 done; 1 it could not be done, and one sentence says why; 2 wrong command line; 130 stopped by Ctrl+C
(what was learned is saved, and the same command goes on from there)."""
_COMMANDS = {
    "tune": (
        "learn one clip; writes a small file of tuned weights",
        commands.add_tune,
        commands.run_tune,
        commands.TUNE_EXAMPLES,
    ),
    "invert": (
        "invert the clip to the noise that sampling starts from",
        commands.add_invert,
        commands.run_invert,
        commands.INVERT_EXAMPLES,
    ),
    "sample": (
        "sample from the inverted latents under an edit prompt",
        commands.add_sample,
        commands.run_sample,
        commands.SAMPLE_EXAMPLES,
    ),
    "edit": (
        "all three at once; also for a list of clips, on several GPUs",
        commands.add_edit,
        commands.run_edit,
        commands.EDIT_EXAMPLES,
    ),
    "info": ("show how a tuned file was made", files.add_info, files.run_info, files.INFO_EXAMPLES),
    "convert": (
        "from and to the official code's folders; the queries as a LoRA",
        files.add_convert,
        files.run_convert,
        files.CONVERT_EXAMPLES,
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command, by default that of the process's command line, and returns the exit code."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    # A job scheduler's polite way to stop is the same as Ctrl+C.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        options = parser().parse_args(argv)
        with LogLines():
            options.run(options)
    except SystemExit as done:  # --help
        return int(done.code or OK)
    except UsageError as error:
        print_error(str(error))
        return USAGE
    except KeyboardInterrupt:
        print_error("Stopped; what was tuned is saved, and the same command goes on from there.")
        return INTERRUPTED
    except Exception as error:
        reason = explain(error)
        if reason is None:
            raise
        print_error(reason)
        return FAILED
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
    return OK


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    program = "tune-a-video" if Path(sys.argv[0]).stem == "tune-a-video" else "python -m tav_core"
    whole = Parser(prog=program, description=_DESCRIPTION, epilog=_EXAMPLES)
    subparsers = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (summary, add, run, examples) in _COMMANDS.items():
        command = subparsers.add_parser(name, help=summary, description=run.__doc__, epilog=examples)
        add(command)
        command.set_defaults(run=run)
    return whole
