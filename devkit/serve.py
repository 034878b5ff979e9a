"""`dev.py serve`: the same ComfyUI for use by hand."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from .materials import given_checkpoint, put_clip, put_examples, tiny_checkpoint
from .paths import BASE, COMFYUI_HOME
from .say import DevError, say
from .server import Server

_PORT = 8188


def main(argv: Sequence[str]) -> int:
    """Start the server, say where it is, and wait for Ctrl-C. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="dev.py serve", description=__doc__)
    parser.add_argument("--port", type=int, default=_PORT, help=f"port on 127.0.0.1 (default {_PORT})")
    parser.add_argument("--checkpoint", type=Path, help="one more checkpoint to put in place")
    parser.add_argument("--video", type=Path, help="another clip to put in place")
    parser.add_argument("arguments", nargs="*", help="more arguments for ComfyUI, after --")
    options = parser.parse_args(argv)

    clips = put_examples(BASE)
    if options.video:
        clips.append(put_clip(BASE, options.video))
    checkpoints = [tiny_checkpoint(COMFYUI_HOME / "made")]
    if options.checkpoint:
        checkpoints.append(given_checkpoint(options.checkpoint))
    server = Server(checkpoints=checkpoints, arguments=options.arguments, port=options.port)
    say("Starting ComfyUI.")
    with server:
        say(f"ComfyUI is at {server.url}")
        say(f"  checkpoints: {', '.join(path.name for path in checkpoints)}")
        say(f"  input clips: {', '.join(clips)}")
        say(f"  files:       {server.base}")
        say(f"  log:         {server.log_path}")
        say("Ctrl-C stops it.")
        try:
            while server.running:
                time.sleep(0.5)
        except KeyboardInterrupt:
            say("Stopping.")
            return 0
        raise DevError(f"ComfyUI ended by itself; its log is {server.log_path}.")
