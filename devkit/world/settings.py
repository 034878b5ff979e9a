"""The settings that suit the small checkpoint, for the example graphs and the benchmarks."""

from __future__ import annotations

from tav_core.diffusion.settings import Inversion, Sampling
from tav_core.tuning.settings import TuningSettings
from tav_core.video.settings import FrameSelection

from .backgrounds import SIDE

CLIP = FrameSelection(frame_count=16, width=SIDE, height=SIDE)
TUNING = TuningSettings(steps=120, learning_rate=3e-4, temporal_lr_scale=3.0)
INVERSION = Inversion(steps=25, strength=0.5)
SAMPLING = Sampling(steps=25, cfg=6.0)
