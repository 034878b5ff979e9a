"""The settings of inversion and sampling, and the strengths of tuned weights."""

from dataclasses import dataclass

from ..settings import Settings, setting


@dataclass(frozen=True)
class Strengths(Settings):
    """How much of the tuned weights counts."""

    query_strength: float = setting(
        1.0, "Strength of the tuned attention queries. 0 leaves the model's own.", -2.0, 2.0, step=0.05
    )
    temporal_strength: float = setting(
        1.0, "Strength of the temporal layers. 0 leaves them out.", -2.0, 2.0, step=0.05
    )


@dataclass(frozen=True)
class Inversion(Settings):
    """How to invert. In small models the source prompt as ``prompt`` keeps the motion better."""

    steps: int = setting(
        50,
        "Inversion steps. Use the same number for sampling, best a divisor of 1000.",
        1,
        1000,
    )
    strength: float = setting(
        1.0,
        "How far to invert towards noise. 1 is all the way, as in the paper; 0.5 to 0.8 keeps the clip's layout and "
        "motion better, and takes that share of the steps.",
        0.05,
        1.0,
        step=0.05,
    )
    prompt: str = setting("", "The prompt for the inversion; empty as in the paper.")


@dataclass(frozen=True)
class Sampling(Settings):
    """How to sample. ``cfg`` above 1 sets the prompt against the one to avoid, ``negative``.

    ``steps`` is for the whole way from noise; noise that was inverted to a lower strength takes its share of them.
    """

    steps: int = setting(50, "Sampling steps. Use the same number as for the inversion.", 1, 1000)
    cfg: float = setting(
        12.5,
        "Classifier-free guidance scale. The paper uses 12.5; 7 to 12 is usual.",
        0.0,
        100.0,
        step=0.1,
    )
    seed: int = setting(0, "Only used with eta above 0 or a start from fresh noise.", 0, 0xFFFFFFFFFFFFFFFF)
    eta: float = setting(
        0.0,
        "Fresh noise per step: 0 is deterministic DDIM, 1 is DDPM, which loses the clip.",
        0.0,
        1.0,
        step=0.01,
        advanced=True,
    )
    negative: str = setting("", "What to avoid; an empty prompt as in the paper.")
