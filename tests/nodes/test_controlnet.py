"""Core's ControlNet and T2I-Adapter with one hint per frame: in sampling, tuned or not, and in inversion."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from workbench import Workbench, assert_plain, distance

from devkit.world.checkpoint import load_checkpoint
from devkit.world.variants import build_controlnet, save_controlnet

FRAMES = 3


@pytest.fixture(scope="module")
def controlnet(bench: Workbench, tiny_checkpoint: Path, tmp_path_factory):
    """A ControlNet of the small layout by core's loader. Its random weights make every hint plainly seen."""
    path = tmp_path_factory.mktemp("control") / "random.safetensors"
    generator = torch.Generator().manual_seed(0)
    control = build_controlnet(load_checkpoint(tiny_checkpoint).unet)
    with torch.no_grad():
        for name, parameter in control.named_parameters():
            if name.startswith("controlnet_") and parameter.ndim > 1:
                spread = (2 / parameter[0].numel()) ** 0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    save_controlnet(control, path)
    return importlib.import_module("comfy.controlnet").load_controlnet(str(path))


@pytest.fixture(scope="module")
def adapter(bench: Workbench):
    """Core's T2I-Adapter around a small network: one map for the first of the UNet's resolutions."""

    class Small(nn.Module):
        unshuffle_amount = 8

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 64, 8, stride=8)

        def forward(self, hint: Tensor) -> dict[str, list]:
            # The last one is for the network's first layer.
            return {"input": [None, None, self.layer(hint)]}

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        small = Small().requires_grad_(False)
    return importlib.import_module("comfy.controlnet").T2IAdapter(small, 3, 8, "nearest-exact")


@pytest.fixture(scope="module", params=["controlnet", "adapter"])
def control(request):
    return request.getfixturevalue(request.param)


def hints(frames: int = FRAMES, seed: int = 0) -> Tensor:
    """Pictures (frames, 64, 64, 3) that have nothing in common."""
    small = torch.rand(frames, 4, 4, 3, generator=torch.Generator().manual_seed(seed))
    return small.repeat_interleave(16, dim=1).repeat_interleave(16, dim=2)


def controlled(bench: Workbench, control, pictures: Tensor) -> tuple[list, list]:
    """ControlNetApplyAdvanced on the edit's prompt and the empty one."""
    return bench.run(
        bench.core("nodes", "ControlNetApplyAdvanced"),
        positive=bench.edit,
        negative=bench.empty,
        control_net=control,
        image=pictures,
        strength=1.0,
        start_percent=0.0,
        end_percent=1.0,
    )


@pytest.fixture(scope="module")
def stages(bench: Workbench):
    """stages[name](positive, negative): the latents of each thing that a ControlNet may hold."""
    tuned = bench.apply(bench.weights(scale=0.02))
    noise = bench.invert(bench.inflate())

    def sampling(model):
        return lambda positive, negative: bench.sample(model, noise, positive=positive, negative=negative)

    return {
        "without tuning": sampling(bench.inflate()),
        "after tuning": sampling(tuned),
        "inversion": lambda positive, _: bench.invert(tuned, conditioning=positive)["samples"],
    }


@pytest.mark.parametrize("stage", ["without tuning", "after tuning", "inversion"])
def test_hints_are_seen_one_per_frame(bench: Workbench, stages, control, stage: str) -> None:
    draw = stages[stage]
    own = draw(*controlled(bench, control, hints()))
    assert own.shape == (FRAMES, 4, 8, 8) and bool(own.isfinite().all())
    assert distance(draw(bench.edit, bench.empty), own) > 1e-3
    assert distance(draw(*controlled(bench, control, hints().flip(0))), own) > 1e-3
    # One picture for all frames is that picture for each.
    one = hints(1)
    for_all, repeated = (
        draw(*controlled(bench, control, pictures)) for pictures in (one, one.repeat(FRAMES, 1, 1, 1))
    )
    assert distance(for_all, repeated) < 1e-5


def test_a_frame_follows_its_own_hint_and_no_other(bench: Workbench, control) -> None:
    # Frames that do not look at each other, so that nothing but the hint can carry over.
    model = bench.inflate(attention="off", norm="per frame")
    noise = bench.invert(model)
    first, second = hints(), hints()
    second[1] = hints(1, seed=9)[0]
    ours, theirs = (
        bench.sample(model, noise, positive=positive, negative=negative)
        for positive, negative in (controlled(bench, control, pictures) for pictures in (first, second))
    )
    changed = [distance(ours[frame], theirs[frame]) for frame in range(FRAMES)]
    assert changed[1] > 1e-3
    assert max(changed[0], changed[2]) < 1e-6


@pytest.mark.parametrize("count", [2, 4])
def test_a_wrong_number_of_hints_names_both_numbers(
    bench: Workbench, control, controlnet, count: int
) -> None:
    noise = bench.invert(bench.inflate())
    positive, negative = controlled(bench, control, hints(count))
    # Also where it stands behind another one that fits.
    behind, _ = bench.run(
        bench.core("nodes", "ControlNetApplyAdvanced"),
        positive=positive,
        negative=negative,
        control_net=controlnet,
        image=hints(),
        strength=0.5,
        start_percent=0.0,
        end_percent=1.0,
    )
    for name, work in (
        ("positive", lambda: bench.sample(bench.inflate(), noise, positive=positive)),
        ("negative", lambda: bench.sample(bench.inflate(), noise, negative=negative)),
        ("positive", lambda: bench.sample(bench.inflate(), noise, positive=behind)),
        ("conditioning", lambda: bench.invert(bench.inflate(), conditioning=positive)),
    ):
        with pytest.raises(ValueError) as caught:
            work()
        assert_plain(str(caught.value), f"'{name}'", f"{count} hint pictures", f"{FRAMES} frames")
