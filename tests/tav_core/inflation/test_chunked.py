"""Evaluation in chunks of frames against the whole clip at once."""

import pytest
import torch

from tav_core.diffusion.schedule import NoiseSchedule
from tav_core.inflation import chunked as chunking
from tav_core.inflation.mode import ATTENTION_MODES, NORM_MODES, InflationMode
from tav_core.inflation.temporal import TemporalLayers
from tav_core.pipeline.unet import DiffusersHost

FRAMES = 7


def random_layers(host):
    blocks = host.transformer_blocks()
    layers = TemporalLayers({n: (b.attn1.to_q.weight.shape[1], b.attn1.heads) for n, b in blocks.items()})
    generator = torch.Generator().manual_seed(3)
    for parameter in layers.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return {name: layers[name] for name in layers.names}


def denoised(host, mode, chunk_frames, guidance=1.0, contexts=1):
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(FRAMES, 4, 8, 8, generator=generator) * 3
    context, uncond = torch.randn(2, contexts, 5, 16, generator=generator)
    model = host.denoiser(context, uncond, guidance, mode, random_layers(host), chunk_frames)
    with torch.no_grad():
        return model(x, torch.full((FRAMES,), 2.5))


@pytest.mark.parametrize("attention", ATTENTION_MODES)
@pytest.mark.parametrize("norm", NORM_MODES)
def test_chunks_give_the_result_of_the_whole(host, attention, norm):
    mode = InflationMode(attention, norm)
    whole = denoised(host, mode, 0)
    for chunk in (1, 3, 6):
        torch.testing.assert_close(denoised(host, mode, chunk), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunk", [2, 5])
def test_guidance_puts_two_clips_into_a_batch(host, chunk):
    whole = denoised(host, InflationMode(), 0, guidance=4.0)
    torch.testing.assert_close(denoised(host, InflationMode(), chunk, 4.0), whole, rtol=1e-5, atol=3e-5)


def test_every_frame_keeps_its_own_prompt(host):
    whole = denoised(host, InflationMode(), 0, contexts=FRAMES)
    assert not torch.equal(whole, denoised(host, InflationMode(), 0))
    y = denoised(host, InflationMode(), 3, contexts=FRAMES)
    torch.testing.assert_close(y, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunk", [FRAMES, FRAMES + 1])
def test_one_chunk_is_the_whole_bit_for_bit(host, chunk):
    assert torch.equal(denoised(host, InflationMode(), chunk), denoised(host, InflationMode(), 0))


def test_nothing_inside_sees_more_frames_than_a_chunk_and_the_two_before(host):
    """That is where the memory is saved."""
    seen = {}
    kinds = {"conv": torch.nn.Conv2d, "linear": torch.nn.Linear}
    skipped = (
        "conv_in",
        "conv_out",
        "proj_in",
        "proj_out",
        "time_embedding",
        "time_emb_proj",
        "attn2.to_k",
        "attn2.to_v",
    )
    for name, module in host.unet.named_modules():
        if (
            isinstance(module, tuple(kinds.values()))
            and not name.startswith(skipped)
            and not name.endswith(skipped)
        ):
            module.register_forward_pre_hook(
                lambda _, args, name=name: seen.__setitem__(
                    name, max(seen.get(name, 0), args[0].numel() // args[0][0].numel())
                )
            )
    denoised(host, InflationMode(), 2)
    convolutions = {name: rows for name, rows in seen.items() if "conv" in name}
    assert set(convolutions.values()) == {2}
    linears = {name: rows for name, rows in seen.items() if "ff." in name or "attn1.to_" in name}
    assert linears and max(linears.values()) <= 4


def test_nothing_stays_on_the_network(host):
    before = {name: dict(module.__dict__) for name, module in host.unet.named_modules()}
    denoised(host, InflationMode(), 2)
    assert all(module.__dict__ == before[name] for name, module in host.unet.named_modules())
    assert host._chunk is None


def test_a_failure_halfway_leaves_nothing_behind(host):
    before = {name: dict(module.__dict__) for name, module in host.unet.named_modules()}

    def stop(*_):
        raise KeyboardInterrupt

    hook = host.unet.mid_block.attentions[0].transformer_blocks[0].ff.register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        denoised(host, InflationMode(), 2)
    hook.remove()
    for name, module in host.unet.named_modules():
        assert "forward" not in module.__dict__, name
        assert module.__dict__.keys() == before[name].keys()


def test_a_block_without_its_norm_is_named(host, monkeypatch):
    def parts(self):
        return [
            chunking.ResidualBlock(b, b.norm1, b.conv1, torch.nn.GroupNorm(8, 32))
            for b in self.residual_blocks()
        ]

    monkeypatch.setattr(DiffusersHost, "chunkable_residual_blocks", parts)
    with pytest.raises(RuntimeError, match="ResnetBlock2D did not call its second norm"):
        denoised(host, InflationMode(), 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(make_unet, dtype):
    host = DiffusersHost(make_unet().to(dtype), NoiseSchedule.scaled_linear())
    whole = denoised(host, InflationMode(), 0)
    error = (denoised(host, InflationMode(), 3) - whole).square().mean().sqrt()
    assert error < 0.02 * whole.std()
