"""Query projections that learn apart from the network."""

import pytest
import torch
from torch import nn

from tav_core.files.weights import query_deltas
from tav_core.patching import Overrides
from tav_core.tuning.queries import TunableQueries, query_projections

NAME = "block.attn1.to_q"


@pytest.fixture
def projection():
    layer = nn.Linear(6, 4, bias=False).requires_grad_(False)
    layer.weight.copy_(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)))
    return layer


def x_of(dtype=torch.float32):
    return torch.randn(3, 6, generator=torch.Generator().manual_seed(1)).to(dtype)


def change(queries, seed=2):
    generator = torch.Generator().manual_seed(seed)
    for parameter in queries.parameters.values():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator))


def output(queries, projection, x):
    with Overrides() as overrides:
        queries.attach(overrides)
        return projection(x)


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_untouched_queries_are_the_networks_bit_for_bit(projection, rank):
    queries = TunableQueries({NAME: projection}, rank)
    assert torch.equal(output(queries, projection, x_of()), projection(x_of()))
    assert all(not delta.any() for delta in query_deltas(queries.tensors()).values())


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_changed_queries_equal_base_plus_saved_difference(projection, rank, dtype):
    projection.to(dtype)
    base = projection.weight.clone()
    queries = TunableQueries({NAME: projection}, rank)
    assert {p.dtype for p in queries.parameters.values()} == {torch.float32}
    change(queries)
    delta = query_deltas(queries.tensors())[NAME]
    expected = x_of(dtype) @ (base.float() + delta).to(dtype).T
    y = output(queries, projection, x_of(dtype))
    assert y.dtype == dtype
    torch.testing.assert_close(y, expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-5)
    assert delta.abs().max() > 0.1
    assert torch.equal(projection.weight, base)


@pytest.mark.parametrize(
    ("rank", "names"), [(0, ["diff"]), (2, ["lora_down.weight", "lora_up.weight"])], ids=["full", "low rank"]
)
def test_names_shapes_and_independence_of_what_is_saved(projection, rank, names):
    queries = TunableQueries({NAME: projection}, rank)
    tensors = queries.tensors()
    assert sorted(tensors) == [f"{NAME}.{name}" for name in names]
    shapes = {"diff": (4, 6), "lora_down.weight": (rank, 6), "lora_up.weight": (4, rank)}
    assert all(tensors[f"{NAME}.{name}"].shape == shapes[name] for name in names)
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    change(queries)
    assert all(torch.equal(before[name], tensors[name]) for name in tensors)


def test_low_rank_differences_have_that_rank_and_follow_the_seed(projection):
    first, same, other = (TunableQueries({NAME: projection}, 2, seed) for seed in (1, 1, 2))
    key = f"{NAME}.lora_down.weight"
    assert torch.equal(first.parameters[key], same.parameters[key])
    assert not torch.equal(first.parameters[key], other.parameters[key])
    change(first)
    assert int(torch.linalg.matrix_rank(query_deltas(first.tensors())[NAME])) == 2


@pytest.mark.parametrize("rank", [0, 2])
def test_gradients_reach_the_masters_and_not_the_network(projection, rank):
    queries = TunableQueries({NAME: projection}, rank)
    change(queries)
    output(queries, projection, x_of()).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in queries.parameters.values())
    assert projection.weight.grad is None


def test_the_tuned_query_is_exactly_that_of_torch_in_float32(projection):
    queries = TunableQueries({NAME: projection})
    change(queries)
    weight = queries.parameters[f"{NAME}.weight"]
    expected = nn.functional.linear(x_of(), weight)
    assert torch.equal(output(queries, projection, x_of()), expected)
    torch.testing.assert_close(queries.tensors()[f"{NAME}.diff"], weight.detach() - projection.weight)


def test_deltas_take_query_tensors_only(projection):
    up, down, diff = torch.randn(4, 2), torch.randn(2, 6), torch.randn(4, 6)
    deltas = query_deltas(
        {
            "a.attn1.to_q.lora_up.weight": up.half(),
            "a.attn1.to_q.lora_down.weight": down.half(),
            "a.attn2.to_q.diff": diff.half(),
            "a.attn_temp.to_q.weight": torch.ones(4, 4),
        }
    )
    assert sorted(deltas) == ["a.attn1.to_q", "a.attn2.to_q"]
    torch.testing.assert_close(deltas["a.attn1.to_q"], up.half().float() @ down.half().float())
    assert torch.equal(deltas["a.attn2.to_q"], diff.half().float())


def test_projections_of_a_network(host):
    blocks = host.transformer_blocks()
    projections = query_projections(blocks)
    assert len(projections) == 2 * len(blocks)
    for name, block in blocks.items():
        assert projections[f"{name}.attn1.to_q"] is block.attn1.to_q
        assert projections[f"{name}.attn2.to_q"] is block.attn2.to_q
