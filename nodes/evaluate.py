"""Evaluate Video and Reconstruction Check."""

import json
import math

import torch
from comfy_api.latest import io, ui

from ..tav_core.metrics.consistency import frame_consistency
from ..tav_core.metrics.psnr import frame_psnr, psnr
from ..tav_core.metrics.warping import warping_error
from .comfy.clip_models import clip_models, clip_score
from .comfy.node import Node

NO_CLIP = "none"
GOOD_DB, FAIR_DB = 25.0, 20.0


class TAVEvaluate(Node):
    """The usual measures of an edited video, as the papers define them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVEvaluate",
            display_name="Evaluate Video",
            category="Tune-A-Video",
            description="Measures an edited video: frame consistency, text alignment, warping error, background PSNR.",
            search_aliases=[
                "metrics",
                "clip score",
                "frame consistency",
                "psnr",
                "warping error",
                "benchmark",
            ],
            is_output_node=True,
            inputs=[
                io.Image.Input("frames", tooltip="The edited frames."),
                io.Image.Input(
                    "source",
                    optional=True,
                    tooltip="The source frames; needed for the background, and gives the motion for the warping error.",
                ),
                io.Mask.Input(
                    "background",
                    optional=True,
                    tooltip=(
                        "White where the edit should change nothing: one mask, or one per frame."
                        " Without it the background is not measured."
                    ),
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="A CLIP Vision model for the frame consistency, used when clip_model is none.",
                ),
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    tooltip="The edit prompt, for the text alignment.",
                ),
                io.Combo.Input(
                    "clip_model",
                    options=[NO_CLIP, *clip_models()],
                    default=NO_CLIP,
                    tooltip=(
                        "A folder in models/clip_vision with a whole CLIP model as transformers saves it, for frame"
                        " consistency and text alignment. Papers use openai/clip-vit-large-patch14."
                    ),
                ),
            ],
            outputs=[
                io.String.Output(
                    "report", display_name="report", tooltip="What was measured, and what is good."
                ),
                io.String.Output(
                    "json", display_name="json", tooltip="The same numbers as JSON; null is not measured."
                ),
                io.Float.Output(
                    "frame_consistency",
                    display_name="frame_consistency",
                    tooltip="Mean cosine of CLIP features over all pairs of frames, times 100. NaN: not measured.",
                ),
                io.Float.Output(
                    "text_alignment",
                    display_name="text_alignment",
                    tooltip="Mean CLIP score of the frames with the prompt. NaN: not measured.",
                ),
                io.Float.Output(
                    "warping_error",
                    display_name="warping_error",
                    tooltip="Mean squared difference of frames carried along the motion, times 1000. Less is steadier.",
                ),
                io.Float.Output(
                    "background_psnr",
                    display_name="background_psnr",
                    tooltip="PSNR in dB against the source where the background mask is white. NaN: not measured.",
                ),
            ],
        )

    @classmethod
    def execute(cls, frames, prompt, clip_model, source, background, clip_vision) -> io.NodeOutput:
        frames = _pictures(frames)
        if source is not None:
            source = _same_shape("source", _pictures(source), frames)
        values = dict.fromkeys(_WORDS, math.nan)
        if clip_model != NO_CLIP:
            score = clip_score(clip_model)
            values["frame_consistency"] = score.frame_consistency(frames)
            if prompt.strip():
                values["text_alignment"] = score.text_alignment(frames, prompt)
        elif clip_vision is not None:
            values["frame_consistency"] = frame_consistency(clip_vision.encode_image(frames)["image_embeds"])
        values["warping_error"] = 1000 * warping_error(frames, source)
        if source is not None and background is not None:
            values["background_psnr"] = psnr(frames, source, _background("background", background, frames))
        report = "\n".join(_evaluate_line(name, value) for name, value in values.items())
        return io.NodeOutput(report, _json(values), *values.values(), ui=ui.PreviewText(report))


class TAVReconstruction(Node):
    """How well inversion and sampling bring the source back: what an edit can keep at best."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVReconstruction",
            display_name="Reconstruction Check",
            category="Tune-A-Video",
            description=(
                "Compares the source with its reconstruction: the clip inverted and sampled again under its own "
                "prompt at cfg 1. A poor one means that edits will lose the motion."
            ),
            search_aliases=["psnr", "inversion quality", "reconstruction error", "compare videos"],
            is_output_node=True,
            inputs=[
                io.Image.Input("source", tooltip="The source frames."),
                io.Image.Input(
                    "reconstruction",
                    tooltip="Sample Edited Video with the source prompt at cfg 1, then VAE Decode.",
                ),
                io.Image.Input(
                    "autoencoded",
                    optional=True,
                    tooltip="The source through VAE Encode and VAE Decode: the best that is possible.",
                ),
            ],
            outputs=[
                io.String.Output("report", display_name="report", tooltip="The numbers and what they mean."),
                io.Float.Output(
                    "psnr", display_name="psnr", tooltip="PSNR in dB over all frames; more is better."
                ),
                io.Image.Output(
                    "difference",
                    display_name="difference",
                    tooltip="Where reconstruction and source differ, four times enlarged in strength.",
                ),
            ],
        )

    @classmethod
    def execute(cls, source, reconstruction, autoencoded) -> io.NodeOutput:
        source = _pictures(source)
        reconstruction = _same_shape("reconstruction", _pictures(reconstruction), source)
        value = psnr(reconstruction, source)
        each = frame_psnr(reconstruction, source)
        worst = min(range(len(each)), key=each.__getitem__)
        lines = [
            f"PSNR against the source: {value:.1f} dB ({_verdict(value)})",
            f"worst frame: {worst}, {each[worst]:.1f} dB",
        ]
        if autoencoded is not None:
            autoencoded = _same_shape("autoencoded", _pictures(autoencoded), source)
            lines.append(f"the VAE alone: {psnr(autoencoded, source):.1f} dB")
            lines.append(f"PSNR against what the VAE gives: {psnr(reconstruction, autoencoded):.1f} dB")
        report = "\n".join(lines)
        difference = (4 * (reconstruction - source).abs()).clamp(0, 1)
        return io.NodeOutput(report, value, difference, ui=ui.PreviewText(report))


_WORDS = {
    "frame_consistency": ("frame consistency", "{:.2f} (100 is a still picture)", "choose a CLIP model"),
    "text_alignment": ("text alignment", "{:.2f} (more is better)", "choose clip_model and write the prompt"),
    "warping_error": ("warping error x1000", "{:.2f} (less is steadier)", "needs two frames"),
    "background_psnr": ("background PSNR", "{:.1f} dB (more is better)", "connect source and background"),
}


def _evaluate_line(name: str, value: float) -> str:
    title, shown, missing = _WORDS[name]
    return f"{title}: {f'not measured; {missing}' if math.isnan(value) else shown.format(value)}"


def _json(values: dict[str, float]) -> str:
    """JSON knows neither NaN nor infinity."""
    known = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return json.dumps(known)


def _verdict(decibels: float) -> str:
    if decibels >= GOOD_DB:
        return "good: the motion is kept"
    if decibels >= FAIR_DB:
        return "fair: tune longer or invert with more steps"
    return "poor: use the same model, sentence and steps for inversion and sampling, and tune longer"


def _pictures(images: torch.Tensor) -> torch.Tensor:
    # With --gpu-only ComfyUI decodes to the GPU, while the frames of a video come from the CPU.
    return images[..., :3].cpu()


def _same_shape(name: str, images: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    if images.shape == other.shape:
        return images
    (frames, height, width), (n, h, w) = images.shape[:3], other.shape[:3]
    raise ValueError(
        f"The input '{name}' holds {frames} frames of {width}x{height}, the other video {n} of {w}x{h}; "
        "give both the same frames and size."
    )


def _background(name: str, mask: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    mask = mask.reshape(-1, *mask.shape[-2:]).cpu()
    if mask.shape[1:] == frames.shape[1:3] and len(mask) in (1, len(frames)):
        return mask.expand(len(frames), -1, -1)
    n, h, w = frames.shape[:3]
    raise ValueError(
        f"The input '{name}' holds {len(mask)} masks of {mask.shape[2]}x{mask.shape[1]}; "
        f"the video needs 1 or {n} of {w}x{h}."
    )
