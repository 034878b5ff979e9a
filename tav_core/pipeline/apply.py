"""Tuned weights on a diffusers UNet while it samples."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from ..diffusion.settings import Strengths
from ..files.weights import TunedWeights, check_fit, check_prediction_type, query_deltas
from ..inflation.attach import BlockResidual, combine
from ..inflation.mode import InflationMode
from ..inflation.temporal import TemporalLayers, temporal_sizes
from ..tuning.queries import query_projections
from .unet import DiffusersHost


@contextmanager
def applied(
    host: DiffusersHost,
    weights: TunedWeights | None,
    strengths: Strengths = Strengths(),
) -> Iterator[tuple[InflationMode, Mapping[str, BlockResidual]]]:
    """Puts the tuned queries into the host's UNet and gives mode and temporal layers for its `denoiser`.

    Afterwards the UNet has its own weights again, the very same tensors. Without ``weights`` it is inflated only.
    Raises WeightsError if they do not fit.
    """
    if weights is None:
        yield InflationMode(), {}
        return
    blocks = host.transformer_blocks()
    check_fit(weights.tensors, blocks)
    check_prediction_type(weights.metadata, host.schedule.prediction_type)
    layers: Mapping[str, BlockResidual] = {}
    if strengths.temporal_strength != 0:
        heads = {name: block.attn1.heads for name, block in blocks.items()}
        temporal = TemporalLayers(temporal_sizes(blocks, weights.tensors, heads))
        temporal.load(weights.tensors)
        layers = combine([(temporal.to(host.device).requires_grad_(False), strengths.temporal_strength)])
    projections = query_projections(blocks)
    deltas = query_deltas(weights.tensors) if strengths.query_strength != 0 else {}
    own = {name: projections[name].weight.data for name in deltas}
    try:
        for name, delta in deltas.items():
            tuned = own[name].float() + strengths.query_strength * delta.to(host.device)
            projections[name].weight.data = tuned.to(own[name].dtype)
        with torch.no_grad():
            yield weights.metadata.mode, layers
    finally:
        for name, weight in own.items():
            projections[name].weight.data = weight
