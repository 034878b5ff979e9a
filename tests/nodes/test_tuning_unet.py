"""The private UNet that learns: what it costs in memory, and that it learns as a diffusers UNet does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from workbench import Workbench

from devkit import comfyui as comfyui_source
from devkit.world.checkpoint import to_diffusers
from tav_core.pipeline.model import load_model
from tav_core.tuning.memory import AllocationMeter
from tav_core.tuning.settings import TuningSettings
from tav_core.tuning.tuner import Tuner


def test_the_private_unet_takes_its_own_size_and_no_more(bench: Workbench, monkeypatch) -> None:
    module = bench.pack("nodes.comfy.tuning.unet")
    with torch.inference_mode(False):
        shapes = module.shapes_only_unet(bench.model, torch.float32)
        # Made beforehand: the meter counts tensors without data as well.
        monkeypatch.setattr(module, "shapes_only_unet", lambda *_: shapes)
        with AllocationMeter() as meter:
            unet = module.private_unet(bench.model, torch.float32)
    size = sum(parameter.nbytes for parameter in unet.parameters())
    assert size <= meter.peak < 1.05 * size
    assert {parameter.device.type for parameter in unet.parameters()} == {"cpu"}


@pytest.mark.parametrize("rank", [0, 2])
def test_the_same_seed_learns_the_same_in_both_programs(
    bench: Workbench, tmp_path: Path, tiny_checkpoint: Path, rank: int
) -> None:
    to_diffusers(tiny_checkpoint, tmp_path, comfyui_source.locate() / "comfy" / "sd1_tokenizer")
    clip, prompt = bench.latent["samples"].clone(), bench.source[0][0].clone()
    settings = TuningSettings(query_rank=rank, gradient_checkpointing="none", learning_rate=1e-3, seed=5)
    fresh, losses = [], []
    with torch.inference_mode(False), torch.enable_grad():
        for host in (
            load_model(tmp_path, device="cpu", dtype="fp32").host,
            bench.pack("nodes.comfy.tuning.unet").TuningHost(bench.model),
        ):
            with Tuner(host, clip, prompt, settings) as tuner:
                fresh.append(tuner.tensors())
                losses.append([tuner.step().loss for _ in range(5)])
    assert fresh[0].keys() == fresh[1].keys()
    assert all(torch.equal(fresh[0][name], tensor) for name, tensor in fresh[1].items())
    # Two programs round in other places; another seed or order of the blocks differs by a thousandth.
    assert losses[0] == pytest.approx(losses[1], rel=2e-6 if host.device.type == "cpu" else 1e-4)
