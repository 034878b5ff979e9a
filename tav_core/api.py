"""The library's public names, which `tav_core` gives as its own (see there)."""

from .diffusion.ddim import NonFiniteLatentsError
from .diffusion.settings import Inversion, Sampling, Strengths
from .files.lora import save_lora
from .files.official import load_official, save_official
from .files.weights import TunedMetadata, TunedWeights, WeightsError
from .inflation.mode import InflationMode
from .pipeline.edit import InvertedLatents, invert, load_tuned, sample, tune
from .pipeline.model import Model, ModelError, load_model
from .tuning.settings import RunSettings, TuningSettings
from .tuning.tuner import NonFiniteLossError, TuningStep
from .video.clip import Clip, read_clip
from .video.grid import compare_frames
from .video.source import VideoError
from .video.write import save_video

__all__ = [
    "Clip",
    "InflationMode",
    "Inversion",
    "InvertedLatents",
    "Model",
    "ModelError",
    "NonFiniteLatentsError",
    "NonFiniteLossError",
    "RunSettings",
    "Sampling",
    "Strengths",
    "TunedMetadata",
    "TunedWeights",
    "TuningSettings",
    "TuningStep",
    "VideoError",
    "WeightsError",
    "compare_frames",
    "invert",
    "load_model",
    "load_official",
    "load_tuned",
    "read_clip",
    "sample",
    "save_lora",
    "save_official",
    "save_video",
    "tune",
]
