"""Tuned weights on a MODEL."""

import logging
from dataclasses import replace

from comfy.model_patcher import ModelPatcher

from ....tav_core.files.weights import TunedWeights, check_fit, check_prediction_type, query_deltas
from .blocks import block_paths, blocks_at
from .detect import check_model, prediction_type
from .inflate import AttachedLayers, Inflation, inflate, inflation_of, query_patches, temporal_patcher


def apply_weights(
    model: ModelPatcher, weights: TunedWeights, query_strength: float = 1.0, temporal_strength: float = 1.0
) -> ModelPatcher:
    """A clone of ``model``, inflated as ``weights`` were trained, with them applied.

    Applied on top of other tuned weights, query differences add up and so do the temporal layers' residuals, each
    with its strength; attention and norm are then the last file's. Strength 0 of a part leaves it out exactly.
    Raises WeightsError if the weights are of another architecture, naming the first misfits, or prediction type.
    """
    check_model(model)
    predicts = prediction_type(model)
    if predicts is not None:  # with a sampling patch such as LCM's it cannot be detected
        check_prediction_type(weights.metadata, predicts)
    blocks = blocks_at(model.model.diffusion_model, block_paths(model.model.model_config.unet_config))
    check_fit(weights.tensors, blocks)
    before = inflation_of(model) or Inflation()
    layers = before.layers
    if temporal_strength != 0:
        root = temporal_patcher(model, weights.tensors)
        if root is not None:
            layers = (*layers, AttachedLayers(root, temporal_strength))
    tuned = inflate(model, replace(before, mode=weights.metadata.mode, layers=layers))
    if query_strength != 0:
        patches = query_patches(model, query_deltas(weights.tensors))
        taken = tuned.add_patches(patches, query_strength)
        if len(taken) != len(patches):
            logging.warning(
                "Tune-A-Video: %d query weights fit no weight of the model and are left out",
                len(patches) - len(taken),
            )
    return tuned
