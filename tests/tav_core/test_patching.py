"""Overrides leave no trace."""

import pytest
import torch
from torch import nn

from tav_core.patching import Overrides


@pytest.fixture
def module():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(3, 3)


X = torch.arange(6.0).reshape(2, 3)


def trace(module):
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    return dict(module.__dict__), list(module.__dict__), state


def same(before, after):
    return (
        before[1] == after[1]
        and all(before[0][name] is after[0][name] for name in before[1])
        and before[2].keys() == after[2].keys()
        and all(torch.equal(before[2][name], after[2][name]) for name in before[2])
    )


def test_detach_leaves_dict_state_and_output_as_they_were(module):
    before, y = trace(module), module(X)
    overrides = Overrides()
    overrides.wrap_forward(module, lambda forward, x: forward(x) + 1)
    overrides.set(module, "note", "temporary")
    assert torch.equal(module(X), y + 1)
    assert module.note == "temporary"
    overrides.detach()
    assert same(before, trace(module))
    assert torch.equal(module(X), y)
    assert not hasattr(module, "note")


def test_an_exception_inside_still_detaches(module):
    before = trace(module)
    with pytest.raises(KeyboardInterrupt), Overrides() as overrides:
        overrides.wrap_forward(module, lambda forward, x: forward(x) + 1)
        raise KeyboardInterrupt
    assert same(before, trace(module))


def test_what_the_instance_had_before_comes_back(module):
    def foreign(x):
        return x * 2

    module.forward = foreign
    with Overrides() as overrides:
        overrides.wrap_forward(module, lambda forward, x: forward(x) + 1)
        assert torch.equal(module(X), X * 2 + 1)
    assert module.__dict__["forward"] is foreign


def test_an_attribute_that_was_none_comes_back_as_none(module):
    module.note = None
    with Overrides() as overrides:
        overrides.set(module, "note", 1)
    assert module.__dict__["note"] is None


def test_stacked_overrides_nest_and_restore_the_one_below(module):
    before, y = trace(module), module(X)
    with Overrides() as outer:
        outer.wrap_forward(module, lambda forward, x: forward(x) * 2)
        middle = trace(module)
        with Overrides() as inner:
            inner.wrap_forward(module, lambda forward, x: forward(x) + 1)
            inner.wrap_forward(module, lambda forward, x: forward(x) * 3)
            assert torch.equal(module(X), (y * 2 + 1) * 3)
        assert same(middle, trace(module))
        assert torch.equal(module(X), y * 2)
    assert same(before, trace(module))


def test_detaching_twice_does_nothing_more(module):
    overrides = Overrides()
    overrides.wrap_forward(module, lambda forward, x: forward(x) + 1)
    overrides.detach()
    module.forward = "somebody else's"
    overrides.detach()
    assert module.__dict__["forward"] == "somebody else's"


def test_overrides_can_be_used_again_after_detach(module):
    y, overrides = module(X), Overrides()
    for _ in range(2):
        overrides.wrap_forward(module, lambda forward, x: forward(x) + 1)
        assert torch.equal(module(X), y + 1)
        overrides.detach()
        assert torch.equal(module(X), y)


def test_keyword_arguments_and_hooks_pass_through(module):
    seen = []
    module.register_forward_hook(lambda *_: seen.append("hook"))
    with Overrides() as overrides:
        overrides.wrap_forward(module, lambda forward, *args, **kwargs: forward(*args, **kwargs))
        assert torch.equal(module(input=X), module(X))
    assert seen == ["hook", "hook"]
