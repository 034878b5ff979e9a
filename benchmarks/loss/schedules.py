"""The schedules that are compared."""

from __future__ import annotations

from tav_core.tuning import TuningSettings

OFFICIAL = "official"
OFFICIAL_STEPS = 500
STEPS = 200

_SPREAD = {"timesteps": "evenly spread"}
_DECAY = {"schedule": "cosine", "warmup_steps": 10}

# Differences to the official settings; the learning rate is a factor on the official one.
SCHEDULES: dict[str, dict] = {
    OFFICIAL: {},
    "evenly spread timesteps": _SPREAD,
    "temporal x 10": {"temporal_rate": 10.0},
    "evenly spread, temporal x 10": {**_SPREAD, "temporal_rate": 10.0},
    "evenly spread, temporal x 3": {**_SPREAD, "temporal_rate": 3.0},
    "evenly spread, temporal x 10, cosine": {**_SPREAD, "temporal_rate": 10.0, **_DECAY},
    "rate x 3": {"learning_rate": 3.0},
    "rate x 3, cosine": {"learning_rate": 3.0, **_DECAY},
    "evenly spread, rate x 3, cosine": {**_SPREAD, "learning_rate": 3.0, **_DECAY},
    "evenly spread, rate x 3, temporal x 3, cosine": {
        **_SPREAD,
        "learning_rate": 3.0,
        "temporal_rate": 3.0,
        **_DECAY,
    },
    "evenly spread, rate x 3, min-SNR 5, cosine": {
        **_SPREAD,
        "learning_rate": 3.0,
        "min_snr_gamma": 5.0,
        **_DECAY,
    },
    "evenly spread, rate x 10, cosine": {**_SPREAD, "learning_rate": 10.0, **_DECAY},
}


def settings(name: str, base_rate: float, steps: int, seed: int) -> TuningSettings:
    """What the schedule ``name`` means for ``steps`` steps and the official rate ``base_rate``."""
    changes = dict(SCHEDULES[name])
    rate = base_rate * changes.pop("learning_rate", 1.0)
    return TuningSettings(
        steps=steps, learning_rate=rate, seed=seed, gradient_checkpointing="none", **changes
    )
