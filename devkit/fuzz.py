"""`dev.py fuzz`: coverage-guided fuzzing of the readers, with the number of inputs that were tried."""

from __future__ import annotations

import argparse
import importlib.util
import platform
import re
import subprocess
import sys
from collections.abc import Sequence

from .paths import ROOT
from .say import DevError, say
from .venv import add

TARGETS = ("tuned_weights", "prompt_schedule")
_EXECUTED = re.compile(r"number_of_executed_units:\s*(\d+)|^Done (\d+) (?:runs )?in", re.MULTILINE)


def executions(output: str) -> int:
    """How many inputs the fuzzer says it tried; 0 if it does not say."""
    return max((int(a or b) for a, b in _EXECUTED.findall(output)), default=0)


def run(target: str, seconds: int) -> int:
    """Fuzzes a target for ``seconds`` and returns the number of executions. Raises DevError on a finding."""
    folder = ROOT / "output" / "fuzz"
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", f"fuzz.{target}", f"-max_total_time={seconds}", "-print_final_stats=1"]
    command += ["-max_len=4096", "-rss_limit_mb=4096", f"-artifact_prefix={folder}/{target}-"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace")
    output = done.stdout + done.stderr
    (folder / f"{target}.log").write_text(output, encoding="utf-8")
    if done.returncode:
        raise DevError(f"{target}: a finding; see {folder / f'{target}.log'}.\n{output[-1500:]}")
    return executions(output)


def main(argv: Sequence[str]) -> int:
    """Fuzz every target, or those named, for --seconds each."""
    parser = argparse.ArgumentParser(prog="dev.py fuzz", description=__doc__)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all by default"
    )
    parser.add_argument("--seconds", type=int, default=60, help="time for each target (default 60)")
    options = parser.parse_args(argv)
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        raise DevError(f"there is no target {', '.join(sorted(unknown))}; choose of {', '.join(TARGETS)}.")
    if importlib.util.find_spec("atheris") is None:
        if platform.system() != "Linux" or sys.version_info < (3, 11):
            raise DevError("the fuzzer atheris has wheels for Linux and Python 3.11 or newer only.")
        add("fuzz")
    for target in options.targets or TARGETS:
        say(f"{target}: {run(target, options.seconds)} executions, no finding")
    return 0
