"""The query projections that tuning changes, as full matrices or as low-rank differences."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ..inflation.host import TransformerBlock
from ..inflation.layers import linear
from ..patching import Overrides


class TunableQueries:
    """Float32 masters of query weights, kept apart from the network they belong to.

    ``projections`` maps names (``<block>.attn1.to_q``) to the network's linear layers without bias. With ``rank``
    0 the full weight learns, starting from the network's. With ``rank`` r > 0 the weight is base + up @ down, with
    down (r, in) random and up (out, r) zero (LoRA, arXiv 2106.09685, alpha = r).

    ``parameters`` holds what learns: ``<name>.weight``, or ``<name>.lora_up.weight`` and ``.lora_down.weight``.
    """

    def __init__(self, projections: Mapping[str, nn.Linear], rank: int = 0, seed: int = 0) -> None:
        self.projections = dict(projections)
        self.rank = rank
        self.parameters: dict[str, nn.Parameter] = {}
        generator = torch.Generator().manual_seed(seed)
        for name, projection in self.projections.items():
            base = projection.weight.detach()
            if rank == 0:
                self.parameters[f"{name}.weight"] = nn.Parameter(base.float().clone())
                continue
            down = torch.randn(rank, base.shape[1], generator=generator) / rank
            self.parameters[f"{name}.lora_down.weight"] = nn.Parameter(down.to(base.device))
            up = torch.zeros(base.shape[0], rank, device=base.device)
            self.parameters[f"{name}.lora_up.weight"] = nn.Parameter(up)

    def weight(self, name: str) -> Tensor:
        """The current float32 weight (out, in) of a projection."""
        if self.rank == 0:
            return self.parameters[f"{name}.weight"]
        up, down = (self.parameters[f"{name}.lora_{part}.weight"] for part in ("up", "down"))
        return self.projections[name].weight.float() + up @ down

    def attach(self, overrides: Overrides) -> None:
        """Makes the network compute its queries from the masters until ``overrides`` are detached."""

        def around(name: str) -> Callable[..., Tensor]:
            return lambda forward, x: linear(x, self.weight(name))

        for name, projection in self.projections.items():
            overrides.wrap_forward(projection, around(name))

    @torch.no_grad()
    def tensors(self) -> dict[str, Tensor]:
        """What was learned, by the names of the tuned-weights file, as float32 copies on the CPU."""
        if self.rank > 0:
            return {name: parameter.detach().cpu().clone() for name, parameter in self.parameters.items()}
        return {
            f"{name}.diff": (self.weight(name) - projection.weight.float()).cpu()
            for name, projection in self.projections.items()
        }


def query_projections(blocks: Mapping[str, TransformerBlock]) -> dict[str, nn.Linear]:
    """The self- and cross-attention query layers of ``blocks``, by ``<block>.attn1.to_q`` and so on."""
    return {
        f"{name}.{attention}.to_q": layer.to_q
        for name, block in blocks.items()
        for attention, layer in (("attn1", block.attn1), ("attn2", block.attn2))
    }
