"""Core's context windows, and evaluation in chunks of frames, on an inflated MODEL; no server."""

from __future__ import annotations

import importlib
import logging

import pytest
import torch
from torch import Tensor
from workbench import Workbench, distance

from tav_core.tuning.memory import AllocationMeter

FRAMES = 9
WINDOW = 4


@pytest.fixture(scope="module")
def tuned(bench: Workbench):
    """An inflated model with made-up tuned weights."""
    return bench.apply(bench.weights(scale=0.02), model=bench.inflate())


@pytest.fixture(scope="module")
def frames() -> Tensor:
    """Noise for every frame, in the network's scale."""
    return torch.randn(FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(11)) * 5


def windows(bench: Workbench, model, length: int = WINDOW, **changes):
    """Core's node."""
    node = bench.core("comfy_extras.nodes_context_windows", "ContextWindowsManualNode")
    known = {
        "context_length": length,
        "context_overlap": 0,
        "context_schedule": "batched",
        "context_stride": 1,
        "closed_loop": False,
        "fuse_method": "pyramid",
        "dim": 0,
        "freenoise": False,
    }
    return bench.run(node, model=model, **(known | changes))


@torch.inference_mode()
def answer(bench: Workbench, model, x: Tensor, positive: list | None = None, cfg: float = 1.0) -> Tensor:
    """What `model` takes for the clean latents of `x`, evaluated once by core's sampler."""
    samplers, sampling = (importlib.import_module(f"comfy.{name}") for name in ("samplers", "sample"))
    sigmas = torch.tensor([5.0, 0.0])
    denoised = sampling.sample_custom(
        model,
        x / 5,
        cfg,
        samplers.sampler_object("euler"),
        sigmas,
        positive or bench.edit,
        bench.empty,
        torch.zeros_like(x),
        disable_pbar=True,
        seed=0,
    )
    return model.model.process_latent_in(denoised)


def per_frame(bench: Workbench, total: int = FRAMES) -> list:
    """A prompt of its own for every frame."""
    (source, options), (edit, _) = bench.source[0], bench.edit[0]
    share = torch.linspace(0, 1, total).view(-1, 1, 1)
    return [[torch.lerp(source, edit, share), dict(options)]]


def hinted(bench: Workbench, hints: Tensor, positive: list | None = None) -> tuple[list, list]:
    """A conditioning with two ControlNets that write their hints into the network, and the hints they got."""
    base = bench.core("comfy.controlnet", "ControlBase")
    middle = bench.model.model.diffusion_model.middle_block[0].out_channels
    seen = []

    class Control(base):
        def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
            before = None
            if self.previous_controlnet is not None:
                before = self.previous_controlnet.get_control(
                    x_noisy, t, cond, batched_number, transformer_options
                )
            if self.cond_hint is None:
                self.cond_hint = self.cond_hint_original
            hint = self.cond_hint
            if len(hint) != len(x_noisy):
                hint = bench.core("comfy.controlnet", "broadcast_image_to")(
                    hint, len(x_noisy), batched_number
                )
            seen.append(hint[:, 0, 0, 0].tolist())
            push = hint[:, :1, :1, :1].expand(-1, middle, -1, -1).clone() * 0.1
            return self.control_merge({"input": [], "middle": [push], "output": []}, before, None)

    inner, outer = Control(), Control()
    inner.set_cond_hint(hints * 0.5)
    outer.set_cond_hint(hints).set_previous_controlnet(inner)
    text, options = (positive or bench.edit)[0]
    return [[text, {**options, "control": outer, "control_apply_to_uncond": True}]], seen


CUTS = {  # each window of four frames, and what has to go before it
    "first+previous": [([], range(4)), ([0, 3], range(4, 8)), ([0, 7], range(8, 9))],
    "first": [([], range(4)), ([0], range(4, 8)), ([0], range(8, 9))],
    "previous": [([], range(4)), ([3], range(4, 8)), ([7], range(8, 9))],
    "all": [([], range(4)), ([0, 3], range(4, 8)), ([0, 7], range(8, 9))],
    "off": [([], range(4)), ([], range(4, 8)), ([], range(8, 9))],
}


def causal(bench: Workbench, on: bool) -> dict:
    """Newer versions of core put the frame before a window in front of it themselves."""
    node = bench.core("comfy_extras.nodes_context_windows", "ContextWindowsManualNode")
    known = {value.id for value in node.define_schema().inputs}
    return {"causal_window_fix": on} if "causal_window_fix" in known else {}


# Windows


@pytest.mark.parametrize("length", [FRAMES, FRAMES + 3])
@pytest.mark.parametrize("schedule", ["standard_static", "standard_uniform", "batched"])
def test_windows_as_long_as_the_clip_are_no_windows_bit_for_bit(bench, tuned, frames, length, schedule):
    windowed = windows(bench, tuned, length, context_schedule=schedule)
    assert torch.equal(answer(bench, windowed, frames), answer(bench, tuned, frames))


@pytest.mark.parametrize("attention", CUTS)
def test_a_window_is_drawn_as_a_clip_that_begins_as_the_whole(bench, frames, attention):
    """Against the same model on a clip put together by hand: first frame, the one before, the window's."""
    tuned = bench.inflate(bench.apply(bench.weights(scale=0.02)), attention=attention)
    windowed = windows(bench, tuned, **causal(bench, False))
    y = answer(bench, windowed, frames)
    for before, own in CUTS[attention]:
        expected = answer(bench, tuned, frames[[*before, *own]])[len(before) :]
        torch.testing.assert_close(y[list(own)], expected, rtol=1e-5, atol=1e-4)


def test_core_s_own_frame_before_a_window_is_not_put_there_twice(bench, tuned, frames):
    if not causal(bench, True):
        pytest.skip("this ComfyUI's context windows know no causal_window_fix")
    with_fix = answer(bench, windows(bench, tuned, **causal(bench, True)), frames)
    without = answer(bench, windows(bench, tuned, **causal(bench, False)), frames)
    torch.testing.assert_close(with_fix, without, rtol=1e-5, atol=1e-4)


def test_the_first_frame_reaches_the_last_window(bench, tuned, frames):
    other = frames.clone()
    other[0] = -other[0]
    windowed = windows(bench, tuned)
    assert distance(answer(bench, windowed, other)[8], answer(bench, windowed, frames)[8]) > 1e-3


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_prompts_and_hints_are_those_of_the_window_s_frames(bench, tuned, frames, cfg):
    hints = torch.arange(float(FRAMES)).view(-1, 1, 1, 1).expand(-1, 3, 64, 64) + 1
    positive, seen = hinted(bench, hints, per_frame(bench))
    y = answer(bench, windows(bench, tuned), frames, positive, cfg)
    batched = {row for rows in seen for row in rows}
    assert batched == {i + 1 for i in range(FRAMES)} | {(i + 1) / 2 for i in range(FRAMES)}
    for before, own in CUTS["first+previous"]:
        cut = [*before, *own]
        (text, options) = per_frame(bench)[0]
        expected, _ = hinted(bench, hints[cut], [[text[cut], options]])
        expected = answer(bench, tuned, frames[cut], expected, cfg)[len(before) :]
        torch.testing.assert_close(y[list(own)], expected, rtol=1e-5, atol=1e-4)


def test_one_hint_for_all_frames_stays_one(bench, tuned, frames):
    one, seen = hinted(bench, torch.full((1, 3, 64, 64), 2.0))
    each, _ = hinted(bench, torch.full((FRAMES, 3, 64, 64), 2.0))
    y = answer(bench, windows(bench, tuned), frames, one)
    torch.testing.assert_close(y, answer(bench, windows(bench, tuned), frames, each), rtol=1e-5, atol=1e-4)
    assert {row for rows in seen for row in rows} == {1.0, 2.0}


def test_a_control_net_is_what_it_was_after_windows(bench, tuned, frames):
    hints = torch.rand(FRAMES, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    positive, _ = hinted(bench, hints)
    control = positive[0][1]["control"]
    whole = answer(bench, tuned, frames, positive)
    answer(bench, windows(bench, tuned), frames, positive)
    assert control.cond_hint_original is hints
    assert torch.equal(answer(bench, tuned, frames, positive), whole)


def test_core_s_node_may_come_before_or_after_ours(bench, frames):
    weights = bench.weights(scale=0.02)
    before = bench.apply(weights, model=bench.inflate(windows(bench, bench.model)))
    after = windows(bench, bench.apply(weights, model=bench.inflate()))
    assert torch.equal(answer(bench, before, frames), answer(bench, after, frames))


def test_the_windows_of_other_models_stay_core_s(bench, frames):
    """Neither core's handler nor the MODEL that it is on learn of ours."""
    plain = windows(bench, bench.model)
    expected = answer(bench, plain, frames)
    handler = plain.model_options["context_handler"]
    kept = dict(handler.__dict__)
    inflated = bench.inflate(plain)
    answer(bench, inflated, frames)
    assert inflated.model_options["context_handler"] is handler
    assert handler.__dict__.keys() == kept.keys()
    assert handler.callbacks == {}
    assert torch.equal(answer(bench, plain, frames), expected)


def test_windows_over_other_dimensions_are_left_to_core(bench, tuned):
    strips = windows(bench, tuned, 4, dim=2)
    (wrapper,) = strips.get_wrappers("predict_noise", "tune_a_video")
    for model, is_core_s in ((strips, True), (tuned, True), (windows(bench, tuned), False)):
        given = model.model_options
        used = wrapper(lambda x, timestep, options, seed: options, None, None, given)
        assert (used.get("context_handler") is given.get("context_handler")) == is_core_s


@pytest.mark.parametrize("schedule", ["standard_static", "standard_uniform", "looped_uniform"])
@pytest.mark.parametrize("fuse", ["pyramid", "relative", "flat"])
def test_overlaps_are_blended_by_core(bench, tuned, frames, schedule, fuse):
    windowed = windows(
        bench,
        tuned,
        context_overlap=2,
        context_stride=2,
        closed_loop=True,
        context_schedule=schedule,
        fuse_method=fuse,
    )
    y = answer(bench, windowed, frames)
    assert bool(torch.isfinite(y).all())
    assert distance(y, answer(bench, tuned, frames)) < 0.5


def test_inversion_and_sampling_run_in_windows(bench, tuned, frames):
    latent = {"samples": frames / 5}
    whole = bench.invert(tuned, latent=latent)
    same = bench.invert(windows(bench, tuned, FRAMES), latent=latent)
    assert torch.equal(whole["samples"], same["samples"])
    windowed = windows(bench, tuned, context_overlap=2, context_schedule="standard_static")
    noise = bench.invert(windowed, latent=latent, keep_trajectory=True)
    assert not torch.equal(noise["samples"], whole["samples"])
    assert distance(noise["samples"], whole["samples"]) < 0.3
    rebuilt = bench.sample(windowed, noise, positive=bench.empty, cfg=1.0)
    assert distance(rebuilt, latent["samples"]) < distance(
        bench.sample(tuned, noise, positive=bench.empty, cfg=1.0), latent["samples"]
    )


# Chunks


@pytest.mark.parametrize("attention", ["first+previous", "all", "off"])
@pytest.mark.parametrize("norm", ["joint", "per frame"])
def test_chunks_give_the_result_of_the_whole(bench, frames, attention, norm):
    weights = bench.apply(bench.weights(scale=0.02))
    whole = answer(bench, bench.inflate(weights, attention, norm), frames, per_frame(bench), 4.0)
    for chunk in (1, 4):
        inputs = {"model": weights, "attention": attention, "norm": norm, "chunk_frames": chunk}
        y = answer(bench, bench.run("TAVInflateModel", **inputs), frames, per_frame(bench), 4.0)
        assert distance(y, whole) < 1e-5


def test_chunks_stay_chunks_when_weights_are_applied_and_end_when_asked(bench, tuned, frames, monkeypatch):
    chunking = bench.pack("nodes.comfy.model.inflate")
    counted = []
    attach = chunking.attach_chunked
    monkeypatch.setattr(chunking, "attach_chunked", lambda *args: (counted.append(args[-1]), attach(*args)))
    model = bench.run(
        "TAVInflateModel", model=bench.model, attention="first+previous", norm="joint", chunk_frames=2
    )
    applied = bench.apply(bench.weights(scale=0.02), model=model)
    assert distance(answer(bench, applied, frames), answer(bench, tuned, frames)) < 1e-5
    assert counted == [2]
    answer(bench, bench.inflate(applied), frames)
    assert counted == [2]


def test_chunks_live_with_control_patches_and_windows(bench, tuned, frames):
    hints = torch.arange(float(FRAMES)).view(-1, 1, 1, 1).expand(-1, 3, 64, 64) + 1

    def drawn(model, windowed: bool) -> Tensor:
        model = bench.run(
            bench.core("comfy_extras.nodes_freelunch", "FreeU"), model=model, b1=1.1, b2=1.2, s1=0.9, s2=0.2
        )
        model = bench.run(
            bench.core("comfy_extras.nodes_pag", "PerturbedAttentionGuidance"), model=model, scale=3.0
        )
        positive, _ = hinted(bench, hints, per_frame(bench))
        return answer(bench, windows(bench, model) if windowed else model, frames, positive, 4.0)

    chunked = bench.run(
        "TAVInflateModel", model=tuned, attention="first+previous", norm="joint", chunk_frames=2
    )
    for windowed in (False, True):
        assert distance(drawn(chunked, windowed), drawn(tuned, windowed)) < 1e-5


def test_a_model_is_clean_after_chunks(bench, frames):
    unet = bench.model.model.diffusion_model
    before = {name: set(module.__dict__) for name, module in unet.named_modules()}
    model = bench.run(
        "TAVInflateModel", model=bench.model, attention="first+previous", norm="joint", chunk_frames=2
    )
    answer(bench, model, frames)
    assert {name: set(module.__dict__) for name, module in unet.named_modules()} == before


# Memory


def test_memory_is_flat_in_windows_and_smaller_in_chunks(bench, tuned):
    """Of tensors: what the heap keeps of them depends on all that ran before in this process."""

    def drawn(model, count: int) -> float:
        x = torch.randn(count, 4, 16, 16, generator=torch.Generator().manual_seed(1))
        with AllocationMeter() as meter:
            answer(bench, model, x)
        return meter.peak / 2**20

    chunked = bench.run(
        "TAVInflateModel", model=tuned, attention="first+previous", norm="joint", chunk_frames=4
    )
    windowed = windows(bench, tuned, 16, context_overlap=4, context_schedule="standard_static")
    drawn(windowed, 32)  # loading the network is not counted
    whole, chunks = drawn(tuned, 64), drawn(chunked, 64)
    flat = {count: drawn(windowed, count) for count in (32, 64, 128)}
    figures = f"whole {whole:.0f}, chunks {chunks:.0f}, windows {flat} MB"
    logging.getLogger(__name__).info(figures)
    assert chunks < 0.7 * whole, figures
    assert max(flat.values()) < 0.5 * whole, figures
    assert flat[128] < 1.25 * flat[32] + 2, figures
