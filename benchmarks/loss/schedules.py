"""The schedules that are compared."""

from __future__ import annotations

from tav_core.settings import values_of
from tav_core.tuning.settings import TuningSettings

OFFICIAL = "official"
DEFAULT = "default"
OFFICIAL_STEPS, OFFICIAL_RATE = TuningSettings.official().steps, TuningSettings.official().learning_rate
STEPS = TuningSettings().steps

_SPREAD = {"timesteps": "low-discrepancy"}
_DECAY = {"lr_scheduler": "cosine", "lr_warmup_steps": 10}
_OFFICIAL = values_of(TuningSettings.official())
_DEFAULT = {
    name: value
    for name, value in values_of(TuningSettings()).items()
    if value != _OFFICIAL[name] and name != "steps"
}

# Differences to the official settings; the learning rate is a factor on the official one.
SCHEDULES: dict[str, dict] = {
    OFFICIAL: {},
    DEFAULT: _DEFAULT,
    "default, min-SNR 5": {**_DEFAULT, "min_snr_gamma": 5.0},
    "default, two draws a step": {**_DEFAULT, "gradient_accumulation_steps": 2},
    "default, cosine": {**_DEFAULT, **_DECAY},
    "low-discrepancy": _SPREAD,
    "temporal x 5": {"temporal_lr_scale": 5.0},
    "low-discrepancy, temporal x 3": {**_SPREAD, "temporal_lr_scale": 3.0},
    "low-discrepancy, temporal x 10": {**_SPREAD, "temporal_lr_scale": 10.0},
    "low-discrepancy, rate x 3": {**_SPREAD, "learning_rate": 3.0},
    "low-discrepancy, rate x 3, cosine": {**_SPREAD, "learning_rate": 3.0, **_DECAY},
    "low-discrepancy, rate x 10, cosine": {**_SPREAD, "learning_rate": 10.0, **_DECAY},
}


def settings(name: str, base_rate: float, steps: int, seed: int) -> TuningSettings:
    """What the schedule ``name`` means for ``steps`` steps and the official rate ``base_rate``."""
    changes = dict(SCHEDULES[name])
    rate = base_rate * changes.pop("learning_rate", 1.0)
    return TuningSettings.official(
        steps=steps, learning_rate=rate, seed=seed, gradient_checkpointing="none", **changes
    )
