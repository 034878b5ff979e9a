"""Random interleavings of everything that people do with a MODEL, against a model of what must hold.

What a MODEL answers depends on its own recipe alone: how it was inflated, which weights and LoRAs it got, in this
order. It depends on nothing that was done to other clones, in whatever order they came, ran, were stopped and went.

TAV_ISOLATION=N makes N sequences of up to 60 steps and says how many steps they had; 12 are the default.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

SEQUENCES = int(os.environ.get("TAV_ISOLATION", "12"))
STEPS = 60
# One round in ten samples too few recipes.
MOST_ROUNDS = 5
UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1],
    "channel_mult": [1],
    "num_heads": 2,
    "num_head_channels": -1,
    "use_spatial_transformer": True,
    "transformer_depth": [1],
    "transformer_depth_output": [1, 1],
    "transformer_depth_middle": 1,
    "context_dim": 16,
    "legacy": False,
}
FRAMES = 3


class World:
    """A tiny MODEL of ComfyUI, made-up weights and LoRAs, and what every recipe answered when it was first seen."""

    def __init__(self, pack) -> None:
        kinds, supported, patching, self.management, self.samplers, self.sample, self.extension = (
            importlib.import_module(f"comfy.{name}")
            for name in (
                "model_base",
                "supported_models",
                "model_patcher",
                "model_management",
                "samplers",
                "sample",
                "patcher_extension",
            )
        )
        config = supported.SD15(dict(UNET))
        config.unet_config = dict(UNET)
        config.set_inference_dtype(torch.float32, None)
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(0)
            model = kinds.BaseModel(config, kinds.ModelType.EPS, "cpu")
            for parameter in model.parameters():
                # ComfyUI's layers come without values.
                parameter.copy_(torch.randn(parameter.shape) * parameter[0].numel() ** -0.5)
        cpu = torch.device("cpu")
        self.base = patching.ModelPatcher(model, load_device=cpu, offload_device=cpu)
        self.inflating, self.applying, names = (
            pack(f"nodes.comfy.model.{name}") for name in ("inflate", "apply", "blocks")
        )
        self.modes = pack("tav_core.inflation.mode").InflationMode
        files = pack("tav_core.files.weights")
        blocks = names.blocks_at(model.diffusion_model, names.block_paths(UNET))
        self.weights = [self._weights(files, blocks, seed) for seed in (1, 2)]
        generator = torch.Generator().manual_seed(5)
        self.noise = torch.randn(FRAMES, 4, 8, 8, generator=generator)
        self.prompt = [[torch.randn(1, 7, 16, generator=generator), {}]]
        self.empty = [[torch.randn(1, 7, 16, generator=generator), {}]]
        self.answers: dict[tuple, torch.Tensor] = {}
        self.steps = 0
        self.plain = self.answer(self.base)

    @staticmethod
    def _weights(files, blocks, seed: int):
        generator = torch.Generator().manual_seed(seed)
        tensors = {}
        for name, block in blocks.items():
            dim = block.attn1.to_q.weight.shape[1]
            tensors[f"{name}.attn1.to_q.diff"] = torch.randn(dim, dim, generator=generator) * 0.1
            for part in ("to_q", "to_k", "to_v", "to_out.0"):
                tensors[f"{name}.attn_temp.{part}.weight"] = (
                    torch.randn(dim, dim, generator=generator) / dim**0.5
                )
        return files.TunedWeights(tensors, files.TunedMetadata())

    @torch.inference_mode()
    def answer(self, model, cfg: float = 2.0, steps: int = 1, callback=None) -> torch.Tensor:
        """What the sampler gets from ``model``: one step of euler, guided, over a clip of three frames."""
        sigmas = torch.linspace(5.0, 1.0, steps + 1)
        return self.sample.sample_custom(
            model,
            self.noise,
            cfg,
            self.samplers.sampler_object("euler"),
            sigmas,
            self.prompt,
            self.empty,
            torch.zeros_like(self.noise),
            disable_pbar=True,
            seed=0,
            callback=callback,
        )


@pytest.fixture(scope="module")
def world(pack) -> World:
    return World(pack)


class Clones(RuleBasedStateMachine):
    """Every clone carries the recipe that its answer may depend on."""

    world: World
    clones = Bundle("clones")

    @rule(target=clones)
    def load(self):
        self.world.steps += 1
        return self.world.base, ()

    @rule(target=clones, source=clones)
    def clone(self, source):
        self.world.steps += 1
        model, recipe = source
        return model.clone(), recipe

    @rule(target=clones, source=clones, attention=st.sampled_from(["first+previous", "all"]))
    def inflate(self, source, attention):
        self.world.steps += 1
        model, recipe = source
        before = self.world.inflating.inflation_of(model)
        layers = before.layers if before else ()
        inflation = self.world.inflating.Inflation(self.world.modes(attention), layers)
        return self.world.inflating.inflate(model, inflation), (*recipe, ("inflate", attention))

    @rule(target=clones, source=clones, which=st.integers(0, 1), strength=st.sampled_from([1.0, 0.5]))
    def apply(self, source, which, strength):
        self.world.steps += 1
        model, recipe = source
        if sum(entry[0] == "apply" for entry in recipe) >= 3:
            return source
        tuned = self.world.applying.apply_weights(model, self.world.weights[which], strength, strength)
        return tuned, (*recipe, ("apply", which, strength))

    @rule(target=clones, source=clones, strength=st.sampled_from([1.0, -0.5]))
    def lora(self, source, strength):
        self.world.steps += 1
        model, recipe = source
        if sum(entry[0] == "lora" for entry in recipe) >= 3:
            return source
        patched = model.clone()
        key = "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight"
        assert patched.add_patches({key: ("diff", (torch.full((32, 32), 0.01),))}, strength)
        return patched, (*recipe, ("lora", strength))

    @rule(source=clones)
    def sample(self, source):
        self.world.steps += 1
        model, recipe = source
        answer = self.world.answer(model)
        assert bool(answer.isfinite().all())
        known = self.world.answers.setdefault(recipe, answer)
        assert torch.equal(known, answer), recipe

    @rule(source=clones, call=st.integers(1, 12))
    def interrupt(self, source, call):
        """Stops in the middle of a forward pass, at the ``call``-th cross-attention."""
        self.world.steps += 1
        model = source[0].clone()
        calls = []

        def stop(q, k, v, options):
            calls.append(1)
            if len(calls) == call:
                raise self.world.management.InterruptProcessingException
            return q, k, v

        model.set_model_attn2_patch(stop)
        with pytest.raises(self.world.management.InterruptProcessingException):
            self.world.answer(model, steps=4)

    @rule(source=consumes(clones))
    def drop(self, source):
        self.world.steps += 1

    @rule(gone=consumes(clones), running=clones)
    def drop_in_mid_sampling(self, gone, running):
        """Another clone goes, and is collected, while one samples."""
        self.world.steps += 1
        holder = [gone]
        del gone

        def collect(*args):
            holder.clear()
            gc.collect(0)

        model, _ = running
        once = self.world.answer(model, steps=2, callback=collect)
        assert torch.equal(once, self.world.answer(model, steps=2))

    @rule()
    def collect(self):
        self.world.steps += 1
        gc.collect()

    @rule()
    def unload(self):
        self.world.steps += 1
        self.world.management.unload_all_models()

    @rule()
    def the_plain_model_is_what_it_was(self):
        self.world.steps += 1
        assert torch.equal(self.world.plain, self.world.answer(self.world.base))

    @invariant()
    def nothing_hangs_on_the_network(self):
        network = self.world.base.model.diffusion_model
        assert not [module for module in network.modules() if "forward" in module.__dict__]


@pytest.mark.not_on_second_device("makes MODELs that have no weights there")
def test_any_interleaving_leaves_every_clone_its_own(world: World, capsys: pytest.CaptureFixture) -> None:
    Clones.world = world
    wanted = min(10, SEQUENCES // 4)
    for _ in range(MOST_ROUNDS):
        run_state_machine_as_test(
            Clones,
            settings=settings(
                max_examples=SEQUENCES,
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        # Of each sequence hypothesis leaves some kinds of steps out, in few sequences perhaps every sampling.
        if len(world.answers) >= wanted:
            break
    if "TAV_ISOLATION" in os.environ:
        with capsys.disabled():
            sys.stdout.write(f"\n{world.steps} steps, {len(world.answers)} recipes\n")
    # Sequences are cut short now and then; most of their steps must have run.
    assert world.steps > SEQUENCES * STEPS / 4
    assert len(world.answers) >= wanted
