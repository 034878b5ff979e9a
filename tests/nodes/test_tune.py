"""Tune on One Video: what it learns, what it writes, what it shows, and what it leaves alone."""

from __future__ import annotations

import importlib
import itertools
import json
import logging
from dataclasses import replace

import pytest
import torch
from graphs import base, inflate, invert, link, node, save_latent, tune
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from workbench import Workbench, assert_plain, distance

from devkit.client import Client
from devkit.server import Server

LOW_RANK = 3
_names = itertools.count()


@pytest.fixture(scope="module")
def tuned(bench: Workbench) -> tuple:
    """A model tuned for three steps, its weights, its losses."""
    return bench.tune(steps=3, filename_prefix="tune/reference", save_every=1)


def snapshot(model) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.model.state_dict().items()}


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_in_the_server_shows_itself_and_writes_its_file(client: Client, server: Server) -> None:
    prefix, stem = f"tune/run{next(_names)}", f"tune/noise{next(_names)}"
    graph = base() | {
        "inflated": inflate(link("ckpt"), attention="first", norm="per frame"),
        "tuned": tune(link("inflated"), steps=4, filename_prefix=prefix, seed=5),
        "plot": node("LossGraphNode", loss=link("tuned", 2), filename_prefix="loss"),
        "noise": invert(link("tuned"), steps=2),
        "save": save_latent(link("noise"), stem),
    }
    graph["clip"]["inputs"]["frame_stride"] = 2
    seen = []

    def on_progress(progress) -> None:
        if progress.node == "tuned" and progress.state == "progress":
            seen.append((progress.value, progress.maximum))

    result = client.run(graph, on_progress).check()

    # progress and core's loss plot; the page's own curve is in test_live.py
    # (the server leaves steps out that follow each other too quickly)
    values = [value for value, _ in seen if value]
    assert values == sorted(set(values)) and len(values) > 1 and values[-1] == 4
    assert {maximum for _, maximum in seen} == {4}
    assert client.view(result.files("plot")[0]).startswith(b"\x89PNG")

    # the file, and what it says about its making
    path = server.base / "models" / "tune_a_video" / f"{prefix}_00001.safetensors"
    with safe_open(path, "pt") as file:
        facts = file.metadata()
    expected = {
        "format": "tune-a-video",
        "prompt": "a rabbit on the grass",
        "frame_stride": "2",
        "frames": "3",
        "width": "64",
        "height": "64",
        "steps": "4",
        "learning_rate": "0.001",
        "seed": "5",
        "trainable": "queries + temporal",
        "attention": "first",
        "norm": "per frame",
        "prediction_type": "epsilon",
    }
    assert {name: facts[name] for name in expected} == expected
    assert len(facts["base_fingerprint"]) == 16
    assert float(facts["loss_first"]) > 0 and float(facts["loss_last"]) > 0

    # the file does what the model did
    again = base() | {
        "weights": node("TAVLoadWeights", file=f"{prefix}_00001.safetensors"),
        "model": node(
            "TAVApplyWeights",
            model=link("ckpt"),
            weights=link("weights"),
            query_strength=1.0,
            temporal_strength=1.0,
        ),
        "noise": invert(link("model"), steps=2),
        "save": save_latent(link("noise"), f"{stem}again"),
    }
    again["clip"]["inputs"]["frame_stride"] = 2
    client.run(again).check()
    first, second = (
        load_file(next((server.base / "output").glob(f"{name}_*.latent")))["latent_tensor"]
        for name in (stem, f"{stem}again")
    )
    assert torch.equal(first, second)


def test_latents_that_are_not_numbers_give_one_sentence_and_the_server_goes_on(client: Client) -> None:
    graph = base() | {"overflow 0": node("LatentMultiply", samples=link("latent"), multiplier=10.0)}
    for i in range(40):
        graph[f"overflow {i + 1}"] = node("LatentMultiply", samples=link(f"overflow {i}"), multiplier=10.0)
    bad = graph | {"tuned": tune(link("ckpt"), latent=link("overflow 40"))}
    good = base() | {"tuned": tune(link("ckpt"), seed=next(_names))}
    for prompt in (bad, good):
        prompt["plot"] = node("LossGraphNode", loss=link("tuned", 2), filename_prefix="loss")
    error = client.run(bad).error
    assert error is not None and error.node == "tuned"
    assert_plain(error.message, "'latent'", "not finite", "--fp32-vae")
    client.run(good).check()


def test_the_same_seed_learns_the_same_bit_for_bit(bench: Workbench, tuned: tuple) -> None:
    _, weights, losses = bench.tune(steps=3)
    assert losses == tuned[2]
    assert same(weights.tensors, tuned[1].tensors)
    _, other, _ = bench.tune(steps=3, seed=1)
    assert not same(weights.tensors, other.tensors)


def test_the_base_model_is_untouched(bench: Workbench) -> None:
    before, plain = snapshot(bench.model), bench.draw(bench.model)
    bench.tune(learning_rate=1e-1)
    assert same(snapshot(bench.model), before)
    assert torch.equal(bench.draw(bench.model), plain)


def test_the_tuned_model_is_its_file_applied(bench: Workbench, tuned: tuple) -> None:
    model, weights, _ = tuned
    loaded, info = bench.run("TAVLoadWeights", file="tune/reference_00001.safetensors")
    assert same(loaded.tensors, weights.tensors)
    assert json.loads(info)["steps"] == "3"
    assert torch.equal(bench.draw(bench.apply(loaded)), bench.draw(model))


def test_strengths_run_from_untuned_to_tuned(bench: Workbench) -> None:
    weights = bench.weights(scale=0.1)
    none = bench.draw(bench.apply(weights, 0.0, 0.0))
    assert torch.equal(none, bench.draw(bench.inflate()))
    full, half = bench.draw(bench.apply(weights)), bench.draw(bench.apply(weights, 0.5, 0.5))
    whole = distance(none, full)
    assert whole > 0.01
    assert distance(half, full) < whole
    assert float((half - none).norm()) < float((full - none).norm())
    queries, temporal = (
        bench.draw(bench.apply(weights, *strengths)) for strengths in ((1.0, 0.0), (0.0, 1.0))
    )
    assert not torch.equal(queries, none)
    assert not torch.equal(temporal, none)
    assert not torch.equal(queries, temporal)


def test_a_fresh_model_in_training_is_the_inflated_model(bench: Workbench) -> None:
    """At a rate of almost nothing the tuned model is the inflated one: fresh temporal layers add zero."""
    model, _, _ = bench.tune(steps=1, learning_rate=1e-7)
    assert distance(bench.draw(model), bench.draw(bench.inflate())) < 1e-3


@pytest.mark.parametrize("mode", ["attention", "all"])
def test_checkpointing_changes_memory_only(bench: Workbench, tuned: tuple, mode: str) -> None:
    _, weights, losses = bench.tune(steps=3, gradient_checkpointing=mode)
    assert losses == tuned[2]
    assert same(weights.tensors, tuned[1].tensors)


def test_automatic_checkpointing_takes_the_fastest_that_fits(
    bench: Workbench, tuned: tuple, monkeypatch, caplog
) -> None:
    memory = bench.pack("nodes.comfy.tuning.memory")
    caplog.set_level(logging.INFO)
    run = bench.pack("tav_core.tuning.run").TuningRun(bench.latent["samples"], bench.source[0][0])
    estimates = memory.TuningMemory(bench.model, run)
    settings = bench.pack("tav_core.tuning.settings").TuningSettings(gradient_checkpointing="none")
    needs = {}
    for name in ("none", "attention", "all"):
        needs[name] = estimates.needed(replace(settings, gradient_checkpointing=name)).beside_network
    original = memory.comfy.model_management.get_free_memory
    for name, need in (*needs.items(), ("all", 0)):
        free = int(need / memory.USABLE) + 2

        def told(device=None, torch_free_too: bool = False, free: int = free):
            return original(device, torch_free_too) if torch_free_too else free

        monkeypatch.setattr(memory.comfy.model_management, "get_free_memory", told)
        _, weights, _ = bench.tune(steps=3, gradient_checkpointing="automatic")
        assert f"gradient_checkpointing {name}," in caplog.text
        assert same(weights.tensors, tuned[1].tensors)
        caplog.clear()


def test_trainable_sets_hold_what_they_say(bench: Workbench, tuned: tuple) -> None:
    queries = {name for name in tuned[1].tensors if name.endswith(".to_q.diff")}
    temporal = {name for name in tuned[1].tensors if ".attn_temp." in name}
    assert queries | temporal == set(tuned[1].tensors)
    blocks = {name.split(".attn")[0] for name in temporal}
    assert len(queries) == 2 * len(blocks) and len(temporal) == 5 * len(blocks)
    _, only_temporal, _ = bench.tune(trainable="temporal")
    assert set(only_temporal.tensors) == temporal
    _, only_queries, _ = bench.tune(trainable="queries")
    assert set(only_queries.tensors) == queries
    assert all(bool(t.any()) for t in only_queries.tensors.values()), "every query learned something"


def test_low_rank_queries_are_small_and_do_the_same_work(bench: Workbench) -> None:
    model, weights, losses = bench.tune(steps=3, query_rank=LOW_RANK, trainable="queries")
    for name, tensor in weights.tensors.items():
        assert tensor.shape[1 if "lora_up" in name else 0] == LOW_RANK, name
    full = bench.tune(steps=3, trainable="queries")[2]["loss"]
    assert losses["loss"][0] == full[0] and losses["loss"][2] != full[2]
    assert not torch.equal(bench.draw(model), bench.draw(bench.inflate()))
    assert sum(t.numel() for t in weights.tensors.values()) < 0.3 * sum(
        t.numel() for t in bench.weights().tensors.values() if t.shape[0] == t.shape[-1]
    )


def test_schedules_start_alike_and_part(bench: Workbench) -> None:
    runs = {
        name: bench.tune(steps=4, lr_scheduler=name, learning_rate=5e-3)
        for name in ("constant", "cosine", "linear")
    }
    losses = {name: run[2]["loss"] for name, run in runs.items()}
    assert losses["constant"][:2] == losses["cosine"][:2] == losses["linear"][:2]
    assert len({tuple(values[:3]) for values in losses.values()}) == 3
    warm = bench.tune(steps=4, lr_warmup_steps=3, learning_rate=5e-3)[2]["loss"]
    assert warm[0] == losses["constant"][0] and warm[1] != losses["constant"][1]


def test_learning_lowers_the_loss_on_its_own_draws(bench: Workbench) -> None:
    """The same noise and timesteps at the start and at the end, so that only learning can make a difference."""
    trained, _, _ = bench.tune(steps=16, learning_rate=3e-3)
    clip = bench.model.model.process_latent_in(bench.latent["samples"])
    before = after = 0.0
    for timestep in (200, 500, 800):
        for name, model in (("before", bench.inflate()), ("after", trained)):
            error = prediction_error(bench, model, clip, timestep)
            before, after = (before + error, after) if name == "before" else (before, after + error)
    assert after < before


@torch.inference_mode()
def prediction_error(bench: Workbench, model, clip: Tensor, timestep: int) -> float:
    samplers, sampling = (importlib.import_module(f"comfy.{name}") for name in ("samplers", "sample"))
    sigma = model.get_model_object("model_sampling").sigmas[timestep].cpu()
    noise = torch.randn(clip.shape, generator=torch.Generator().manual_seed(timestep))
    noisy = model.model.process_latent_out(clip + sigma * noise)
    denoised = sampling.sample_custom(
        model,
        torch.zeros_like(noisy),
        1.0,
        samplers.sampler_object("euler"),
        torch.stack([sigma, sigma * 0]),
        bench.source,
        bench.empty,
        noisy,
        disable_pbar=True,
        seed=0,
    )
    predicted = (clip + sigma * noise - model.model.process_latent_in(denoised)) / sigma
    return float((predicted - noise).square().mean())


@pytest.mark.parametrize("lora", [False, True], ids=["plain", "with a weight patch"])
def test_the_private_unet_is_the_loaded_model_exactly(bench: Workbench, lora: bool) -> None:
    attention = importlib.import_module("comfy.ldm.modules.attention").attention_pytorch
    management = importlib.import_module("comfy.model_management")
    model = bench.model.clone()
    if lora:
        generator = torch.Generator().manual_seed(9)
        keys = [key for key in model.model_state_dict() if key.endswith((".to_v.weight", ".to_q.weight"))]
        for key in keys:
            shape = model.model_state_dict()[key].shape
            up, down = (
                torch.randn(shape[0], 2, generator=generator),
                torch.randn(2, shape[1], generator=generator),
            )
            adapter = importlib.import_module("comfy.weight_adapter").LoRAAdapter
            model.add_patches({key: adapter({key}, (up, down, 2.0, None, None, None))}, 0.05)
    x, context = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1)), bench.edit[0][0].clone()
    with torch.inference_mode(False), torch.no_grad():
        host = bench.pack("nodes.comfy.tuning.unet").TuningHost(model)
        ours = host.predict(x.to(host.device), 400, context.clone()).cpu()
        host.release()
    with torch.inference_mode():
        management.load_models_gpu([model])
        theirs = model.model.diffusion_model(
            x.to(management.get_torch_device()),
            torch.full((3,), 400.0, device=management.get_torch_device()),
            context=context.expand(3, -1, -1).to(management.get_torch_device()),
            transformer_options={"optimized_attention_override": lambda f, *a, **k: attention(*a, **k)},
        ).cpu()
    # With dynamic VRAM ComfyUI rounds patched weights to the dtype of the file.
    assert distance(ours, theirs) <= (0 if model.load_device.type == "cpu" else 1e-4)
    if lora:
        assert distance(bench.draw(model), bench.draw(bench.model)) > 1e-3, "the patch is seen"


def test_a_model_stored_in_fp16_learns(bench: Workbench, tiny_checkpoint) -> None:
    half, _, _ = bench.load(tiny_checkpoint, dtype=torch.float16)
    before = snapshot(half)
    assert before["diffusion_model.out.2.weight"].dtype == torch.float16
    model, weights, losses = bench.tune(half)
    assert all(torch.tensor(losses["loss"]).isfinite())
    assert all(t.dtype == torch.float32 and bool(t.isfinite().all()) for t in weights.tensors.values())
    assert any(bool(t.any()) for name, t in weights.tensors.items() if name.endswith(".to_q.diff"))
    assert same(snapshot(half), before)
    assert bool(bench.draw(model).isfinite().all())
    # The file of the half-precision model is that of the whole one, up to rounding.
    _, whole, _ = bench.tune()
    assert weights.metadata.base_fingerprint == whole.metadata.base_fingerprint


def test_a_prefix_outside_of_the_folder_is_refused_before_any_work(bench: Workbench) -> None:
    with pytest.raises(ValueError) as caught:
        bench.tune(filename_prefix="../escape", steps=100_000)
    assert_plain(str(caught.value), "'filename_prefix'", "models/tune_a_video")
