"""DDIM Inversion and Sample Edited Video, alone, against core's samplers, and as SAMPLER and SIGMAS."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import Tensor
from workbench import Workbench, distance

CUSTOM = "comfy_extras.nodes_custom_sampler"


@pytest.fixture(scope="module")
def model(bench: Workbench):
    """Tuned weights that do something, but little: a real tuning's are as mild."""
    return bench.apply(bench.weights(scale=0.02), 1.0, 0.1)


@pytest.fixture(scope="module")
def inverted(bench: Workbench, model) -> dict:
    return bench.invert(model, steps=4)


@pytest.fixture(scope="module")
def sampled(bench: Workbench, model, inverted: dict) -> Tensor:
    return bench.sample(model, inverted, steps=4)


def advanced(bench: Workbench, guider, direction: str, model, latent: dict, steps: int) -> dict:
    """Core's SamplerCustomAdvanced with our SAMPLER and SIGMAS."""
    output, _ = bench.run(
        bench.core(CUSTOM, "SamplerCustomAdvanced"),
        noise=bench.run(bench.core(CUSTOM, "DisableNoise")),
        guider=guider,
        sampler=bench.run("TAVDDIMSampler", direction=direction, eta=0.0),
        sigmas=bench.run("TAVDDIMSigmas", model=model, steps=steps, direction=direction),
        latent_image=latent,
    )
    return output


def test_core_s_custom_sampler_does_the_same_bit_for_bit(
    bench: Workbench, model, inverted: dict, sampled: Tensor
) -> None:
    basic = bench.run(bench.core(CUSTOM, "BasicGuider"), model=model, conditioning=bench.empty)
    noise = advanced(bench, basic, "inversion", model, bench.latent, 4)
    assert torch.equal(noise["samples"], inverted["samples"])
    guided = bench.run(
        bench.core(CUSTOM, "CFGGuider"), model=model, positive=bench.edit, negative=bench.empty, cfg=4.0
    )
    assert torch.equal(advanced(bench, guided, "sampling", model, noise, 4)["samples"], sampled)
    # From a latent that core's node made, which does not say how noisy it is.
    assert torch.equal(bench.sample(model, {"samples": noise["samples"]}, steps=4), sampled)


@pytest.fixture(scope="module")
def ideal(bench: Workbench, model):
    """A MODEL that answers as a perfect network for normally distributed clips would, whatever the checkpoint."""
    ideal = model.clone()
    ideal.set_model_unet_function_wrapper(
        lambda apply_model, about: about["input"] / (1 + about["timestep"][:, None, None, None] ** 2)
    )
    return ideal


@pytest.fixture(scope="module")
def normal_clip(bench: Workbench) -> dict:
    samples = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    return {"samples": bench.model.model.process_latent_out(samples)}


def test_the_same_prompt_unguided_gives_the_clip_back(bench: Workbench, ideal, normal_clip: dict) -> None:
    noise = bench.invert(ideal, steps=20, latent=normal_clip, conditioning=bench.source)
    again = bench.sample(ideal, noise, steps=20, positive=bench.source, cfg=1.0)
    assert distance(again, normal_clip["samples"]) < 0.02


def test_another_prompt_gives_another_clip(bench: Workbench, model, inverted: dict, sampled: Tensor) -> None:
    same = bench.sample(model, inverted, steps=4, positive=bench.source)
    assert distance(same, sampled) > 0.01


def test_core_s_ksampler_advanced_starts_from_inverted_noise(
    bench: Workbench, ideal, normal_clip: dict
) -> None:
    inverted = bench.invert(ideal, steps=4, latent=normal_clip)
    ours = bench.sample(ideal, inverted, steps=4)
    core = bench.run(
        bench.core("nodes", "KSamplerAdvanced"),
        model=ideal,
        add_noise="disable",
        noise_seed=0,
        steps=4,
        cfg=4.0,
        sampler_name="ddim",
        scheduler="ddim_uniform",
        positive=bench.edit,
        negative=bench.empty,
        latent_image=inverted,
        start_at_step=0,
        end_at_step=10_000,
        return_with_leftover_noise="disable",
    )["samples"]
    assert distance(core, ours) < 0.01


def test_sampling_with_other_steps_shows_the_network_the_same_noise(bench: Workbench, model) -> None:
    """The network sees x / sqrt(1 + sigma^2); that stays, though 4 steps start at another sigma than 10."""
    noise = bench.invert(model, steps=10)
    seen = []

    def watch(apply_model, about: dict) -> Tensor:
        x, sigma = about["input"], about["timestep"]
        seen.append((x / (1 + sigma[:, None, None, None] ** 2).sqrt()).cpu())
        return apply_model(x, sigma, **about["c"])

    watched = model.clone()
    watched.set_model_unet_function_wrapper(watch)
    bench.sample(watched, noise, steps=4, cfg=1.0)
    level = model.get_model_object("model_sampling").sigmas[901].cpu()
    expected = model.model.process_latent_in(noise["samples"]) / (1 + level**2).sqrt()
    assert distance(seen[0], expected) < 1e-5
    assert len(seen) == 4


def test_inversion_carries_the_clip_to_the_noise_level_of_its_last_timestep(bench: Workbench, model) -> None:
    for steps, last in ((4, 751), (30, 958), (1000, 999)):
        sigmas = bench.run("TAVDDIMSigmas", model=model, steps=steps, direction="inversion")
        assert len(sigmas) == steps + 1
        assert float(sigmas[-1]) == float(model.get_model_object("model_sampling").sigmas[last])
        down = bench.run("TAVDDIMSigmas", model=model, steps=steps, direction="sampling")
        assert torch.equal(down, sigmas.flip(0))


def test_sampling_starts_where_a_weaker_inversion_stopped(bench: Workbench, ideal, normal_clip: dict) -> None:
    levels = [
        bench.run("TAVDDIMSigmas", model=ideal, steps=20, direction=direction, strength=0.5)
        for direction in ("inversion", "sampling")
    ]
    assert len(levels[0]) == 11 and torch.equal(levels[0], levels[1].flip(0))
    whole = bench.run("TAVDDIMSigmas", model=ideal, steps=20, direction="inversion")
    assert torch.equal(levels[0], whole[:11])
    noise = bench.invert(ideal, steps=20, latent=normal_clip, strength=0.5)
    spread = float(ideal.model.process_latent_in(noise["samples"]).std())
    assert spread == pytest.approx(float((1 + whole[10] ** 2).sqrt()), rel=0.1)
    for steps in (20, 40):
        again = bench.sample(ideal, noise, steps=steps, cfg=1.0)
        assert distance(again, normal_clip["samples"]) < 0.05


def test_fresh_noise_goes_the_whole_way_whatever_the_inversion_did(bench: Workbench, model) -> None:
    weak, full = (bench.invert(model, steps=4, strength=strength) for strength in (0.5, 1.0))
    drawn = [bench.sample(model, noise, steps=4, start="random noise") for noise in (weak, full)]
    assert torch.equal(*drawn)


@pytest.fixture(params=["TAVDDIMInversion", "TAVSample"])
def run(request: pytest.FixtureRequest, bench: Workbench, model, inverted: dict):
    """Either node, for four steps; its latents."""
    if request.param == "TAVSample":
        return lambda: bench.sample(model, inverted, steps=4)
    return lambda: bench.invert(model, steps=4)["samples"]


@pytest.fixture
def bar(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Where ComfyUI's progress bar was, as (done, total)."""
    moves: list[tuple[int, int]] = []
    progress = importlib.import_module("comfy.utils").ProgressBar
    monkeypatch.setattr(
        progress, "update_absolute", lambda self, done, total=None, *rest: moves.append((done, total))
    )
    return moves


def test_every_step_moves_the_bar_and_is_previewed(bench: Workbench, run, bar: list, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(bench.pack("nodes.comfy.page.live").Reporter, "due", lambda self: True)
    monkeypatch.setattr(
        bench.pack("nodes.comfy.sampling.preview").ClipPreview,
        "sheet",
        lambda self, denoised: seen.append((tuple(denoised.shape), bool(denoised.isfinite().all()))),
    )
    run()
    assert bar == [(step, 4) for step in (1, 2, 3, 4)]
    assert seen == [((3, 4, 8, 8), True)] * 4


class BatchPreviewer:
    """As other packs have it: all frames as one tensor."""

    def decode_latent_to_preview(self, latents: Tensor) -> Tensor:
        return torch.zeros(len(latents), 8, 8, 3)


class BrokenPreviewer:
    def decode_latent_to_preview(self, latents: Tensor) -> None:
        raise RuntimeError("a previewer of another pack")


def no_previewer(*_) -> None:
    raise RuntimeError("a previewer of another pack")


@pytest.mark.parametrize("make", [lambda *_: BatchPreviewer(), lambda *_: BrokenPreviewer(), no_previewer])
def test_another_pack_s_previewer_never_ends_a_run(bench: Workbench, run, make, monkeypatch, caplog) -> None:
    plain = run()
    monkeypatch.setattr(bench.pack("nodes.comfy.page.live").Reporter, "due", lambda self: True)
    monkeypatch.setattr(importlib.import_module("latent_preview"), "get_previewer", make)
    caplog.clear()
    assert torch.equal(run(), plain)
    warnings = [record.getMessage() for record in caplog.records if "preview" in record.getMessage()]
    assert len(warnings) == 1
    (state,) = bench.pack("nodes.comfy.page.live").LIVE_STATES.shown("")
    assert state["sheet"]["frames"] == 3, "the page still gets the latents as colours"


def test_stop_works_in_the_middle_and_leaves_no_trace(run, bar: list, monkeypatch) -> None:
    management, utils = (importlib.import_module(n) for n in ("comfy.model_management", "comfy.utils"))
    plain = run()
    bar.clear()

    def stop_at_two(self, done, *rest) -> None:
        bar.append(done)
        if done == 2:
            management.interrupt_current_processing(True)

    with monkeypatch.context() as patched:
        patched.setattr(utils.ProgressBar, "update_absolute", stop_at_two)
        with pytest.raises(management.InterruptProcessingException):
            run()
    assert bar == [1, 2]
    assert torch.equal(run(), plain)


@pytest.mark.parametrize("start", ["random noise", "one noise for all frames"])
def test_noise_starts_are_seeded(bench: Workbench, model, start: str) -> None:
    first, again, other = (bench.sample(model, bench.latent, start=start, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_noise_has_the_level_of_the_first_step_and_may_be_shared(bench: Workbench) -> None:
    make = bench.pack("nodes.comfy.sampling.ddim").noise
    like = torch.zeros(4, 4, 32, 32)
    for shared in (False, True):
        noise = bench.model.model.process_latent_in(make(bench.model, like, 3, 10.0, shared))
        assert noise.shape == like.shape
        assert abs(float(noise.std()) / 101**0.5 - 1) < 0.05
        assert bool((noise == noise[:1]).all()) == shared


def test_eta_adds_seeded_noise_and_zero_adds_none(
    bench: Workbench, model, inverted: dict, sampled: Tensor
) -> None:
    assert torch.equal(bench.sample(model, inverted, steps=4, seed=99), sampled)
    first, again, other = (bench.sample(model, inverted, steps=4, eta=0.5, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, sampled)


def test_a_mask_on_the_clip_is_not_inverted_around(bench: Workbench, model, inverted: dict, caplog) -> None:
    mask = torch.zeros(3, 64, 64)
    mask[:, :32] = 1.0
    noise = bench.invert(model, steps=4, latent={**bench.latent, "noise_mask": mask})
    assert torch.equal(noise["samples"], inverted["samples"])
    assert "noise_mask" not in noise
    assert "noise mask is left out" in caplog.text
    bench.sample(model, {**inverted, "noise_mask": mask}, steps=4)
    assert "connect the mask to the input 'mask'" in caplog.text


def test_the_result_of_sampling_is_no_inverted_noise_any_more(
    bench: Workbench, model, inverted: dict
) -> None:
    result = bench.run(
        "TAVSample",
        model=model,
        positive=bench.edit,
        negative=bench.empty,
        latent=inverted,
        steps=4,
        cfg=1.0,
        seed=0,
        start="inverted clip",
        eta=0.0,
    )
    assert set(result) == {"samples"}


def test_guided_inversion_uses_the_negative_prompt(bench: Workbench, model, inverted: dict) -> None:
    guided = bench.invert(model, steps=4, cfg=3.0, negative=bench.source)
    assert not torch.equal(guided["samples"], inverted["samples"])
    same = bench.invert(model, steps=4, cfg=3.0, negative=bench.empty)
    assert distance(same["samples"], inverted["samples"]) < 1e-4
