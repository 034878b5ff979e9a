"""Modules that the pack makes while ComfyUI keeps models as it does with dynamic VRAM, the default on NVIDIA's GPUs.

`python3 dev.py test-device` runs the nodes with the whole of it.
"""

from __future__ import annotations

import importlib

import pytest
import torch
from workbench import Workbench, distance

SETTINGS = {"steps": 2, "resume": False}


@pytest.fixture
def lazy_layers(monkeypatch) -> None:
    """ComfyUI's own linear layers now have no weights until a state dict brings some."""
    ops = importlib.import_module("comfy.ops")
    monkeypatch.setattr(importlib.import_module("comfy.memory_management"), "aimdo_enabled", True)
    # Versions before 0.30 do it on Windows only.
    monkeypatch.setattr(importlib.import_module("comfy.model_management"), "WINDOWS", True)
    assert ops.manual_cast.Linear(2, 2).weight is None


def test_tuning_learns_the_same(bench: Workbench, request) -> None:
    _, before, losses = bench.tune(filename_prefix="dynamic/before", **SETTINGS)
    request.getfixturevalue("lazy_layers")
    bench.pack("nodes.comfy.tuning.memory")._KEPT.clear()
    _, weights, now = bench.tune(
        filename_prefix="dynamic/now", gradient_checkpointing="automatic", **SETTINGS
    )
    assert now == losses
    assert weights.tensors.keys() == before.tensors.keys()
    assert all(torch.equal(tensor, before.tensors[name]) for name, tensor in weights.tensors.items())


def test_a_tuned_model_draws_the_same(bench: Workbench, request) -> None:
    before = bench.draw(bench.apply(bench.weights()))
    request.getfixturevalue("lazy_layers")
    assert distance(bench.draw(bench.apply(bench.weights())), before) == 0


def test_temporal_layers_have_the_dtype_of_the_model(bench: Workbench, tiny_checkpoint, request) -> None:
    half, _, _ = bench.load(tiny_checkpoint, dtype=torch.bfloat16)
    half.model.manual_cast_dtype = None  # as on a GPU that computes in it
    request.getfixturevalue("lazy_layers")
    [attached] = bench.apply(bench.weights(), model=half).get_attachment("tune_a_video").layers
    assert {parameter.dtype for parameter in attached.root.model.parameters()} == {torch.bfloat16}


def test_wrong_shapes_are_noticed(bench: Workbench, lazy_layers) -> None:
    layer = bench.pack("nodes.comfy.model.ops").EagerOps.Linear(2, 3, device="cpu", dtype=torch.bfloat16)
    assert layer.weight.shape == (3, 2) and layer.bias.dtype == torch.bfloat16
    with pytest.raises(RuntimeError, match="size mismatch"):
        layer.load_state_dict({"weight": torch.zeros(2, 3), "bias": torch.zeros(3)})


def test_a_version_that_leaves_out_weights_whatever_the_layer_is(bench: Workbench, monkeypatch) -> None:
    """As ComfyUI 0.16 on Windows."""

    def without_weights(self, in_features, out_features, bias=True, device=None, dtype=None) -> None:
        torch.nn.Module.__init__(self)
        self.weight = self.bias = None

    ops = importlib.import_module("comfy.ops")
    monkeypatch.setattr(ops.disable_weight_init.Linear, "__init__", without_weights)
    linear = bench.pack("nodes.comfy.model.ops").EagerOps.Linear
    assert linear(2, 3, bias=False, dtype=torch.float16).bias is None
    layer = linear(2, 3, device="cpu", dtype=torch.float16)
    layer.load_state_dict({"weight": torch.ones(3, 2), "bias": torch.zeros(3)})
    assert layer.weight.dtype == layer.bias.dtype == torch.float16 and bool((layer.weight == 1).all())
