"""Gradient checkpointing of single modules."""

import pytest
import torch
from torch import nn

from tav_core.patching import Overrides
from tav_core.tuning.checkpointing import attach_checkpointing


class Block(nn.Module):
    """Counts how often it runs, and counts up a dictionary that it is given, as blocks of ComfyUI do."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 4))
        self.runs = 0

    def forward(self, x, options=None, *, scale=1.0):
        self.runs += 1
        if options is not None:
            options["index"] = options.get("index", 0) + 1
            scale = scale * options["index"]
        return self.layers(x * scale)


@pytest.fixture
def block():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Block()


X = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))


def gradients(block, checkpointed, *args, **kwargs):
    block.zero_grad()
    block.runs = 0
    with Overrides() as overrides:
        attach_checkpointing(overrides, [block] if checkpointed else [])
        block(X, *args, **kwargs).square().sum().backward()
    return {name: p.grad.clone() for name, p in block.named_parameters()}


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((), {"scale": 2.0}), (({"index": 2},), {})])
def test_gradients_are_bit_identical_and_the_block_runs_twice(block, args, kwargs):
    """The input needs no gradient, as in the first blocks of a network: they train all the same."""
    plain = gradients(block, False, *(dict(a) for a in args), **kwargs)
    assert block.runs == 1
    recomputed = gradients(block, True, *(dict(a) for a in args), **kwargs)
    assert block.runs == 2
    assert all(torch.equal(plain[name], recomputed[name]) for name in plain)
    assert all(grad.abs().max() > 0 for grad in plain.values())


def test_a_dictionary_given_by_name_is_recomputed_as_it_was(block):
    plain = gradients(block, False, options={"index": 1})
    recomputed = gradients(block, True, options={"index": 1})
    assert all(torch.equal(plain[name], recomputed[name]) for name in plain)


def test_what_was_attached_before_is_recomputed_too(block):
    def run(checkpointed):
        factor = nn.Parameter(torch.tensor(1.5))
        with Overrides() as overrides:
            overrides.wrap_forward(block, lambda forward, x: forward(x) * factor)
            attach_checkpointing(overrides, [block] if checkpointed else [])
            block(X).square().sum().backward()
        return factor.grad

    assert torch.equal(run(True), run(False))


def test_activations_inside_are_not_kept(block):
    def saved(checkpointed):
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            with Overrides() as overrides:
                attach_checkpointing(overrides, [block] if checkpointed else [])
                block(X)
        return sum(t.numel() for t in kept if t.shape == (3, 8))

    assert saved(False) > 0
    assert saved(True) == 0


def test_the_random_state_is_left_alone(block):
    with torch.random.fork_rng(devices=[]):
        state = torch.get_rng_state()
        gradients(block, True)
        assert torch.equal(torch.get_rng_state(), state)
