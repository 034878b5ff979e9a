"""MODELs of which ComfyUI keeps a part off the GPU; see devkit/second_device for machines without one."""

from __future__ import annotations

import importlib

import pytest
import torch
from workbench import Workbench


@pytest.fixture(scope="module")
def bench(pack, tiny_checkpoint) -> Workbench:
    """A MODEL without dynamic VRAM, which would do all this in its own way."""
    with pytest.MonkeyPatch.context() as patch:
        patching = importlib.import_module("comfy.model_patcher")
        patch.setattr(patching, "CoreModelPatcher", patching.ModelPatcher, raising=False)
        patch.setattr(importlib.import_module("comfy.memory_management"), "aimdo_enabled", False)
        return Workbench(pack, tiny_checkpoint)


@pytest.fixture(params=["no room", "--novram"])
def starved(request, bench: Workbench, monkeypatch):
    """A function after which ComfyUI leaves weights on the CPU until a layer needs them."""
    management = importlib.import_module("comfy.model_management")
    if bench.model.load_device.type == "cpu":
        pytest.skip("ComfyUI computes on the CPU here, where all weights are")

    def starve() -> None:
        management.unload_all_models()
        if request.param == "--novram":
            monkeypatch.setattr(management, "vram_state", management.VRAMState.NO_VRAM)
            return
        little = 100 * 2**20
        monkeypatch.setattr(management, "lowvram_available", True)

        def free(device=None, torch_free_too: bool = False) -> int | tuple[int, int]:
            return (little, little) if torch_free_too else little

        monkeypatch.setattr(management, "get_free_memory", free)

    return starve


def test_a_tuned_model_draws_the_same(bench: Workbench, starved) -> None:
    tuned = bench.apply(bench.weights())
    before = bench.draw(tuned)
    starved()
    after = bench.draw(tuned)
    assert bench.model.model.model_lowvram, "ComfyUI loaded everything"
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("rank", [0, 2])
def test_tuning_has_the_network_on_the_gpu_and_learns_the_same(bench: Workbench, starved, rank: int) -> None:
    settings = {"steps": 2, "resume": False, "query_rank": rank}
    _, before, losses = bench.tune(filename_prefix="vram/before", **settings)
    starved()
    _, after, now = bench.tune(filename_prefix="vram/after", **settings)
    assert now == losses
    assert all(torch.equal(tensor, before.tensors[name]) for name, tensor in after.tensors.items())
