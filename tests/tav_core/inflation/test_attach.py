"""The inflated network against image networks whose layers were replaced by plain independent ones."""

import copy

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from tav_core.diffusion.schedule import NoiseSchedule
from tav_core.inflation.attach import attach, combine
from tav_core.inflation.mode import ATTENTION_MODES, InflationMode
from tav_core.inflation.temporal import TemporalLayers
from tav_core.patching import Overrides
from tav_core.pipeline.unet import DiffusersHost

PLAIN = InflationMode("off", "per frame")
SOURCES = {
    "first+previous": lambda i, frames: [0, max(i - 1, 0)],
    "first": lambda i, frames: [0],
    "previous": lambda i, frames: [max(i - 1, 0)],
    "all": lambda i, frames: list(range(frames)),
    "off": lambda i, frames: [i],
}


class FrameByFrame:
    """An attention processor: one frame and head at a time, keys projected from the source frames."""

    def __init__(self, frames, mode):
        self.frames, self.mode = frames, mode

    def __call__(self, attn, hidden_states, **kwargs):
        out = []
        for row in range(len(hidden_states)):
            start = row - row % self.frames
            sources = [start + s for s in SOURCES[self.mode](row % self.frames, self.frames)]
            seen = torch.cat([hidden_states[s] for s in sources])
            q, k, v = attn.to_q(hidden_states[row]), attn.to_k(seen), attn.to_v(seen)
            heads = zip(*(x.chunk(attn.heads, dim=-1) for x in (q, k, v)), strict=True)
            parts = [(a @ b.T / a.shape[-1] ** 0.5).softmax(-1) @ c for a, b, c in heads]
            out.append(attn.to_out[0](torch.cat(parts, dim=-1)))
        return torch.stack(out)


class FiveDimensionalNorm(nn.Module):
    """The official inflated group norm: over (batch, channels, frames, height, width)."""

    def __init__(self, norm, frames):
        super().__init__()
        self.norm, self.frames = norm, frames

    def forward(self, x):
        return self.norm(x.unflatten(0, (-1, self.frames)).transpose(1, 2)).transpose(1, 2).flatten(0, 1)


def reference(unet, frames, mode):
    """A copy of ``unet`` rebuilt with the independent layers above."""
    unet = copy.deepcopy(unet)
    for block in [m for m in unet.modules() if isinstance(m, BasicTransformerBlock)]:
        if mode.attention != "off":
            block.attn1.set_processor(FrameByFrame(frames, mode.attention))
    if mode.norm == "joint":
        for block in [m for m in unet.modules() if isinstance(m, ResnetBlock2D)]:
            block.norm1 = FiveDimensionalNorm(block.norm1, frames)
            block.norm2 = FiveDimensionalNorm(block.norm2, frames)
        unet.conv_norm_out = FiveDimensionalNorm(unet.conv_norm_out, frames)
    return unet


def fresh_layers(host, seed=0):
    sizes = {n: (b.attn1.to_q.weight.shape[1], b.attn1.heads) for n, b in host.transformer_blocks().items()}
    layers = TemporalLayers(sizes).requires_grad_(False)
    layers.reset(seed)
    return layers


def tuned_layers(host, seed=0):
    layers = fresh_layers(host)
    generator = torch.Generator().manual_seed(seed)
    for parameter in layers.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return layers


def by_name(layers):
    return {name: layers[name] for name in layers.names}


@torch.no_grad()
def inflated(host, x, context, mode, layers=None, frames=None, timestep=400):
    with Overrides() as overrides:
        attach(overrides, host, mode, layers or {}, frames or len(x))
        return host.predict(x, timestep, context)


@torch.no_grad()
def image(unet, x, context, timestep=400):
    return unet(x, timestep, context.repeat_interleave(len(x) // len(context), 0)).sample


@pytest.mark.parametrize("layers", ["none", "fresh"])
@pytest.mark.parametrize("mode", [PLAIN, InflationMode(), InflationMode("all", "joint")], ids=str)
def test_freshly_inflated_is_the_image_model_but_for_the_mode(host, pristine, clip, context, mode, layers):
    chosen = by_name(fresh_layers(host)) if layers == "fresh" else {}
    y = inflated(host, clip, context, mode, chosen)
    if mode == PLAIN:
        assert torch.equal(y, image(pristine, clip, context))
    else:
        assert torch.equal(y, inflated(host, clip, context, mode))
        expected = image(reference(pristine, 3, mode), clip, context)
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", ATTENTION_MODES)
@pytest.mark.parametrize("norm", ["joint", "per frame"])
def test_every_mode_equals_an_independent_network(host, pristine, clip, context, attention, norm):
    mode = InflationMode(attention, norm)
    x = torch.cat([clip, clip.flip(0) * 0.5])  # two clips
    contexts = torch.cat([context, -context])
    expected = image(reference(pristine, 3, mode), x, contexts)
    y = inflated(host, x, contexts, mode, frames=3)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    if mode != PLAIN:
        assert (y - image(pristine, x, contexts)).abs().max() > 1e-2


@pytest.mark.parametrize("size", [(8, 8), (4, 12), (5, 7)])
def test_other_sizes(host, pristine, context, size):
    x = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0))
    expected = image(reference(pristine, 2, InflationMode()), x, context)
    torch.testing.assert_close(inflated(host, x, context, InflationMode()), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", ["first+previous", "all"])
def test_one_frame_is_the_image_model(host, pristine, clip, context, attention):
    y = inflated(host, clip[:1], context, InflationMode(attention))
    torch.testing.assert_close(y, image(pristine, clip[:1], context), rtol=1e-5, atol=1e-6)


def test_temporal_layers_come_after_their_blocks(host, pristine, clip, context):
    layers = tuned_layers(host)
    plain = copy.deepcopy(pristine)
    for name in layers.names:
        block = plain.get_submodule(name)
        block.register_forward_hook(lambda _, args, y, layer=layers[name]: y + layer(y, 3))
    y = inflated(host, clip, context, PLAIN, by_name(layers))
    assert torch.equal(y, image(plain, clip, context))
    assert (y - image(pristine, clip, context)).abs().max() > 1e-2


def test_layers_of_some_blocks_only(host, clip, context):
    layers = tuned_layers(host)
    some = {layers.names[1]: layers[layers.names[1]]}
    y = inflated(host, clip, context, PLAIN, some)
    assert not torch.equal(y, inflated(host, clip, context, PLAIN))
    assert not torch.equal(y, inflated(host, clip, context, PLAIN, by_name(layers)))


def trace(unet):
    dicts = {name: dict(module.__dict__) for name, module in unet.named_modules()}
    return dicts, {name: tensor.clone() for name, tensor in unet.state_dict().items()}


def same(before, after):
    dicts = all(
        list(d) == list(after[0][name]) and all(d[key] is after[0][name][key] for key in d)
        for name, d in before[0].items()
    )
    return dicts and all(torch.equal(t, after[1][name]) for name, t in before[1].items())


@pytest.mark.parametrize("fail", [False, True])
def test_detached_leaves_no_trace(host, clip, context, fail):
    before, y = trace(host.unet), image(host.unet, clip, context)

    def explode(x, frames):
        raise InterruptedError

    layers = by_name(tuned_layers(host))
    if fail:
        layers["mid_block.attentions.0.transformer_blocks.0"] = explode
        with pytest.raises(InterruptedError):
            inflated(host, clip, context, InflationMode(), layers)
    else:
        inflated(host, clip, context, InflationMode(), layers)
    assert same(before, trace(host.unet))
    assert torch.equal(image(host.unet, clip, context), y)


def test_stacked_inflations_restore_the_one_below(host, clip, context):
    outer_layers, inner_layers = by_name(tuned_layers(host, 1)), by_name(tuned_layers(host, 2))
    with Overrides() as outer, torch.no_grad():
        attach(outer, host, InflationMode(), outer_layers, 3)
        middle, y = trace(host.unet), host.predict(clip, 5, context)
        with Overrides() as inner:
            attach(inner, host, InflationMode("first", "per frame"), inner_layers, 3)
            assert not torch.equal(host.predict(clip, 5, context), y)
        assert same(middle, trace(host.unet))
        assert torch.equal(host.predict(clip, 5, context), y)


def test_two_models_do_not_touch_each_other(host, make_unet, clip, context):
    other = DiffusersHost(make_unet(7), NoiseSchedule.scaled_linear())
    y = inflated(other, clip, context, InflationMode())
    with Overrides() as overrides:
        attach(overrides, host, InflationMode(), by_name(tuned_layers(host)), 3)
        assert torch.equal(inflated(other, clip, context, InflationMode()), y)


def test_combined_residuals_are_added_with_their_strengths(host):
    a, b = tuned_layers(host, 1), tuned_layers(host, 2)
    combined, swapped = combine([(a, 0.5), (b, 2.0)]), combine([(b, 2.0), (a, 0.5)])
    assert list(combined) == list(a.names)
    for name in a.names:
        x = torch.randn(6, 4, a[name].attn_temp.dim, generator=torch.Generator().manual_seed(0))
        expected = 0.5 * a[name](x, 3) + 2.0 * b[name](x, 3)
        torch.testing.assert_close(combined[name](x, 3), expected)
        assert torch.equal(combined[name](x, 3), swapped[name](x, 3))


def test_one_file_at_full_strength_is_the_layer_itself_and_strength_0_changes_nothing(host, clip, context):
    layers = tuned_layers(host)
    assert combine([(layers, 1.0)]) == by_name(layers)
    assert combine([]) == {}
    plain = inflated(host, clip, context, InflationMode())
    assert torch.equal(inflated(host, clip, context, InflationMode(), combine([(layers, 0.0)])), plain)


def test_files_with_different_blocks_combine_to_all_of_them(host):
    layers = tuned_layers(host)
    first, last = layers.names[0], layers.names[-1]
    size = {first: (layers[first].attn_temp.dim, 4)}
    small = TemporalLayers(size).requires_grad_(False)
    combined = combine([(small, 1.0), (layers, 1.0)])
    assert set(combined) == set(layers.names)
    assert combined[last] is layers[last]
    x = torch.randn(3, 4, size[first][0])
    torch.testing.assert_close(combined[first](x, 3), small[first](x, 3) + layers[first](x, 3))


@pytest.mark.parametrize("values", [("sideways", "joint"), ("first", "sometimes")])
def test_unknown_modes_are_named_with_the_choices(values):
    named = r"unknown (attention|norm) '(sideways|sometimes)'; choose one of .*(off|per frame)"
    with pytest.raises(ValueError, match=named):
        InflationMode(*values)
