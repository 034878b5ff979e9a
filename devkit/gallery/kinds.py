"""The node types that the example workflows use: sockets and widgets as ComfyUI's front end stores them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from tav_core.diffusion.settings import Strengths
from tav_core.inflation.mode import InflationMode
from tav_core.settings import values_of
from tav_core.tuning.settings import RunSettings

from ..world import settings as small

CHECKPOINT = "tiny-world.safetensors"
DREAMBOOTH = "tiny-world-dreambooth.safetensors"
SECOND = "tiny-world-2.safetensors"
"""Of Stable Diffusion 2.x's kind."""

LORA = "tiny-world-lora.safetensors"
CONTROLNET = "tiny-world-controlnet.safetensors"
CLIP, MASK_CLIP, SECOND_CLIP = "sample.mp4", "sample-mask.mp4", "sample-2.mp4"
LONG_CLIP, LONG_FRAMES = "sample-long.mp4", 48
FRAMES, SIZE = small.CLIP.frame_count, small.CLIP.width
STEPS, STRENGTH, CFG = small.SAMPLING.steps, small.INVERSION.strength, small.SAMPLING.cfg


class Kind(NamedTuple):
    """A node type.

    inputs, outputs: the sockets as {name: type}; widgets: {name: value for the small checkpoint}, in the order of
    the node's schema; height: room for the node with its previews, in pixels.
    """

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    widgets: Mapping[str, Any]
    height: int


# The widgets of Tune on One Video that stand before one of its settings.
_BEFORE = {
    "query_rank": {"filename_prefix": "tuned", "save_every": RunSettings().save_every},
    "frames_per_step": {"resume": RunSettings().resume},
    "timesteps": {"memory": "as set"},
}
_TUNING = {
    name: value
    for setting, chosen in values_of(small.TUNING).items()
    for name, value in (*_BEFORE.get(setting, {}).items(), (setting, chosen))
} | {"gradient_checkpointing": "automatic"}
_SAMPLING = {name: getattr(small.SAMPLING, name) for name in ("steps", "cfg", "seed")}
_ETA = {"eta": small.SAMPLING.eta}
_PAIR = {"positive": "CONDITIONING", "negative": "CONDITIONING"}
_WEIGHTS_FILE = {"weights": "TAV_WEIGHTS", "info": "STRING"}
_SAVED = {"filename_prefix": "tuned", "precision": "fp32 (exact)"}
_VIDEO = {"frames": "IMAGE", "fps": "FLOAT", "width": "INT", "height": "INT", "frame_count": "INT"}
_MEASURES = ("frame_consistency", "text_alignment", "warping_error", "background_psnr")


def _same(*names: str) -> dict[str, str]:
    """Sockets that are called as their types."""
    return {name: name for name in names}


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        # the front end's own
        "MarkdownNote": Kind({}, {}, {"text": ""}, 0),
        # core: loaders
        "CheckpointLoaderSimple": Kind({}, _same("MODEL", "CLIP", "VAE"), {"ckpt_name": CHECKPOINT}, 110),
        "LoraLoader": Kind(
            {"model": "MODEL", "clip": "CLIP"},
            _same("MODEL", "CLIP"),
            {"lora_name": LORA, "strength_model": 1.0, "strength_clip": 1.0},
            140,
        ),
        "ControlNetLoader": Kind({}, _same("CONTROL_NET"), {"control_net_name": CONTROLNET}, 70),
        # core: words and pictures
        "CLIPTextEncode": Kind({"clip": "CLIP"}, _same("CONDITIONING"), {"text": ""}, 140),
        "ControlNetApplyAdvanced": Kind(
            _PAIR | {"control_net": "CONTROL_NET", "image": "IMAGE", "vae": "VAE"},
            _PAIR,
            {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0},
            210,
        ),
        "VAEEncode": Kind({"pixels": "IMAGE", "vae": "VAE"}, _same("LATENT"), {}, 60),
        "VAEDecode": Kind({"samples": "LATENT", "vae": "VAE"}, _same("IMAGE"), {}, 60),
        "ImageToMask": Kind({"image": "IMAGE"}, _same("MASK"), {"channel": "red"}, 70),
        "GrowMask": Kind({"mask": "MASK"}, _same("MASK"), {"expand": 6, "tapered_corners": True}, 100),
        "InvertMask": Kind({"mask": "MASK"}, _same("MASK"), {}, 50),
        # core: sampling in parts
        "DisableNoise": Kind({}, _same("NOISE"), {}, 50),
        "BasicGuider": Kind({"model": "MODEL", "conditioning": "CONDITIONING"}, _same("GUIDER"), {}, 60),
        "CFGGuider": Kind({"model": "MODEL"} | _PAIR, _same("GUIDER"), {"cfg": CFG}, 120),
        "SamplerCustomAdvanced": Kind(
            {
                "noise": "NOISE",
                "guider": "GUIDER",
                "sampler": "SAMPLER",
                "sigmas": "SIGMAS",
                "latent_image": "LATENT",
            },
            {"output": "LATENT", "denoised_output": "LATENT"},
            {},
            130,
        ),
        # core: long clips
        "ContextWindowsManual": Kind(
            {"model": "MODEL"},
            _same("MODEL"),
            {
                "context_length": FRAMES,
                "context_overlap": 4,
                "context_schedule": "standard_static",
                "context_stride": 1,
                "closed_loop": False,
                "fuse_method": "pyramid",
                "dim": 0,
                "freenoise": False,
            },
            410,
        ),
        # core: results
        "CreateVideo": Kind({"images": "IMAGE", "audio": "AUDIO"}, _same("VIDEO"), {"fps": 8.0}, 110),
        "SaveVideo": Kind(
            {"video": "VIDEO"}, {}, {"filename_prefix": "video", "format": "mp4", "codec": "h264"}, 480
        ),
        "SaveImage": Kind({"images": "IMAGE"}, {}, {"filename_prefix": "image"}, 370),
        "PreviewImage": Kind({"images": "IMAGE"}, {}, {}, 300),
        # ours
        "TAVLoadVideo": Kind(
            {"video_input": "VIDEO"},
            _VIDEO,
            {"video": CLIP} | values_of(small.CLIP),
            660,
        ),
        "TAVInflateModel": Kind({"model": "MODEL"}, _same("MODEL"), values_of(InflationMode()), 140),
        "TAVTune": Kind(
            {"model": "MODEL", "latent": "LATENT", "positive": "CONDITIONING"},
            {"MODEL": "MODEL", "weights": "TAV_WEIGHTS", "loss_map": "LOSS_MAP"},
            _TUNING,
            760,
        ),
        "TAVApplyWeights": Kind(
            {"model": "MODEL", "weights": "TAV_WEIGHTS"},
            _same("MODEL"),
            values_of(Strengths()),
            140,
        ),
        "TAVSaveWeights": Kind({"weights": "TAV_WEIGHTS"}, {}, _SAVED, 170),
        "TAVLoadWeights": Kind({}, _WEIGHTS_FILE, {"file": "quickstart_00001.safetensors"}, 130),
        "TAVLoadOfficial": Kind(
            {"model": "MODEL"}, _WEIGHTS_FILE, {"folder": "official_00001", "exact": True}, 130
        ),
        "TAVSaveOfficial": Kind({"model": "MODEL", "weights": "TAV_WEIGHTS"}, {}, _SAVED, 190),
        "TAVSaveQueryLora": Kind({"weights": "TAV_WEIGHTS"}, {}, _SAVED, 170),
        "TAVPromptSchedule": Kind(
            {"clip": "CLIP"},
            _same("CONDITIONING"),
            {"prompts": "", "frame_count": FRAMES, "blend": True},
            340,
        ),
        "TAVEditList": Kind(
            {"clip": "CLIP"},
            {"CONDITIONING": "CONDITIONING", "captions": "STRING"},
            {"edits": "", "source": "Source"},
            260,
        ),
        "TAVDDIMInversion": Kind(
            {
                "model": "MODEL",
                "conditioning": "CONDITIONING",
                "latent": "LATENT",
                "negative": "CONDITIONING",
            },
            _same("LATENT"),
            {"steps": STEPS, "cfg": 1.0, "keep_trajectory": False, "strength": STRENGTH},
            390,
        ),
        "TAVSample": Kind(
            {"model": "MODEL"} | _PAIR | {"latent": "LATENT", "mask": "MASK"},
            _same("LATENT"),
            _SAMPLING | {"start": "inverted clip"} | _ETA,
            480,
        ),
        "TAVDDIMSampler": Kind({}, _same("SAMPLER"), {"direction": "sampling"} | _ETA, 120),
        "TAVDDIMSigmas": Kind(
            {"model": "MODEL"},
            _same("SIGMAS"),
            {"steps": STEPS, "direction": "sampling", "strength": STRENGTH},
            140,
        ),
        "TAVCompareVideos": Kind(
            {"source": "IMAGE", "edited.edited_1": "IMAGE"},
            {"comparison": "IMAGE"},
            {"captions": "", "layout": "contact sheet", "columns": 6},
            540,
        ),
        "TAVEvaluate": Kind(
            {"frames": "IMAGE", "source": "IMAGE", "background": "MASK", "clip_vision": "CLIP_VISION"},
            {"report": "STRING", "json": "STRING"} | dict.fromkeys(_MEASURES, "FLOAT"),
            {"prompt": "", "clip_model": "none"},
            360,
        ),
        "TAVReconstruction": Kind(
            dict.fromkeys(("source", "reconstruction", "autoencoded"), "IMAGE"),
            {"report": "STRING", "psnr": "FLOAT", "difference": "IMAGE"},
            {},
            220,
        ),
    }
)
