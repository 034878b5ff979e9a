"""The pack's own connection types."""

from comfy_api.latest import io

TunedWeightsType = io.Custom("TAV_WEIGHTS")
LossMapType = io.Custom("LOSS_MAP")
