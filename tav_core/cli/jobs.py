"""Many clips: a list of jobs that is shared among processes and can be stopped and started again."""

import argparse
import atexit
import datetime
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import torch

from ..pipeline.model import Model
from . import options as shared
from .say import CliError, UsageError, explain, print_error, say

# What a line cannot say: the model is loaded once for all of them.
_FOR_ALL = ("model", "config", "vae", "device", "dtype", "jobs", "quiet")
# What `accelerate launch` tells the processes that it starts.
_LAUNCHED = ("ACCELERATE_MIXED_PRECISION", "LOCAL_RANK", "WORLD_SIZE")
# How long a process may wait for the others' clips.
_PATIENCE = datetime.timedelta(days=30)
_DONE = "done.json"


def run_jobs(
    options: argparse.Namespace,
    parser: Callable[[], argparse.ArgumentParser],
    check: Callable[[argparse.Namespace], None],
    work: Callable[[Model, argparse.Namespace], None],
) -> None:
    """Runs ``work`` for every line of the file ``options.jobs`` that is not done yet.

    All lines are checked first. Under ``accelerate launch`` each process takes every n-th of them. A clip that fails
    does not stop the others; then CliError at the end says how many did.
    """
    jobs = read_jobs(options, parser, check)
    rank, count, options.device, wait = share(options.device)
    open_jobs = [job for job in jobs if not _is_done(job)][rank::count]
    # All must have looked before the first clip is done, to share the same list.
    wait()
    say(
        f"{len(open_jobs)} of {len(jobs)} clips to do"
        + (f" in process {rank + 1} of {count}" if count > 1 else "")
    )
    failed = 0
    model = shared.model_of(options) if open_jobs else None
    for job in open_jobs:
        say(f"{job.out}: {job.video}")
        try:
            # Where there is a job there is a model.
            work(model, job)  # type: ignore[arg-type]
            _mark_done(job)
        except Exception as error:
            reason = explain(error)
            if reason is None:
                raise
            failed += 1
            print_error(f"{job.out}: {reason}")
    # A launcher ends the other processes when one of them ends with an error.
    wait()
    if failed:
        raise CliError(
            f"{failed} of {len(open_jobs)} clips failed; put them right and give the same command again."
        )


def read_jobs(
    options: argparse.Namespace,
    parser: Callable[[], argparse.ArgumentParser],
    check: Callable[[argparse.Namespace], None],
) -> list[argparse.Namespace]:
    """The options of every line. Raises CliError that names the line for one that is wrong."""
    try:
        lines = options.jobs.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{options.jobs} cannot be read as text ({error.__class__.__name__}).") from error
    jobs = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            job = parser().parse_args(
                _arguments(json.loads(line), options), argparse.Namespace(**vars(options))
            )
            check(job)
        except (ValueError, UsageError) as error:
            raise CliError(f"{options.jobs.name}, line {number}: {error}") from error
        jobs.append(job)
    folders = [job.out.resolve() for job in jobs]
    twice = {str(folder) for folder in folders if folders.count(folder) > 1}
    if twice:
        raise CliError(f"{options.jobs.name}: several lines write to {min(twice)}; give each its own 'out'.")
    return jobs


def share(device: str) -> tuple[int, int, str, Callable[[], None]]:
    """This process's number, how many there are, its device, and a function that waits for the other processes.

    The device is accelerate's choice where ``device`` is "auto".

    Raises CliError if it was started by ``accelerate launch`` but cannot import accelerate.
    """
    if not any(name in os.environ for name in _LAUNCHED):
        return 0, 1, device, lambda: None
    try:
        # Not among the pack's requirements: only this way of starting needs it, and brings it.
        import accelerate
    except ImportError as error:
        raise CliError(
            "This was started by a launcher for several processes, but the package accelerate is missing here: "
            "pip install accelerate."
        ) from error
    # It knows more kinds of devices than we use, and would find no other process on the CPU by itself.
    cpu = device == "cpu" or not torch.cuda.is_available()
    state = accelerate.PartialState(cpu=cpu, timeout=_PATIENCE)
    atexit.register(state.destroy_process_group)
    device = str(state.device) if device == "auto" else device
    return state.process_index, state.num_processes, device, state.wait_for_everyone


def _arguments(job: object, options: argparse.Namespace) -> list[str]:
    """A line's keys as command-line arguments."""
    if not isinstance(job, dict):
        raise ValueError("it is not a JSON object in braces")
    # --model is a must of the command line, and stays what it was.
    arguments = [f"--model={options.model}"]
    for key, value in job.items():
        if key in _FOR_ALL:
            raise ValueError(f"{key!r} holds for all clips; give it on the command line")
        name = "--" + key.replace("_", "-")
        if value is True:
            arguments.append(name)
        elif value is not False and value is not None:
            values = value if isinstance(value, list) else [value]
            arguments += [f"{name}={entry}" for entry in values]
    return arguments


def _digest(job: argparse.Namespace) -> str:
    shaping = {
        name: value for name, value in vars(job).items() if name not in ("jobs", "quiet", "device", "run")
    }
    return hashlib.sha256(json.dumps(shaping, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _is_done(job: argparse.Namespace) -> bool:
    try:
        return json.loads((job.out / _DONE).read_text(encoding="utf-8")).get("job") == _digest(job)
    except (OSError, ValueError, AttributeError):
        return False


def _mark_done(job: argparse.Namespace) -> None:
    path: Path = job.out / _DONE
    path.write_text(json.dumps({"job": _digest(job)}) + "\n", encoding="utf-8")
