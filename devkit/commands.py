"""The commands of dev.py: name, module with `main(argv) -> int`, one line of help."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """One command of dev.py."""

    module: str
    help: str


COMMANDS = {
    "demo": Command("devkit.demo", "edit a clip with a real ComfyUI server; the results lie in output/"),
    "serve": Command("devkit.serve", "open ComfyUI for use by hand: the pack, a checkpoint, a sample clip"),
    "parity": Command("devkit.parity", "compare our arithmetic with numbers of the official implementation"),
    "test-versions": Command("devkit.versions", "run the pack in every supported ComfyUI version"),
    "test-device": Command(
        "devkit.second_device.command",
        "run the tests that need ComfyUI on a device apart from the CPU, as a GPU is",
    ),
    "bench": Command(
        "devkit.bench", "measure edits, speed and memory, or tuning steps (bench edits, speed, loss)"
    ),
    "thumbnails": Command("devkit.thumbnails", "run the example workflows and make their pictures"),
    "locale": Command("devkit.locale", "write the English names and tooltips from the nodes"),
    "lint": Command("devkit.lint", "ruff over everything, mypy over tav_core"),
    "screenshots": Command("devkit.screenshots", "take the README's pictures from ComfyUI's page"),
    "test": Command("devkit.test", "run the linter and the whole test suite"),
}


def usage() -> str:
    """The text shown for `dev.py --help`."""
    lines = ["usage: python3 dev.py COMMAND [options]", "", "commands:"]
    lines += [f"  {name:<14} {command.help}" for name, command in COMMANDS.items()]
    lines += ["", "python3 dev.py COMMAND --help shows the options of a command."]
    return "\n".join(lines)
