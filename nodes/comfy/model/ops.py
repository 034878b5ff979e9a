"""Layers that cast their weights as ComfyUI's do, for the modules that the pack makes itself."""

import comfy.ops
import torch
from torch import nn


class EagerOps(comfy.ops.manual_cast):
    """`comfy.ops.manual_cast` whose layers have weights of the dtype and device asked for from the start.

    With dynamic VRAM, the default on NVIDIA's GPUs, ComfyUI makes linear layers without weights and takes those of
    the state dict as they are. The pack looks at weights before any are loaded, and chooses their dtype.
    """

    class Linear(comfy.ops.manual_cast.Linear):
        """A linear layer that exists at once."""

        def __init__(
            self,
            in_features: int,
            out_features: int,
            bias: bool = True,
            device: torch.device | str | None = None,
            dtype: torch.dtype | None = None,
        ) -> None:
            super().__init__(in_features, out_features, bias, device, dtype)
            if self.weight is None:
                weight = torch.empty(out_features, in_features, device=device, dtype=dtype)
                self.weight = nn.Parameter(weight, requires_grad=False)
                if bias:
                    self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype), False)

        # That this is overridden tells newer versions of ComfyUI to make the layer at once.
        def _load_from_state_dict(self, *args: object) -> None:
            nn.Module._load_from_state_dict(self, *args)
