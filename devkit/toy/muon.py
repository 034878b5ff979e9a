"""Muon: momentum whose step is made orthogonal, for weights that are matrices.

Where steps are dear it takes about half as many as Adam (https://kellerjordan.github.io/posts/muon/).
"""

from __future__ import annotations

import torch

SMALLEST = 16
"""Matrices with a smaller side are left to Adam."""


def suits(value: torch.Tensor) -> bool:
    """Whether a weight is a matrix, or a convolution's kernels seen as one, and large enough."""
    return value.ndim >= 2 and min(len(value), value[0].numel()) >= SMALLEST


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonal steps, scaled so that Adam's learning rates suit it."""

    def __init__(self, groups: list[dict], lr: float, momentum: float = 0.95) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        """Take one step with the gradients that are there."""
        for group in self.param_groups:
            for value in group["params"]:
                if value.grad is None:
                    continue
                mean = self.state[value]["exp_avg"]
                mean.lerp_(value.grad, 1 - group["momentum"])
                ahead = value.grad.lerp(mean, group["momentum"]).flatten(1)
                way = orthogonal(ahead)
                value.sub_(way.view_as(value), alpha=group["lr"] * 0.6 * max(way.shape) ** 0.5)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Return about the nearest matrix whose singular values are all 1 (five Newton-Schulz rounds)."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if tall else x
