"""Inputs that are of the right type and wrong all the same: one sentence, or they work."""

from __future__ import annotations

import math

import pytest
import torch
from workbench import Workbench, assert_plain

from tav_core.video.read import select


def test_a_checkpoint_without_a_text_encoder_is_told(bench: Workbench) -> None:
    with pytest.raises(ValueError) as caught:
        bench.run("TAVPromptSchedule", clip=None, prompts="0: a cat", frame_count=3, blend=True)
    assert_plain(str(caught.value), "'clip'", "text encoder")


def test_an_empty_prompt_is_a_prompt(bench: Workbench) -> None:
    _, weights, loss = bench.tune(positive=bench.empty, steps=1)
    assert weights.tensors and all(map(math.isfinite, loss["loss"]))
    noise = bench.invert(bench.inflate())
    assert bool(bench.sample(bench.inflate(), noise, positive=bench.empty).isfinite().all())
    ((frames, _),) = bench.run("TAVPromptSchedule", clip=bench.clip, prompts="0:", frame_count=2, blend=True)
    assert len(frames) == 2


def test_an_empty_schedule_is_told(bench: Workbench) -> None:
    node = bench.node("TAVPromptSchedule")
    for text in ("", "\n \n", "a cat"):
        assert_plain(
            node.validate_inputs(prompts=text),
            "'prompts'",
            "0: a man is skiing" if not text.strip() else "colon",
        )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int32"])
def test_latents_and_prompts_of_another_dtype_work(bench: Workbench, dtype: str) -> None:
    kind = getattr(torch, dtype)
    latent = {"samples": (bench.latent["samples"] * 4).round().to(kind)}
    same = {"samples": latent["samples"].float()}
    prompt = bench.source
    if kind.is_floating_point:
        prompt = [[prompt[0][0].to(kind), prompt[0][1]]]
    _, weights, loss = bench.tune(latent=latent, positive=prompt, steps=1)
    assert weights.tensors and math.isfinite(loss["loss"][0])
    inflated = bench.inflate()
    noise = bench.invert(inflated, latent=latent)
    expected = bench.invert(inflated, latent=same)["samples"]
    assert float((noise["samples"].float() - expected).abs().max()) < 0.1
    assert bool(bench.sample(inflated, noise, positive=prompt).isfinite().all())


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (1, 40), (9, 3)], ids=str)
def test_clips_of_odd_sizes_go_the_whole_way(bench: Workbench, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    latent = {"samples": torch.randn(3, 4, *size, generator=generator)}
    tuned = bench.tune(latent=latent, steps=1)[0]
    noise = bench.invert(tuned, latent=latent)
    assert bench.sample(tuned, noise).shape == (3, 4, *size)


@pytest.mark.parametrize("shape", [(400, 3), (3, 400), (1, 1), (333, 77)], ids=str)
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_frames_of_any_aspect_are_fitted(shape: tuple[int, int], fit: str) -> None:
    frames, _ = select(torch.rand(2, *shape, 3), count=2, size=(64, 48), fit=fit)
    assert frames.shape == (2, 48, 64, 3) and bool(frames.isfinite().all())
    kept, _ = select(torch.rand(2, *shape, 3), count=2, fit=fit)
    assert all(side % 8 == 0 for side in kept.shape[1:3])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_prompt_that_is_no_number_is_told_with_the_step(bench: Workbench, value: float) -> None:
    """A text encoder that overflows in fp16, say; frames would be black."""
    embedding = bench.source[0][0].clone()
    embedding[0, 1] = value
    broken = [[embedding, bench.source[0][1]]]
    noise = bench.invert(bench.inflate())
    for work in (
        lambda: bench.tune(positive=broken),
        lambda: bench.invert(bench.inflate(), conditioning=broken),
        lambda: bench.sample(bench.inflate(), noise, positive=broken),
    ):
        with pytest.raises((ValueError, ArithmeticError)) as caught:
            work()
        assert_plain(str(caught.value), "step 1", "bf16 or fp32")


def test_a_mask_that_is_no_number_is_told(bench: Workbench) -> None:
    noise = bench.invert(bench.inflate(), keep_trajectory=True)
    with pytest.raises(ValueError) as caught:
        bench.sample(bench.inflate(), noise, mask=torch.full((1, 64, 64), math.nan))
    assert_plain(str(caught.value), "'mask'", "not finite")


def test_a_model_that_overflows_is_told_with_the_step(bench: Workbench) -> None:
    """As Stable Diffusion 2.1 does in fp16 with some attention."""
    noise = bench.invert(bench.inflate())
    broken = bench.inflate()
    broken.set_model_unet_function_wrapper(
        lambda apply, given: apply(given["input"], given["timestep"], **given["c"]) * math.inf
    )
    for work in (lambda: bench.invert(broken), lambda: bench.sample(broken, noise)):
        with pytest.raises(ValueError) as caught:
            work()
        assert_plain(str(caught.value), "no longer finite", "step 1 of 2", "DDIM")


def test_single_precision_is_what_weights_must_fit_in(bench: Workbench, tmp_path) -> None:
    from safetensors.torch import save_file

    weights = bench.weights()
    tensors = {name: tensor.double() for name, tensor in weights.tensors.items()}
    next(iter(tensors.values()))[0, 0] = 1e300
    save_file(tensors, tmp_path / "large.safetensors", weights.metadata.to_header())
    with pytest.raises(ValueError, match="not finite"):
        type(weights).load(tmp_path / "large.safetensors")
