"""Core's TorchCompileModel beside the pack's nodes: what is attached to the UNet is never lost in compiled code."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from workbench import Workbench


@pytest.fixture(scope="module")
def recipes(bench: Workbench) -> dict[str, Callable[[Any], Any]]:
    """How models are made of one that may have been compiled before."""
    weights = bench.weights()
    return {
        "plain": lambda model: model,
        "inflated": lambda model: bench.inflate(model),
        "tuned": lambda model: bench.apply(weights, model=model),
        "tuned at half": lambda model: bench.apply(weights, temporal=0.5, model=model),
        "chunked": lambda model: bench.run(
            "TAVInflateModel",
            model=bench.apply(weights, model=model),
            attention="first+previous",
            norm="joint",
            chunk_frames=2,
        ),
    }


def compiled(model: Any) -> Any:
    """What TorchCompileModel does, without the C++ compiler that its own backends need."""
    clone = model.clone()
    helpers = importlib.import_module("comfy_api.torch_helpers")
    helpers.set_torch_compile_wrapper(model=clone, backend="eager")
    return clone


@pytest.mark.parametrize("first", [True, False], ids=["compiled before", "compiled after"])
def test_compiling_changes_nothing(bench: Workbench, recipes, first: bool) -> None:
    want = {name: bench.draw(make(bench.model)) for name, make in recipes.items()}
    for name in ("plain", *recipes, "inflated", "plain"):
        make = recipes[name]
        model = make(compiled(bench.model)) if first else compiled(make(bench.model))
        assert torch.equal(bench.draw(model), want[name]), name


def test_tuning_a_compiled_model(bench: Workbench) -> None:
    compiled_one = bench.tune(compiled(bench.model))[1]
    plain = bench.tune()[1]
    assert all(torch.equal(compiled_one.tensors[name], tensor) for name, tensor in plain.tensors.items())
