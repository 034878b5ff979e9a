"""Temporal attention: the new layer over time after every transformer block (Tune-A-Video, section 3.2)."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from .layers import CastOps

# Kernels of GPUs take fewer than 65536 rows (github.com/pytorch/pytorch/issues/142228); a clip of 1024 x 1024
# has 16384 positions, a batch of several conditions as many times more.
_MOST_ROWS = 2**15


class TemporalAttention(nn.Module):
    """Multi-head self-attention over frames, separately at each position; no positional encoding, no mask."""

    def __init__(self, dim: int, heads: int, ops: Any = CastOps, **factory: Any) -> None:
        super().__init__()
        self.dim = dim
        self.heads = heads
        self.to_q = ops.Linear(dim, dim, bias=False, **factory)
        self.to_k = ops.Linear(dim, dim, bias=False, **factory)
        self.to_v = ops.Linear(dim, dim, bias=False, **factory)
        self.to_out = nn.ModuleList([ops.Linear(dim, dim, **factory)])

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """(batch * frames, tokens, channels) to the same shape."""
        q, k, v = (
            rearrange(project(x), "(b f) n (h c) -> (b n) h f c", f=frames, h=self.heads)
            for project in (self.to_q, self.to_k, self.to_v)
        )
        y = rearrange(_attend(q, k, v), "(b n) h f c -> (b f) n (h c)", n=x.shape[1])
        return self.to_out[0](y)


class TemporalLayer(nn.Module):
    """Norm and temporal attention of one transformer block, under the official code's parameter names."""

    def __init__(self, dim: int, heads: int, ops: Any = CastOps, **factory: Any) -> None:
        super().__init__()
        self.norm_temp = ops.LayerNorm(dim, **factory)
        self.attn_temp = TemporalAttention(dim, heads, ops, **factory)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """The residual to add to the block's output ``x`` (batch * frames, tokens, channels)."""
        return self.attn_temp(self.norm_temp(x), frames)


class TemporalLayers(nn.Module):
    """One `TemporalLayer` per transformer block, addressed by the block's diffusers name.

    ``sizes`` maps block names to (channels, heads). Parameters are named as in the official files:
    ``<block>.attn_temp.to_q.weight`` and so on.
    """

    def __init__(self, sizes: Mapping[str, tuple[int, int]], ops: Any = CastOps, **factory: Any) -> None:
        super().__init__()
        for name, (dim, heads) in sizes.items():
            _add_nested(self, name.split("."), TemporalLayer(dim, heads, ops, **factory))
        self.names = tuple(sizes)

    def __getitem__(self, name: str) -> TemporalLayer:
        return cast(TemporalLayer, self.get_submodule(name))

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes parameters from ``tensors``; norms and the output bias may be missing and are then neutral.

        Raises RuntimeError naming what is missing otherwise, or has another shape.
        """
        state = {}
        for name in self.names:
            dim = self[name].attn_temp.dim
            state[f"{name}.norm_temp.weight"] = torch.ones(dim)
            state[f"{name}.norm_temp.bias"] = torch.zeros(dim)
            state[f"{name}.attn_temp.to_out.0.bias"] = torch.zeros(dim)
        own = tuple(f"{name}.{part}_temp." for name in self.names for part in ("norm", "attn"))
        state |= {name: tensor for name, tensor in tensors.items() if name.startswith(own)}
        self.load_state_dict(state)

    def tensors(self) -> dict[str, Tensor]:
        """Float32 copies on the CPU of all parameters but norms that are neutral, which the method never trains."""
        tensors = {name: p.detach().float().cpu().clone() for name, p in self.state_dict().items()}
        for name in self.names:
            weight, bias = (f"{name}.norm_temp.{part}" for part in ("weight", "bias"))
            if bool((tensors[weight] == 1).all()) and bool((tensors[bias] == 0).all()):
                del tensors[weight], tensors[bias]
        return tensors

    @torch.no_grad()
    def reset(self, seed: int) -> None:
        """Fresh layers that change nothing yet: torch's default weights, a zero output weight and bias.

        The same seed gives the same weights on every device. The official code leaves the output bias random;
        here an untuned inflated model is exactly the image model.
        """
        generator = torch.Generator().manual_seed(seed)
        for name in self.names:
            layer = self[name]
            layer.norm_temp.weight.fill_(1.0)
            layer.norm_temp.bias.zero_()
            for projection in (layer.attn_temp.to_q, layer.attn_temp.to_k, layer.attn_temp.to_v):
                fresh = torch.empty(projection.weight.shape)
                nn.init.kaiming_uniform_(fresh, a=5**0.5, generator=generator)
                projection.weight.copy_(fresh)
            for parameter in layer.attn_temp.to_out.parameters():  # weight and bias
                parameter.zero_()


def temporal_sizes(
    names: Iterable[str], tensors: Mapping[str, Tensor], heads: Mapping[str, int]
) -> dict[str, tuple[int, int]]:
    """(channels, heads) of the blocks among ``names`` for which ``tensors`` hold temporal attention."""
    sizes = {}
    for name in names:
        weight = tensors.get(f"{name}.attn_temp.to_q.weight")
        if weight is not None:
            sizes[name] = (weight.shape[1], heads[name])
    return sizes


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if len(q) <= _MOST_ROWS:
        return functional.scaled_dot_product_attention(q, k, v)
    runs = zip(q.split(_MOST_ROWS), k.split(_MOST_ROWS), v.split(_MOST_ROWS), strict=True)
    return torch.cat([functional.scaled_dot_product_attention(*run) for run in runs])


def _add_nested(root: nn.Module, path: list[str], leaf: nn.Module) -> None:
    for part in path[:-1]:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    root.add_module(path[-1], leaf)
