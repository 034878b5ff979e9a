"""Stable Diffusion 2.x's layout: linear projections, heads of equal width, velocity prediction."""

from __future__ import annotations

import importlib
import json

import pytest
import torch
from diffusers import UNet2DConditionModel
from workbench import Workbench, distance

from tav_core.diffusion.ddim import ddim_invert, ddim_sample, inversion_sigmas, sampling_sigmas
from tav_core.diffusion.schedule import NoiseSchedule
from tav_core.pipeline.apply import applied
from tav_core.pipeline.unet import DiffusersHost

HEAD_WIDTH = 64
STEPS = 3


@pytest.fixture(scope="module")
def twins(bench: Workbench) -> tuple:
    """A MODEL of the small size in 2.x's layout, and the diffusers UNet with the same random weights."""
    base, utils, patcher = (
        importlib.import_module(f"comfy.{name}") for name in ("model_base", "utils", "model_patcher")
    )
    small = bench.model.model.model_config
    unet_config = dict(small.unet_config)
    unet_config |= {"use_linear_in_transformer": True, "num_head_channels": HEAD_WIDTH, "num_heads": -1}
    config = type(small)(unet_config)
    config.unet_config.update(unet_config)
    config.unet_config["dtype"] = torch.float32
    model = base.BaseModel(config, model_type=base.ModelType.V_PREDICTION, device=torch.device("cpu"))
    model = patcher.ModelPatcher(model, bench.model.load_device, bench.model.offload_device)
    settings = bench.pack("nodes.comfy.model.base_weights").diffusers_config(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        unet = UNet2DConditionModel(**settings)
    weights = unet.state_dict()
    names = utils.unet_to_diffusers(dict(unet_config))
    theirs = {ours: weights[name] for name, ours in names.items() if name in weights}
    missing, unexpected = model.model.diffusion_model.load_state_dict(theirs, strict=False)
    assert not missing and not unexpected
    return model, unet


def test_the_layout_is_that_of_2(bench: Workbench, twins: tuple) -> None:
    model, unet = twins
    block = unet.down_blocks[1].attentions[0]
    assert isinstance(block.proj_in, torch.nn.Linear)
    assert {b.attn1.to_q.out_features // b.attn1.heads for b in block.transformer_blocks} == {HEAD_WIDTH}
    schedule = bench.pack("nodes.comfy.model.detect").noise_schedule(model)
    assert schedule.prediction_type == "v_prediction"


def test_it_is_inflated_tuned_and_known_by_its_file(bench: Workbench, twins: tuple) -> None:
    model, _ = twins
    plain = bench.draw(model)
    assert torch.equal(bench.draw(bench.inflate(model, "off", "per frame")), plain)
    assert distance(bench.draw(bench.inflate(model)), plain) > 1e-3
    tuned, weights, losses = bench.tune(model)
    assert all(torch.tensor(losses["loss"]).isfinite())
    assert weights.metadata.prediction_type == "v_prediction"
    assert len(json.loads(weights.metadata.losses)) == len(losses["loss"])
    assert torch.equal(bench.draw(tuned), bench.draw(bench.apply(weights, model=model)))
    assert torch.equal(bench.draw(model), plain)


def test_an_edit_is_that_of_diffusers_unet(bench: Workbench, twins: tuple) -> None:
    model, unet = twins
    weights = bench.weights(scale=0.02, prediction_type="v_prediction")
    tuned = bench.apply(weights, model=model)
    ours = model.model.process_latent_in(bench.sample(tuned, bench.invert(tuned, STEPS), STEPS))

    host = DiffusersHost(unet, NoiseSchedule.scaled_linear(prediction_type="v_prediction"))
    sigmas = host.schedule.sigmas
    clean = float(sigmas[0])
    empty, edit = (prompt[0][0].clone() for prompt in (bench.empty, bench.edit))
    clip = model.model.process_latent_in(bench.latent["samples"])
    with applied(host, weights) as (mode, layers):
        inverting = host.denoiser(empty, mode=mode, layers=layers)
        noise = ddim_invert(inverting, clip, inversion_sigmas(sigmas, STEPS), clean_sigma=clean)
        drawing = host.denoiser(edit, empty, 4.0, mode, layers)
        theirs = ddim_sample(drawing, noise, sampling_sigmas(sigmas, STEPS), clean_sigma=clean)
    assert distance(ours.cpu(), theirs) < 1e-3
