"""Layers whose float32 parameters follow the dtype of what flows through them."""

from torch import Tensor, nn
from torch.nn import functional


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear` with ``weight`` and ``bias`` cast to the dtype of ``x``."""
    return functional.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


class CastLinear(nn.Linear):
    """A linear layer that keeps a float32 master and computes in the dtype of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out), in the dtype of ``x``."""
        return linear(x, self.weight, self.bias)


class CastLayerNorm(nn.LayerNorm):
    """A layer norm that keeps float32 parameters and computes in the dtype of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., channels) to the same shape, in the dtype of ``x``."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return functional.layer_norm(x, self.normalized_shape, weight, bias, self.eps)


class CastOps:
    """The layer classes that the temporal layers are built from, unless a host brings its own."""

    Linear = CastLinear
    LayerNorm = CastLayerNorm
