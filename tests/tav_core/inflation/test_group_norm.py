"""Group norm over all frames of a clip against torch's on a five-dimensional tensor."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from tav_core.inflation.group_norm import GroupStatistics, joint_group_norm


def norm_of(channels=8, groups=4):
    norm = nn.GroupNorm(groups, channels)
    generator = torch.Generator().manual_seed(3)
    norm.weight.data = torch.randn(channels, generator=generator)
    norm.bias.data = torch.randn(channels, generator=generator)
    return norm.requires_grad_(False)


def pictures(rows, height, width, channels=8):
    # Frames of different brightness and contrast, so that statistics per frame are far from the joint ones.
    x = torch.randn(rows, channels, height, width, generator=torch.Generator().manual_seed(4))
    ramp = torch.arange(1.0, rows + 1).reshape(-1, 1, 1, 1)
    return x * ramp + ramp


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("size", [(4, 4), (3, 5), (1, 7)])
def test_equals_a_group_norm_over_b_c_f_h_w(batch, frames, size):
    norm, x = norm_of(), pictures(batch * frames, *size)
    expected = norm(x.unflatten(0, (batch, frames)).transpose(1, 2)).transpose(1, 2).flatten(0, 1)
    y = joint_group_norm(norm, x, frames)
    assert y.shape == x.shape
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6)
    if frames > 1:
        assert (y - norm(x)).abs().max() > 0.1


def test_equals_the_plain_norm_at_one_frame_bit_for_bit():
    norm, x = norm_of(), pictures(3, 4, 4)
    assert torch.equal(joint_group_norm(norm, x, 1), norm(x))


def test_statistics_are_those_of_each_clip():
    x = pictures(6, 4, 5)
    y = joint_group_norm(nn.GroupNorm(4, 8), x, 3)
    groups = y.reshape(2, 3, 4, 2, 4, 5).transpose(1, 2).flatten(2)
    torch.testing.assert_close(groups.mean(-1), torch.zeros(2, 4), rtol=0, atol=1e-5)
    torch.testing.assert_close(groups.var(-1, correction=0), torch.ones(2, 4), rtol=0, atol=1e-4)


def test_non_contiguous_and_channels_last_input():
    norm, x = norm_of(), pictures(6, 4, 5)
    expected = joint_group_norm(norm, x, 3)
    for y in (x.contiguous(memory_format=torch.channels_last), x.mT.contiguous().mT):
        assert not y.is_contiguous()
        torch.testing.assert_close(joint_group_norm(norm, y, 3), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_dtype_and_does_not_overflow(dtype):
    norm = norm_of().to(dtype)
    x = pictures(4, 4, 4).to(dtype) * 1000  # squares and sums beyond float16's 65504
    y = joint_group_norm(norm, x, 4)
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), joint_group_norm(norm.float(), x.float(), 4), rtol=2e-2, atol=2e-2)


def test_gradients_are_those_of_the_five_dimensional_norm():
    norm, x = norm_of(), pictures(4, 3, 5).double().requires_grad_()
    norm = norm.double()
    weight = torch.randn_like(x)
    (ours,) = torch.autograd.grad((joint_group_norm(norm, x, 2) * weight).sum(), x)
    five = norm(x.unflatten(0, (2, 2)).transpose(1, 2)).transpose(1, 2).flatten(0, 1)
    (expected,) = torch.autograd.grad((five * weight).sum(), x)
    torch.testing.assert_close(ours, expected)


def test_rows_that_are_no_whole_clips_are_refused():
    with pytest.raises(RuntimeError):
        joint_group_norm(norm_of(), pictures(5, 4, 4), 2)


# In parts


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
