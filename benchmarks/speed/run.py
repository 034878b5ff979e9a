"""Runs the parts of the benchmark and gathers what they found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from tav_core.tuning.memory import AllocationMeter

from .diffusers_stages import (
    Inputs,
    build_unet,
    codec_stages,
    compute_dtype,
    diffusers_stages,
    inflated,
    plain,
)
from .flops import flops
from .hosts import open_host, prepare, start_comfyui
from .memory import peak
from .sizes import Size
from .timing import interleaved, matrix_product_rate

HOSTS = ("diffusers", "comfyui")
PARTS = ("stages", "memory", "presets", "codec", "growth")


@dataclass(frozen=True)
class Plan:
    """What to measure. rounds: how often each stage is timed."""

    size: Size
    parts: tuple[str, ...] = PARTS
    hosts: tuple[str, ...] = HOSTS
    rounds: int = 5
    device: str = "cpu"


def run(plan: Plan, say: Callable[[str], None]) -> dict:
    """Everything of ``plan``, as JSON."""
    device = torch.device(plan.device)
    prepare(plan.size, device)
    report = {
        "size": plan.size.name,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "dtype": str(compute_dtype(plan.size, device)).removeprefix("torch."),
        "frames": plan.size.frames,
        "latent_side": plan.size.side,
        "rounds": plan.rounds,
    }
    work = {"stages": _stages, "memory": _memory, "presets": _presets, "codec": _codec, "growth": _growth}
    for part in plan.parts:
        report |= work[part](plan, device, say)
    return report


def _stages(plan: Plan, device: torch.device, say: Callable[[str], None]) -> dict:
    unet, inputs = build_unet(plan.size, device), Inputs(plan.size, device)
    rate = matrix_product_rate(compute_dtype(plan.size, device), device)
    yardstick = plain(unet, inputs)
    rows = []
    for host in plan.hosts:
        makers = open_host(host, plan.size, device)()
        stages = {name: makers[name]() for name in _stage_names(host)}
        stages = {name: stage for name, stage in stages.items() if _fits(name, stage, say)}
        say(f"timing {len(stages)} stages on {host}, {plan.rounds} rounds")
        p, found = interleaved(stages, yardstick, plan.rounds, device)
        rows.append({"host": host, "stage": "P", "seconds": p, "in_p": 1.0, "flops": flops(yardstick)})
        for name, stage in stages.items():
            # A step of sampling on ComfyUI is half a run of two.
            share = 0.5 if host == "comfyui" and not name.startswith("tuning") else 1.0
            times = {key: value * share for key, value in found[name].items()}
            rows.append({"host": host, "stage": name, **times, "flops": int(flops(stage) * share)})
    for row in rows:
        row["flops_per_second"] = row["flops"] / row["seconds"]
        row["of_matrix_product"] = row["flops_per_second"] / rate
    return {"matrix_product_flops_per_second": rate, "stages": rows}


def _memory(plan: Plan, device: torch.device, say: Callable[[str], None]) -> dict:
    names = {"plain": ["plain"]} | {host: _stage_names(host) for host in plan.hosts}
    rows = []
    for host, stages in names.items():
        for stage in stages:
            say(f"memory of {stage} ({host})")
            found = _peak(plan, host, stage, say)
            rows += [{"host": host, "stage": stage, **found}] if found else []
    return {"memory": rows}


def _fits(name: str, stage: Callable[[], object], say: Callable[[str], None]) -> bool:
    try:
        stage()
    except torch.OutOfMemoryError:
        say(f"{name}: left out, the GPU is too small")
        return False
    return True


def _peak(plan: Plan, host: str, stage: str, say: Callable[[str], None]) -> dict[str, float]:
    try:
        return peak(plan.size.name, host, stage, plan.device)
    except MemoryError:
        say(f"{stage}: left out, the GPU is too small")
        return {}


def _stage_names(host: str) -> list[str]:
    names = list(diffusers_stages(None, None))  # nothing is built before a stage is made
    return names if host == "diffusers" else ["plain", *names]


def _codec(plan: Plan, device: torch.device, say: Callable[[str], None]) -> dict:
    say("timing the autoencoder")
    unet, inputs = build_unet(plan.size, device), Inputs(plan.size, device)
    stages = codec_stages(plan.size, device)
    _, found = interleaved(
        {name: stage for name, (_, stage) in stages.items()}, plain(unet, inputs), plan.rounds, device
    )
    rows = []
    for name, (count, stage) in stages.items():
        with AllocationMeter() as meter:
            stage()
        times = {key: value / count for key, value in found[name].items()}
        rows.append({"stage": name, **times, "tensors_mb": meter.peak / 2**20})
    return {"codec": rows}


def _presets(plan: Plan, device: torch.device, say: Callable[[str], None]) -> dict:
    start_comfyui()
    from .comfyui_stages import (  # imports ComfyUI, which had to be started first
        chosen,
        preset_stage,
        shapes_of,
    )

    model, rows = shapes_of(plan.size, device), []
    for frames, preset in plan.size.presets:
        row = {"frames": frames, "preset": preset, **chosen(model, plan.size, frames, preset)}
        if plan.size.presets_need_gpu and device.type == "cpu":
            say(f"{preset}, {frames} frames: estimated; a GPU would measure it")
        else:
            say(f"memory of tuning {frames} frames, {preset}")
            row |= _peak(plan, "comfyui", preset_stage(frames, preset), say)
        rows.append(row)
    return {"presets": rows}


def _growth(plan: Plan, device: torch.device, say: Callable[[str], None]) -> dict:
    unet = build_unet(plan.size, device)

    def at(frames: int, side: int) -> dict:
        say(f"timing {frames} frames of {side}x{side}")
        inputs = Inputs(plan.size, device, frames, side)
        stages = {
            "without temporal layers": inflated(unet, inputs, temporal=False),
            "inflated": inflated(unet, inputs),
        }
        p, found = interleaved(stages, plain(unet, inputs), plan.rounds, device)
        spatial = (found["without temporal layers"]["in_p"] - 1) * p / frames
        return {
            "frames": frames,
            "latent_side": side,
            "plain": p,
            **{name: times["seconds"] for name, times in found.items()},
            "in_p": found["inflated"]["in_p"],
            "overhead_per_frame": spatial,
            "temporal_per_frame": (found["inflated"]["in_p"] - found["without temporal layers"]["in_p"])
            * p
            / frames,
        }

    def inversion(steps: int) -> dict:
        say(f"timing {steps} steps")
        inputs = Inputs(plan.size, device)
        stages = {"inversion": inflated(unet, inputs, steps=steps)}
        _, found = interleaved(stages, plain(unet, inputs), plan.rounds, device)
        return {"steps": steps, **found["inversion"]}

    size = plan.size
    return {
        "growth_steps": [inversion(steps) for steps in size.growth_steps],
        "growth_frames": [at(frames, size.side) for frames in size.growth_frames],
        "growth_sides": [at(size.frames, side) for side in size.growth_sides],
    }
