"""Which attention function an inflated MODEL computes with."""

from __future__ import annotations

import importlib

import pytest
from workbench import distance


@pytest.fixture
def calls(monkeypatch):
    """Rows of the batch at each call of torch's attention."""
    attention = importlib.import_module("comfy.ldm.modules.attention")
    original, seen = attention.attention_pytorch, []

    def watched(*args, **kwargs):
        seen.append(len(args[0]))
        return original(*args, **kwargs)

    monkeypatch.setattr(attention, "attention_pytorch", watched)
    return seen


@pytest.fixture
def sliced(monkeypatch):
    """ComfyUI's own choice on a CPU."""
    attention = importlib.import_module("comfy.ldm.modules.attention")
    for name in ("optimized_attention", "optimized_attention_masked"):
        monkeypatch.setattr(attention, name, attention.attention_sub_quad)
    return attention


def test_torch_s_attention_on_a_cpu_with_the_same_result(bench, sliced, calls, pack, monkeypatch):
    if bench.model.load_device.type != "cpu":
        pytest.skip("about ComfyUI on a CPU")
    fused = bench.draw(bench.inflate())
    assert calls
    calls.clear()
    monkeypatch.setattr(pack("nodes.comfy.model.inflate"), "fused_on_cpu", lambda options, device: options)
    assert distance(bench.draw(bench.inflate()), fused) < 1e-4
    assert not calls


def test_an_image_keeps_comfyui_s_attention(bench, sliced, calls):
    bench.draw(bench.model)
    bench.draw(bench.inflate(), frames=1)
    bench.draw(bench.inflate(attention="off"))
    assert not calls


def test_what_the_user_chose_is_kept(bench, sliced, calls, monkeypatch):
    chosen = bench.inflate().clone()
    asked = []

    def override(func, *args, **kwargs):
        asked.append(1)
        return func(*args, **kwargs)

    chosen.model_options["transformer_options"]["optimized_attention_override"] = override
    bench.draw(chosen)
    assert asked
    assert not calls
    monkeypatch.setattr(importlib.import_module("comfy.cli_args").args, "use_quad_cross_attention", True)
    bench.draw(bench.inflate())
    assert not calls
