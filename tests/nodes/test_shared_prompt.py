"""Prompts that all frames share are projected once; others are not."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from workbench import Workbench, distance

FRAMES = 3


@pytest.fixture(scope="module")
def bench(pack, tiny_checkpoint) -> Workbench:
    return Workbench(pack, tiny_checkpoint)


@pytest.fixture
def rows(bench: Workbench) -> list[int]:
    """How many contexts each call of one block's cross-attention projects to keys."""
    seen: list[int] = []
    unet = bench.model.model.diffusion_model
    block = next(module for name, module in unet.named_modules() if name.endswith("transformer_blocks.0"))
    hook = block.attn2.to_k.register_forward_hook(lambda module, args, out: seen.append(len(args[0])))
    yield seen
    hook.remove()


def per_frame(bench: Workbench) -> list:
    """A prompt with an embedding for each frame."""
    ((one, options),) = bench.edit
    ((other, _),) = bench.source
    return [[torch.cat([one, other, one]), options]]


def with_patch(model: Any, patch: Callable) -> Any:
    clone = model.clone()
    clone.set_model_attn2_patch(patch)
    return clone


def drawn(bench: Workbench, model: Any, positive: list | None = None) -> Tensor:
    latent = bench.invert(bench.inflate())
    return bench.sample(model, latent, **({} if positive is None else {"positive": positive}))


@pytest.mark.parametrize("recipe", ["inflated", "tuned", "attention off"])
def test_one_prompt_is_projected_once_a_clip_and_changes_nothing(
    bench: Workbench, rows: list[int], recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made() -> Any:
        if recipe == "tuned":
            return bench.apply(bench.weights())
        return bench.inflate(attention="off") if recipe == "attention off" else bench.inflate()

    fast = bench.draw(made())
    assert set(rows) == {2}, "the prompt and the negative one"
    rows.clear()
    monkeypatch.setattr(bench.pack("nodes.host.inflate"), "attach_shared_prompts", lambda *_: None)
    plain = bench.draw(made())
    assert set(rows) == {2 * FRAMES}
    assert distance(fast, plain) < 1e-5


def test_prompts_of_their_own_for_frames_are_all_projected(bench: Workbench, rows: list[int]) -> None:
    model = bench.inflate()
    one = drawn(bench, model)
    rows.clear()
    own = drawn(bench, model, per_frame(bench))
    assert rows[-1] == 2 * FRAMES
    # The third frame has the same prompt as before, and looks at the second, which has another.
    assert all(distance(own[i], one[i]) > 1e-4 for i in (1, 2))


def test_a_patch_of_the_context_sees_and_may_change_every_row(bench: Workbench, rows: list[int]) -> None:
    shapes = []

    def patch(n: Tensor, context: Tensor, value: Tensor, options: dict) -> tuple[Tensor, Tensor, Tensor]:
        shapes.append(len(context))
        scale = torch.linspace(0, 1, len(context)).view(-1, 1, 1)
        return n, context * scale, value * scale

    model = with_patch(bench.inflate(), patch)
    changed = bench.draw(model)
    assert set(shapes) == set(rows) == {2 * FRAMES}
    assert distance(changed, bench.draw(bench.inflate())) > 1e-4


def test_several_prompts_and_guiders_of_other_kinds(bench: Workbench) -> None:
    """What core does with two prompts at once, and a guider that keeps no conditions where core's does."""
    two = [*bench.edit, *bench.source]
    model = bench.inflate()
    assert bool(drawn(bench, model, two).isfinite().all())
    shared = bench.pack("nodes.host.shared_prompt")
    options = {}

    class Executor:
        class_obj = object()

        def __call__(self, x: Tensor, timestep: Tensor, model_options: dict, seed: int | None) -> Tensor:
            options.update(model_options["transformer_options"])
            return x

    shared.SharedPrompts()(Executor(), torch.zeros(3, 4, 8, 8), torch.zeros(3), {"transformer_options": {}})
    assert options == {shared._SHARED: False}


def test_a_single_picture_is_left_alone(bench: Workbench, rows: list[int]) -> None:
    sampling = importlib.import_module("comfy.sample")
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        sampling.sample(
            bench.inflate(),
            noise,
            1,
            4.0,
            "euler",
            "normal",
            bench.edit,
            bench.empty,
            noise,
            disable_pbar=True,
            seed=1,
        )
    assert set(rows) == {2}
