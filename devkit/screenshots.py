"""`dev.py screenshots`: the README's pictures, taken from ComfyUI's page while the quickstart runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .materials import put_examples, tiny_checkpoint
from .page import ComfyPage, browser_context
from .paths import BASE, COMFYUI_HOME, ROOT, WORKFLOWS
from .say import say
from .server import Server

_FOLDER = ROOT / "docs" / "images"
_HALF_WAY = 40


def main(argv: Sequence[str]) -> int:
    """Run the quickstart in the browser and take the pictures. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="dev.py screenshots", description=__doc__)
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="where the pictures go")
    options = parser.parse_args(argv)
    put_examples(BASE)
    with (
        browser_context() as context,
        Server(checkpoints=[tiny_checkpoint(COMFYUI_HOME / "made")]) as server,
    ):
        page = ComfyPage(context, server.url)
        page.load(WORKFLOWS / "quickstart.json")
        # A run that was made before would be read from its file.
        page.set_widgets("TAVTune", resume=False)
        # A panel outside of the window draws nothing.
        page.look_at("TAVTune")
        page.page.evaluate("() => app.queuePrompt(0, 1)")
        say("The quickstart runs.")
        page.until(
            "(n) => (document.querySelector('[data-panel=loss_curve] .tav-raw')"
            "?.getAttribute('d').match(/L/g) ?? []).length > n",
            _HALF_WAY,
        )
        page.picture(options.folder / "tuning.jpg")
        page.look_at("TAVCompareVideos")
        page.until(
            "() => document.querySelector('[data-panel=comparison] .tav-count')?.textContent.includes('/')"
        )
        for name, types in (("graph.jpg", ()), ("compare.jpg", ("TAVCompareVideos",))):
            page.look_at(*types)
            picture = page.picture(options.folder / name)
            say(f"  {picture.relative_to(ROOT) if picture.is_relative_to(ROOT) else picture}")
    return 0
