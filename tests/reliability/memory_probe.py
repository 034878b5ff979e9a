"""`memory_probe.py CASE ...`: what tunings are estimated to need, and what they then used, a line of JSON each.

A case is a JSON object: widths, layers, context, frames, side (of the latents), checkpointing, rank, trainable,
attention, dtype, frames_per_step. Each runs in a process of its own, forked after the imports. The peak is that of
resident memory on the CPU, of allocated memory where CUDA is.

On Linux' CPU, tensors get pages of their own, so that freed ones are gone; `--heap` leaves the C library's heap as
it is, which takes tensors below 32 MiB and loses room between them.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "devkit" / "shims"))
sys.path.insert(0, str(Path(__file__).parents[2]))

import cpu_torch

cpu_torch.install()

import torch  # noqa: E402  (after the import hook, which comes first)
from diffusers import UNet2DConditionModel  # noqa: E402

from tav_core.diffusion.schedule import NoiseSchedule  # noqa: E402
from tav_core.inflation.mode import InflationMode  # noqa: E402
from tav_core.pipeline.unet import DiffusersHost  # noqa: E402
from tav_core.tuning.memory import estimate_memory  # noqa: E402
from tav_core.tuning.tuner import Tuner, TuningSettings  # noqa: E402

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
# glibc's name for "blocks of this size and more are mapped"; setting it stops it from growing to 32 MiB by itself.
M_MMAP_THRESHOLD = -3


def unet(case: dict, device: str) -> UNet2DConditionModel:
    """A random UNet of Stable Diffusion 1's layout."""
    widths = tuple(case["widths"])
    attending = len(widths) - 1
    dtype = getattr(torch, case.get("dtype", "float32"))
    with torch.device(device):
        made = UNet2DConditionModel(
            sample_size=case["side"],
            block_out_channels=widths,
            layers_per_block=case.get("layers", 1),
            cross_attention_dim=case.get("context", 768),
            attention_head_dim=8,
            down_block_types=("CrossAttnDownBlock2D",) * attending + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * attending,
        )
    return made.to(dtype).eval()


def resident(entry: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(entry):
            return int(line.split()[1]) * 1024
    raise LookupError(entry)


def used(case: dict, settings: TuningSettings, mode: InflationMode) -> int:
    """The peak of two real steps, the network included."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    host = DiffusersHost(unet(case, device), NoiseSchedule.scaled_linear())
    network = sum(parameter.nbytes for parameter in host.unet.parameters())
    width = case.get("context", 768)
    # Libraries take memory of their own at their first use.
    with Tuner(host, torch.randn(2, 4, 8, 8), torch.randn(1, 77, width), TuningSettings(), mode) as tuner:
        tuner.step()
    del tuner
    gc.collect()
    latents = torch.randn(case["frames"], 4, case["side"], case["side"])
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        before = resident("VmRSS")
        CLEAR.write_text("5")
    with Tuner(host, latents, torch.randn(1, 77, width), settings, mode) as tuner:
        tuner.step()
        tuner.step()
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resident("VmHWM") - before + network


def main(case: dict) -> dict:
    """The case with ``estimated``, ``used`` and ``ratio`` in megabytes, and of the part that is not the network."""
    settings = TuningSettings(
        steps=3,
        gradient_checkpointing=case.get("checkpointing", "none"),
        query_rank=case.get("rank", 0),
        trainable=case.get("trainable", "queries + temporal"),
        frames_per_step=case.get("frames_per_step", 0),
    )
    mode = InflationMode(case.get("attention", "first+previous"))
    shapes = DiffusersHost(unet(case, "meta"), NoiseSchedule.scaled_linear())
    latents = (case["frames"], 4, case["side"], case["side"])
    estimate = estimate_memory(shapes, latents, (1, 77, case.get("context", 768)), settings, mode)
    measured = used(case, settings, mode)
    return case | {
        "estimated": round(estimate.total / 1e6),
        "used": round(measured / 1e6),
        "ratio": round(estimate.total / measured, 3),
        "of the rest": round((estimate.total - estimate.network) / (measured - estimate.network), 3),
    }


def apart(case: dict) -> None:
    """Runs and prints a case in a fork of this process, whose memory begins small."""
    child = os.fork()
    if child == 0:
        sys.stdout.write(json.dumps(main(case)) + "\n")
        sys.stdout.flush()
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise SystemExit(f"the case {case} failed")


if __name__ == "__main__":
    torch.set_num_threads(1)
    cases = sys.argv[1:]
    if "--heap" in cases:
        cases.remove("--heap")
    elif not ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 64 * 1024):
        raise SystemExit("the C library's heap cannot be set")
    for argument in cases:
        apart(json.loads(argument))
