"""Temporal attention layers."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from tav_core.inflation.temporal import TemporalAttention, TemporalLayer, TemporalLayers, temporal_sizes

SIZES = {"down_blocks.0.attentions.0.transformer_blocks.0": (8, 2), "mid_block.transformer_blocks.0": (12, 3)}
NAMES = tuple(SIZES)


def random_layers(seed=0, sizes=SIZES):
    layers = TemporalLayers(sizes).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in layers.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return layers


def states(rows, tokens=6, dim=8, seed=1):
    return torch.randn(rows, tokens, dim, generator=torch.Generator().manual_seed(seed))


def oracle(attention, x, frames):
    """torch's own multi-head attention, one position of one clip at a time."""
    theirs = nn.MultiheadAttention(attention.dim, attention.heads, batch_first=True).requires_grad_(False)
    projections = (attention.to_q, attention.to_k, attention.to_v)
    theirs.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
    theirs.in_proj_bias.zero_()
    theirs.out_proj.load_state_dict(attention.to_out[0].state_dict())
    out = torch.empty_like(x)
    for start in range(0, len(x), frames):
        for token in range(x.shape[1]):
            line = x[start : start + frames, token][None]
            out[start : start + frames, token] = theirs(line, line, line, need_weights=False)[0][0]
    return out


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("heads", [1, 2, 8])
def test_attention_equals_torchs_at_every_position(frames, batch, heads):
    attention = random_layers(sizes={"b": (8, heads)})["b"].attn_temp
    x = states(batch * frames)
    torch.testing.assert_close(attention(x, frames), oracle(attention, x, frames), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("most", [1, 5, 12, 13])
def test_more_positions_than_a_kernel_takes_are_computed_in_runs(monkeypatch, most):
    attention = random_layers()[NAMES[0]].attn_temp
    x = states(4)
    whole = attention(x, 2)  # 2 clips of 6 positions
    kernel, rows = functional.scaled_dot_product_attention, []

    def watched(q, k, v):
        rows.append(len(q))
        return kernel(q, k, v)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", watched)
    monkeypatch.setattr("tav_core.inflation.temporal._MOST_ROWS", most)
    assert torch.equal(attention(x, 2), whole)
    assert sum(rows) == 12 and max(rows) == min(most, 12)


def test_non_contiguous_input():
    attention = random_layers()[NAMES[0]].attn_temp
    x = states(6).transpose(0, 1).contiguous().transpose(0, 1)
    assert not x.is_contiguous()
    torch.testing.assert_close(attention(x, 3), attention(x.contiguous(), 3))


def test_frames_are_a_set_without_order():
    """No positional encoding, no causal mask: shuffled frames give the same answers, shuffled."""
    layer, x = random_layers()[NAMES[0]], states(4)
    order = [2, 0, 3, 1]
    torch.testing.assert_close(layer(x[order], 4), layer(x, 4)[order])


def test_positions_and_clips_do_not_mix():
    layer, x = random_layers()[NAMES[0]], states(6)
    changed = x.clone()
    changed[:3, 2] = changed[:3, 2].flip(-1)
    difference = (layer(changed, 3) - layer(x, 3)).abs().amax(-1) > 1e-6
    expected = torch.zeros(6, 6, dtype=torch.bool)
    expected[:3, 2] = True
    assert torch.equal(difference, expected)


def test_the_layer_is_attention_after_a_norm():
    layer, x = random_layers()[NAMES[0]], states(3)
    normed = nn.functional.layer_norm(x, (8,)) * layer.norm_temp.weight + layer.norm_temp.bias
    torch.testing.assert_close(layer(x, 3), oracle(layer.attn_temp, normed, 3), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_masters_stay_float32_and_the_answer_has_the_inputs_dtype(dtype):
    layer, x = random_layers()[NAMES[0]], states(3)
    y = layer(x.to(dtype), 3)
    assert y.dtype == dtype
    assert {p.dtype for p in layer.parameters()} == {torch.float32}
    limit = {torch.float16: 0.01, torch.bfloat16: 0.05}[dtype]
    assert float((y.float() - layer(x, 3)).norm() / y.float().norm()) < limit


def test_fresh_layers_answer_exactly_zero_and_learn():
    layers = TemporalLayers(SIZES)
    layers.reset(3)
    for name, (dim, _) in SIZES.items():
        y = layers[name](states(3, dim=dim), 3)
        assert torch.equal(y, torch.zeros_like(y))
        y.sum().backward()
        assert layers[name].attn_temp.to_out[0].weight.grad.abs().max() > 0


def test_reset_is_torchs_default_and_follows_the_seed_only():
    first, second, other = (TemporalLayers(SIZES) for _ in range(3))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        first.reset(3)
        state = torch.get_rng_state()
        torch.rand(1)
        second.reset(3)
        other.reset(4)
        torch.manual_seed(9)
        assert torch.equal(torch.get_rng_state(), state)  # the global generator was left alone
    a, b, c = first.state_dict(), second.state_dict(), other.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    key = f"{NAMES[0]}.attn_temp.to_k.weight"
    assert not torch.equal(a[key], c[key])
    assert not torch.equal(a[key], a[key.replace("to_k", "to_q")])
    bound = 8**-0.5
    assert bound * 0.8 < a[key].abs().max() <= bound


def test_names_are_the_official_ones():
    parts = ["attn_temp.to_q.weight", "attn_temp.to_k.weight", "attn_temp.to_v.weight"]
    parts += ["attn_temp.to_out.0.weight", "attn_temp.to_out.0.bias"]
    expected = {f"{name}.{part}" for name in NAMES for part in [*parts, "norm_temp.weight", "norm_temp.bias"]}
    assert set(TemporalLayers(SIZES).state_dict()) == expected
    layers = TemporalLayers(SIZES)
    layers.reset(0)
    assert set(layers.tensors()) == {name for name in expected if "norm_temp" not in name}


def test_tensors_and_load_are_a_round_trip():
    layers, again = random_layers(), TemporalLayers(SIZES)
    tensors = layers.tensors()
    assert set(tensors) == set(layers.state_dict())  # these norms are not neutral
    again.load(tensors)
    assert all(torch.equal(layers.state_dict()[name], value) for name, value in again.state_dict().items())


def test_tensors_are_copies():
    layers = random_layers()
    key = f"{NAMES[0]}.attn_temp.to_q.weight"
    before = layers.tensors()
    value = before[key].clone()
    layers[NAMES[0]].attn_temp.to_q.weight.add_(1.0)
    assert torch.equal(before[key], value)


def test_missing_norms_and_bias_are_neutral_and_strangers_ignored():
    layers, target = random_layers(), random_layers(seed=5)
    tensors = {n: t for n, t in layers.tensors().items() if "norm_temp" not in n and "bias" not in n}
    strangers = {f"{NAMES[0]}.attn1.to_q.diff": torch.ones(8, 8), "elsewhere.attn_temp.x": torch.ones(1)}
    target.load(tensors | strangers)
    for name in NAMES:
        assert (target[name].norm_temp.weight == 1).all()
        assert (target[name].norm_temp.bias == 0).all()
        assert (target[name].attn_temp.to_out[0].bias == 0).all()
        assert torch.equal(target[name].attn_temp.to_v.weight, layers[name].attn_temp.to_v.weight)


@pytest.mark.parametrize("damage", ["missing", "shape", "unknown"])
def test_load_names_what_is_wrong(damage):
    tensors = random_layers().tensors()
    key = f"{NAMES[1]}.attn_temp.to_k.weight"
    if damage == "missing":
        del tensors[key]
    elif damage == "shape":
        tensors[key] = torch.ones(3, 3)
    else:
        key = f"{NAMES[1]}.attn_temp.to_x.weight"
        tensors[key] = torch.ones(1)
    with pytest.raises(RuntimeError, match=key):
        TemporalLayers(SIZES).load(tensors)


def test_sizes_are_read_off_the_tensors():
    tensors = random_layers().tensors()
    heads = {name: count for name, (_, count) in SIZES.items()} | {"other": 5}
    assert temporal_sizes([*NAMES, "other"], tensors, heads) == SIZES
    assert temporal_sizes(NAMES[1:], tensors, heads) == {NAMES[1]: SIZES[NAMES[1]]}
    assert temporal_sizes(NAMES, {}, heads) == {}


def test_a_host_may_bring_its_own_layer_classes():
    class Ops:
        Linear = type("OwnLinear", (nn.Linear,), {})
        LayerNorm = type("OwnLayerNorm", (nn.LayerNorm,), {})

    layer = TemporalLayer(8, 2, Ops, dtype=torch.float64)
    assert type(layer.attn_temp.to_q) is Ops.Linear
    assert type(layer.attn_temp.to_out[0]) is Ops.Linear
    assert type(layer.norm_temp) is Ops.LayerNorm
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
    assert isinstance(layer.attn_temp, TemporalAttention)
