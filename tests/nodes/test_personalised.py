"""LoRAs, personalised checkpoints and merges with tuned weights: before, after, scheduled, and tuned on."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from workbench import Workbench, distance

QUERY = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"


@pytest.fixture(scope="module")
def personalised(bench: Workbench, tiny_checkpoint: Path, tmp_path_factory):
    """The MODEL of a relative of the checkpoint, as DreamBooth training leaves one."""
    path = tmp_path_factory.mktemp("personalised") / "relative.safetensors"
    generator = torch.Generator().manual_seed(4)
    tensors = load_file(tiny_checkpoint)
    for name, tensor in tensors.items():
        if ".transformer_blocks." in name and name.startswith("model.diffusion_model."):
            noise = torch.randn(tensor.shape, generator=generator)
            tensors[name] = (tensor.float() + 0.1 * tensor.float().std() * noise).to(tensor.dtype)
    save_file(tensors, path)
    return bench.load(path)[0]


@pytest.fixture(scope="module")
def lora(bench: Workbench) -> dict[str, Tensor]:
    """A LoRA file's tensors, plainly seen, for queries (which tuning changes as well) and values."""
    generator = torch.Generator().manual_seed(8)
    tensors = {}
    for name, weight in bench.model.model.diffusion_model.state_dict().items():
        if name.endswith((".attn1.to_q.weight", ".attn2.to_q.weight", ".attn1.to_v.weight")):
            key = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
            tensors[f"{key}.lora_up.weight"] = torch.randn(weight.shape[0], 2, generator=generator) * 0.1
            tensors[f"{key}.lora_down.weight"] = torch.randn(2, weight.shape[1], generator=generator) * 0.1
            tensors[f"{key}.alpha"] = torch.tensor(2.0)
    return tensors


@pytest.fixture(scope="module")
def with_lora(lora):
    """with_lora(model, strength): LoraLoader's work."""
    loader = importlib.import_module("comfy.sd").load_lora_for_models
    return lambda model, strength=0.8: loader(model, None, lora, strength, 0.0)[0]


@pytest.fixture(scope="module")
def merge(bench: Workbench):
    """merge(ratio, first, second): core's ModelMergeSimple."""
    node = bench.core("comfy_extras.nodes_model_merging", "ModelMergeSimple")
    return lambda ratio, first, second: bench.run(node, model1=first, model2=second, ratio=ratio)


def weight_of(bench: Workbench, model) -> Tensor:
    """A tuned query as the model samples with it, patches merged by core."""
    with torch.inference_mode():
        merged = dict(bench.pack("nodes.comfy.tuning.unet").merged_weights(model, torch.float32))
        return merged[QUERY.removeprefix("diffusion_model.")]


def delta_of(weights) -> Tensor:
    return weights.tensors["down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.diff"].float()


@pytest.mark.parametrize("strength", [-2.0, 0.35, 2.0])
def test_a_lora_before_or_after_gives_the_same_at_every_strength(
    bench: Workbench, with_lora, strength: float
) -> None:
    weights = bench.weights(scale=0.02)
    before = bench.apply(weights, strength, 0.5, with_lora(bench.model))
    after = with_lora(bench.apply(weights, strength, 0.5))
    expected = weight_of(bench, with_lora(bench.model)) + strength * delta_of(weights)
    for model in (before, after):
        assert distance(weight_of(bench, model), expected) < 1e-6
    assert distance(bench.draw(before), bench.draw(after)) < 1e-5
    assert distance(bench.draw(bench.apply(weights, strength, 0.5)), bench.draw(after)) > 1e-3


@pytest.mark.parametrize("strength", [-2.0, 1.0, 2.0])
def test_a_personalised_checkpoint_and_a_merge_take_the_difference(
    bench: Workbench, personalised, merge, caplog: pytest.LogCaptureFixture, strength: float
) -> None:
    own = bench.pack("nodes.comfy.model.base_weights").base_fingerprint(bench.model)
    weights = bench.weights(scale=0.02, base_fingerprint=own)
    base, relative = weight_of(bench, bench.model), weight_of(bench, personalised)
    tuned = bench.apply(weights, strength, 1.0, personalised)
    assert caplog.text.count("tuned on another base model") == 1
    assert distance(weight_of(bench, tuned), relative + strength * delta_of(weights)) < 1e-6
    merged = merge(0.3, bench.model, personalised)
    model = bench.apply(weights, strength, 1.0, merged)
    expected = 0.3 * base + 0.7 * relative + strength * delta_of(weights)
    assert distance(weight_of(bench, model), expected) < 1e-6
    drawn = [
        bench.draw(m) for m in (tuned, model, bench.apply(weights, strength), bench.inflate(personalised))
    ]
    assert all(bool(one.isfinite().all()) for one in drawn)
    assert all(distance(one, drawn[0]) > 1e-3 for one in drawn[1:])


def test_strength_zero_is_the_untuned_model_on_every_kind(
    bench: Workbench, personalised, merge, with_lora
) -> None:
    weights = bench.weights()
    for model in (bench.model, personalised, merge(0.3, bench.model, personalised), with_lora(bench.model)):
        assert torch.equal(
            bench.draw(bench.apply(weights, 0.0, 0.0, model)), bench.draw(bench.inflate(model))
        )


def test_tuning_sees_a_lora_and_does_not_bake_it_in(bench: Workbench, with_lora) -> None:
    options = {"steps": 2, "learning_rate": 1e-6, "seed": 3}
    model, weights, losses = bench.tune(with_lora(bench.model), **options)
    _, _, plain = bench.tune(bench.model, **options)
    assert losses["loss"] != plain["loss"]
    assert losses["loss"] == bench.tune(bench.inflate(with_lora(bench.model)), **options)[2]["loss"]
    # What was learned is as small as two such steps can be; the LoRA is thousands of times larger.
    learned = delta_of(weights).abs().max()
    put_on = (weight_of(bench, with_lora(bench.model)) - weight_of(bench, bench.model)).abs().max()
    assert 0 < learned < 1e-5 < 1e-2 < put_on
    assert weights.metadata.base_fingerprint == bench.pack("nodes.comfy.model.base_weights").base_fingerprint(
        bench.model
    )
    assert torch.equal(bench.draw(model), bench.draw(bench.apply(weights, model=with_lora(bench.model))))
    # Taken off again, the LoRA is gone: the file works on the bare base.
    assert distance(bench.draw(bench.apply(weights)), bench.draw(bench.inflate())) < 1e-2


def test_tuning_on_a_personalised_checkpoint_is_known_by_its_file(bench: Workbench, personalised) -> None:
    _, weights, losses = bench.tune(personalised)
    assert losses["loss"] != bench.tune(bench.model)[2]["loss"]
    fingerprint = bench.pack("nodes.comfy.model.base_weights").base_fingerprint
    assert weights.metadata.base_fingerprint == fingerprint(personalised) != fingerprint(bench.model)


def test_a_tuned_model_is_no_base_for_another_tuning(bench: Workbench) -> None:
    with pytest.raises(ValueError, match="already carries tuned weights"):
        bench.tune(bench.apply(bench.weights()))
    # Tuned queries without their layers are weight patches like a LoRA's.
    queries = bench.apply(bench.weights(scale=0.02), 1.0, 0.0)
    model, weights, _ = bench.tune(queries)
    assert torch.equal(bench.draw(model), bench.draw(bench.apply(weights, model=queries)))


@pytest.mark.not_on_second_device(
    "core fails there for any model of float16 that it is to compute in float32"
)
def test_core_s_lora_schedules_work_on_a_tuned_model(bench: Workbench, lora, with_lora) -> None:
    hooks = importlib.import_module("comfy.hooks")
    tuned = bench.apply(bench.weights(scale=0.02))
    noise = bench.invert(tuned)

    def scheduled(*strengths: tuple[float, float]) -> Tensor:
        """A LoRA of strength 0.8 times each of (start percent, factor), by core's hooks on both prompts."""
        group = hooks.create_hook_lora(lora=lora, strength_model=0.8, strength_clip=0.0)
        keyframes = hooks.HookKeyframeGroup()
        for start, factor in strengths:
            keyframes.add(hooks.HookKeyframe(strength=factor, start_percent=start))
        group.set_keyframes_on_hooks(keyframes)
        positive, negative = (
            hooks.set_hooks_for_conditioning(prompt, group) for prompt in (bench.edit, bench.empty)
        )
        return bench.sample(tuned, noise, steps=4, positive=positive, negative=negative)

    def plain(model) -> Tensor:
        return bench.sample(model, noise, steps=4)

    without, with_it = plain(tuned), plain(with_lora(tuned))
    assert distance(without, with_it) > 1e-3
    assert distance(scheduled((0.0, 1.0)), with_it) < 1e-5
    assert distance(scheduled((0.0, 0.0)), without) < 1e-5
    late = scheduled((0.0, 0.0), (0.5, 1.0))
    assert min(distance(late, one) for one in (without, with_it)) > 1e-3
    # Gone with the sampling: nothing of it stays on the model.
    assert torch.equal(plain(tuned), without)
