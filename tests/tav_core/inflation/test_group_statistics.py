"""Group norm in parts against torch's on the whole."""

import pytest
import torch
from torch.nn import functional

from tav_core.inflation.group_norm import GroupStatistics


@pytest.mark.parametrize("cuts", [(7,), (3, 3, 1), (1,) * 7])
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_parts_give_the_norm_of_the_whole(cuts, offset):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 7, 12, 3, 5, generator=generator) * torch.arange(1, 8).view(1, 7, 1, 1, 1) + offset
    weight, bias = torch.randn(2, 12, generator=generator).unbind()
    expected = functional.group_norm(x.double().transpose(1, 2), 4, weight.double(), bias.double(), 1e-5)
    statistics = GroupStatistics(4)
    for part in x.split(cuts, dim=1):
        statistics.add(part)
    y = torch.cat([statistics.normalise(part, weight, bias, 1e-5) for part in x.split(cuts, dim=1)], dim=1)
    torch.testing.assert_close(y.transpose(1, 2).double(), expected, rtol=1e-5, atol=3e-5 if offset else 2e-6)


def test_halves_keep_their_dtype_and_are_counted_in_float32():
    x = torch.randn(1, 4, 8, 16, 16, generator=torch.Generator().manual_seed(0)).half()
    statistics = GroupStatistics(2)
    for part in x.split(1, dim=1):
        statistics.add(part)
    y = statistics.normalise(x, torch.ones(8).half(), torch.zeros(8).half(), 1e-5)
    expected = functional.group_norm(x.float().transpose(1, 2), 2).transpose(1, 2)
    assert y.dtype == torch.float16
    torch.testing.assert_close(y.float(), expected, rtol=2e-3, atol=1e-3)
