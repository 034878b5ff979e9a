"""Inflate Model inside ComfyUI: exact where it must change nothing, right where it changes something."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from workbench import Workbench, distance

FRAMES = 3


@pytest.fixture(scope="module")
def plain(bench: Workbench) -> Tensor:
    return bench.draw(bench.model)


@pytest.fixture(scope="module")
def tuned(bench: Workbench):
    return bench.apply(bench.weights())


class FramesByHand:
    """diffusers attention processor: every frame's keys and values picked by plain loops."""

    sources: ClassVar[dict[str, Callable[[int, int], list[int]]]] = {
        "first+previous": lambda i, n: [0, max(i - 1, 0)],
        "first": lambda i, n: [0],
        "previous": lambda i, n: [max(i - 1, 0)],
        "all": lambda i, n: list(range(n)),
        "off": lambda i, n: [i],
    }

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **kwargs):
        outputs = []
        for i in range(len(hidden_states)):
            picked = [hidden_states[j] for j in self.sources[self.mode](i, len(hidden_states))]
            q = attn.to_q(hidden_states[i])
            k, v = (layer(torch.cat(picked)) for layer in (attn.to_k, attn.to_v))
            heads = [t.unflatten(-1, (attn.heads, -1)).transpose(0, 1) for t in (q, k, v)]
            weights = (heads[0] @ heads[1].transpose(1, 2) / heads[0].shape[-1] ** 0.5).softmax(-1)
            outputs.append(attn.to_out[0]((weights @ heads[2]).transpose(0, 1).flatten(1)))
        return torch.stack(outputs)


@pytest.fixture(scope="module")
def reference(bench: Workbench):
    """reference(x, timestep, context, attention, norm): diffusers' UNet with the same weights, changed by hand."""
    from diffusers.models.resnet import ResnetBlock2D

    from devkit.world.models import build_unet

    names = importlib.import_module("comfy.utils").unet_to_diffusers(
        bench.model.model.model_config.unet_config
    )
    weights = bench.model.model.diffusion_model.state_dict()

    def answer(x: Tensor, timestep: int, context: Tensor, attention: str, norm: str) -> Tensor:
        unet = build_unet().eval()
        unet.load_state_dict({name: weights[names[name]].clone().cpu().float() for name in unet.state_dict()})
        for name, module in unet.named_modules():
            if name.endswith(".attn1"):
                module.set_processor(FramesByHand(attention))
        if norm == "joint":
            norms = [n for m in unet.modules() if isinstance(m, ResnetBlock2D) for n in (m.norm1, m.norm2)]
            for layer in [*norms, unet.conv_norm_out]:
                layer.forward = over_frames(layer)
        with torch.no_grad():
            return unet(x, timestep, context.expand(len(x), -1, -1)).sample

    def over_frames(layer):
        def forward(x: Tensor) -> Tensor:
            video = x.transpose(0, 1)[None]  # (1, channels, frames, height, width)
            return functional.group_norm(video, layer.num_groups, layer.weight, layer.bias, layer.eps)[
                0
            ].transpose(0, 1)

        return forward

    return answer


def test_attention_off_and_norm_per_frame_is_the_image_model(bench: Workbench, plain: Tensor) -> None:
    assert torch.equal(bench.draw(bench.inflate(attention="off", norm="per frame")), plain)


@pytest.mark.parametrize("norm", ["joint", "per frame"])
@pytest.mark.parametrize("attention", ["first+previous", "first", "previous", "all", "off"])
def test_modes_equal_a_reference_written_by_hand(
    bench: Workbench, reference, attention: str, norm: str
) -> None:
    x, ours = bench.answer(bench.inflate(attention=attention, norm=norm), 500)
    theirs = reference(x.clone(), 500, bench.edit[0][0].clone(), attention, norm)
    assert distance(ours, theirs) < 1e-5
    if (attention, norm) != ("off", "per frame"):
        assert distance(bench.answer(bench.model, 500)[1], theirs) > 1e-3


def test_guidance_keeps_the_two_clips_of_a_batch_apart(bench: Workbench, reference) -> None:
    x, ours = bench.answer(bench.inflate(), 300, cfg=4.0)
    without, with_prompt = (
        reference(x.clone(), 300, prompt[0][0].clone(), "first+previous", "joint")
        for prompt in (bench.empty, bench.edit)
    )
    assert distance(ours, without + 4.0 * (with_prompt - without)) < 1e-5


def test_base_and_other_clones_stay_as_they_are(bench: Workbench, plain: Tensor) -> None:
    other = bench.inflate(attention="first")
    before = bench.draw(other)
    changed = bench.draw(bench.inflate())
    assert not torch.equal(before, changed)
    assert not torch.equal(plain, changed)
    assert torch.equal(bench.draw(other), before)
    assert torch.equal(bench.draw(bench.model), plain)


def test_inflating_again_replaces_the_first_time(bench: Workbench) -> None:
    twice = bench.inflate(bench.inflate(attention="all", norm="joint"), "first", "per frame")
    assert torch.equal(bench.draw(twice), bench.draw(bench.inflate(attention="first", norm="per frame")))
    off = bench.inflate(bench.inflate(), "off", "per frame")
    assert torch.equal(bench.draw(off), bench.draw(bench.model))


def test_inflating_a_tuned_model_changes_its_mode_and_keeps_what_was_learned(bench: Workbench) -> None:
    weights = bench.weights()
    changed = bench.inflate(bench.apply(weights), "first", "per frame")
    other = bench.weights(attention="first", norm="per frame")
    assert torch.equal(bench.draw(changed), bench.draw(bench.apply(other)))


def test_weight_patches_work_before_and_after(bench: Workbench) -> None:
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_k.weight"
    patch = {key: ("diff", (torch.randn(bench.model.get_key_patches(key)[key][0][0].shape) * 0.1,))}

    def patched(model):
        model = model.clone()
        assert model.add_patches(patch, 0.7)
        return model

    before, after = bench.draw(bench.inflate(patched(bench.model))), bench.draw(patched(bench.inflate()))
    assert torch.equal(before, after)
    assert not torch.equal(before, bench.draw(bench.inflate()))


@pytest.mark.parametrize("loaded", [False, True], ids=["never loaded", "loaded"])
def test_a_clone_dropped_in_mid_sampling_takes_nothing_along(
    bench: Workbench, plain: Tensor, tuned, loaded: bool
) -> None:
    undisturbed = bench.draw(tuned, steps=3)
    dropped = []

    def make_and_drop() -> None:
        other = bench.apply(bench.weights(seed=1))
        clone = tuned.clone()
        if loaded:
            bench.draw(other, steps=1)
            bench.draw(clone, steps=1)
        bystanders.extend([other, clone])

    bystanders: list = []
    make_and_drop()

    def drop(step: int, *rest: object) -> None:
        if step == 0:
            dropped.append(len(bystanders))
            bystanders.clear()
            gc.collect()

    assert torch.equal(bench.draw(tuned, steps=3, callback=drop), undisturbed)
    assert dropped == [2]
    assert torch.equal(bench.draw(bench.model), plain)
    assert torch.equal(bench.draw(tuned, steps=3), undisturbed)


def test_unloading_in_between_changes_nothing(bench: Workbench, plain: Tensor, tuned) -> None:
    before = bench.draw(tuned)
    importlib.import_module("comfy.model_management").unload_all_models()
    assert torch.equal(bench.draw(tuned), before)
    importlib.import_module("comfy.model_management").unload_all_models()
    assert torch.equal(bench.draw(bench.model), plain)


def test_one_frame_is_the_image_model_in_every_mode(bench: Workbench) -> None:
    plain = bench.draw(bench.model, frames=1)
    for attention in ("first+previous", "first", "previous", "all"):
        assert torch.equal(bench.draw(bench.inflate(attention=attention), frames=1), plain)
