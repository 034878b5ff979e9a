"""What the stages may take at most, and what the official implementation takes, for the size `cpu`."""

from __future__ import annotations

# stage: (most in P, the official implementation's in P, most peak memory in MB, the official implementation's)
TARGETS = {
    "tuning, checkpointing none": (4.2, 13.0, 2600, 3960),
    "tuning, checkpointing all": (5.5, 14.0, 1500, 2400),
    "inversion": (1.4, 5.0, None, 1560),
    "guided sampling": (2.8, 9.5, 1600, 2600),
}
"""P is one forward pass of the plain image model over the same frames as a batch, in the same run. The official code
codes the clip and the text again in every tuning step, which is another 23 P there and not counted here."""

TARGETS_FOR = "cpu"
