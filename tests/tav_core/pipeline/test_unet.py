"""The method on diffusers' UNet: parts, batches, guidance, other architectures."""

import pytest
import torch
from torch import nn

from tav_core.diffusion.ddim import ddim_invert, ddim_sample, inversion_sigmas
from tav_core.diffusion.schedule import NoiseSchedule
from tav_core.files.weights import TunedMetadata, TunedWeights, WeightsError
from tav_core.inflation.attach import attach
from tav_core.inflation.mode import InflationMode
from tav_core.inflation.temporal import TemporalLayers
from tav_core.patching import Overrides
from tav_core.pipeline.apply import applied
from tav_core.pipeline.unet import DiffusersHost

SD2 = {"use_linear_projection": True, "attention_head_dim": [2, 4], "layers_per_block": 2}
BLOCKS = [
    "down_blocks.0.attentions.0.transformer_blocks.0",
    "mid_block.attentions.0.transformer_blocks.0",
    "up_blocks.1.attentions.0.transformer_blocks.0",
    "up_blocks.1.attentions.1.transformer_blocks.0",
]


@torch.no_grad()
def inflated(host, x, timestep, context, frames, mode=InflationMode()):
    with Overrides() as overrides:
        attach(overrides, host, mode, {}, frames)
        return host.predict(x, timestep, context)


def test_parts_of_the_network(host):
    assert list(host.transformer_blocks()) == BLOCKS, "in the network's order"
    assert all(host.unet.get_submodule(name) is block for name, block in host.transformer_blocks().items())
    names = {id(module): name for name, module in host.unet.named_modules()}
    norms = [names[id(norm)] for norm in host.frame_norms()]
    expected = [
        name
        for name, module in host.unet.named_modules()
        if isinstance(module, nn.GroupNorm) and ".attentions." not in name
    ]
    assert sorted(norms) == sorted(expected)
    assert len(host.residual_blocks()) * 2 + 1 == len(norms)
    assert host.device == torch.device("cpu")
    assert host.dtype == torch.float32


def test_the_unet_is_in_evaluation_mode_and_needs_no_gradients(make_unet):
    unet = make_unet().train()
    DiffusersHost(unet, NoiseSchedule.scaled_linear())
    assert not unet.training
    assert not any(p.requires_grad for p in unet.parameters())


def test_each_clip_of_a_batch_has_its_own_timestep_and_prompt(host, clip, context):
    x, contexts = torch.cat([clip, clip.roll(1, 0)]), torch.cat([context, context * -1])
    together = inflated(host, x, torch.tensor([10, 900]), contexts, 3)
    first = inflated(host, x[:3], 10, contexts[:1], 3)
    second = inflated(host, x[3:], 900, contexts[1:], 3)
    torch.testing.assert_close(together, torch.cat([first, second]), rtol=1e-4, atol=1e-5)
    assert (inflated(host, x[3:], 10, contexts[1:], 3) - second).abs().max() > 1e-3


def test_timesteps_and_contexts_per_frame_or_as_one_number(host, clip, context):
    expected = inflated(host, clip, 77, context, 3)
    for timestep in (torch.tensor(77), torch.tensor([77]), torch.tensor([77] * 3)):
        assert torch.equal(inflated(host, clip, timestep, context, 3), expected)
    assert torch.equal(inflated(host, clip, 77, context.expand(3, -1, -1), 3), expected)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_guidance_combines_separate_runs(unet, clip, context, prediction):
    schedule = NoiseSchedule.scaled_linear(prediction_type=prediction)
    host = DiffusersHost(unet, schedule)
    uncond = torch.zeros_like(context)
    sigma = schedule.sigmas[600]
    x = clip * 3
    scaled = x / (1 + sigma**2).sqrt()
    without, within = (inflated(host, scaled, 600, c, 3) for c in (uncond, context))
    output = without + 7.5 * (within - without)
    a = schedule.alphas_cumprod[600]
    noise = output if prediction == "epsilon" else a.sqrt() * output + (1 - a).sqrt() * scaled
    with torch.no_grad():
        denoised = host.denoiser(context, uncond, 7.5)(x, sigma * torch.ones(3))
    torch.testing.assert_close(denoised, x - sigma * noise, rtol=1e-4, atol=2e-4)


def test_without_guidance_the_network_runs_on_the_prompt_only(host, clip, context):
    rows = []
    host.unet.conv_in.register_forward_hook(lambda _, args, y: rows.append(len(y)))
    sigma = host.schedule.sigmas[600] * torch.ones(3)
    with torch.no_grad():
        plain = host.denoiser(context)(clip, sigma)
        assert torch.equal(host.denoiser(context, torch.zeros_like(context), 1.0)(clip, sigma), plain)
        host.denoiser(context, context, 2.0)(clip, sigma)
    assert rows == [3, 3, 6]


def test_guidance_needs_an_unconditional_prompt(host, context):
    with pytest.raises(ValueError, match="unconditional"):
        host.denoiser(context, guidance=2.0)


def test_the_denoiser_leaves_the_network_as_it_was(host, clip, context):
    sigma = host.schedule.sigmas[600] * torch.ones(3)
    before = {name: set(module.__dict__) for name, module in host.unet.named_modules()}
    with torch.no_grad():
        host.denoiser(context)(clip, sigma)
    with pytest.raises(KeyError), torch.no_grad():
        host.denoiser(context, layers={"no such block": lambda x, frames: x})(clip, sigma)
    assert {name: set(module.__dict__) for name, module in host.unet.named_modules()} == before


def test_a_small_step_inverted_and_sampled_comes_back(host, clip, context):
    """In a small step the network changes little, so that sampling undoes inversion."""
    sigmas = inversion_sigmas(host.schedule.sigmas, 500)[:6]
    model = host.denoiser(context)
    noisy = ddim_invert(model, clip, sigmas, clean_sigma=float(sigmas[0]))
    clean = ddim_sample(model, noisy, sigmas.flip(0), clean_sigma=float(sigmas[0]))
    assert float((clean - clip).norm() / clip.norm()) < 1e-3
    assert float((noisy - clip).norm() / clip.norm()) > 1e-2


def test_the_second_architecture_of_stable_diffusion(make_unet, clip, context):
    """Linear projections, a list of head counts, two layers per block, v-prediction."""
    unet = make_unet(**SD2)
    host = DiffusersHost(unet, NoiseSchedule.scaled_linear(prediction_type="v_prediction"))
    blocks = host.transformer_blocks()
    assert len(blocks) == 6
    assert {block.attn1.heads for block in blocks.values()} == {2, 4}
    for mode in (InflationMode("off", "per frame"), InflationMode("all", "per frame")):
        y = inflated(host, clip[:1].expand(3, -1, -1, -1), 5, context, 3, mode)
        # Frames that are all alike attend to copies of themselves: the image model's answer.
        with torch.no_grad():
            alone = unet(clip[:1], 5, context).sample
        torch.testing.assert_close(y, alone.expand(3, -1, -1, -1), rtol=1e-4, atol=1e-5)
    sizes = {name: (b.attn1.to_q.weight.shape[1], b.attn1.heads) for name, b in blocks.items()}
    layers = TemporalLayers(sizes).requires_grad_(False)
    sigma = host.schedule.sigmas[300] * torch.ones(3)
    with torch.no_grad():
        model = host.denoiser(context, layers={name: layers[name] for name in layers.names})
        assert model(clip, sigma).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_network_answers_in_float32(unet, pristine, clip, context, dtype):
    reference = inflated(DiffusersHost(pristine, NoiseSchedule.scaled_linear()), clip, 400, context, 3)
    host = DiffusersHost(unet.to(dtype), NoiseSchedule.scaled_linear())
    y = inflated(host, clip, 400, context, 3)
    assert host.dtype == dtype
    assert y.dtype == torch.float32
    assert float((y - reference).norm() / reference.norm()) < 0.05


def test_weights_of_another_prediction_type_are_refused(host):
    weights = TunedWeights({}, TunedMetadata(prediction_type="v_prediction"))
    with (
        pytest.raises(WeightsError, match="'v_prediction', and this model's is 'epsilon'"),
        applied(host, weights),
    ):
        pass
