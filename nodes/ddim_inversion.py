"""DDIM Inversion."""

from comfy_api.latest import io

from ..tav_core.diffusion.settings import Inversion
from .comfy.checks import check_conditioning_frames, check_latents
from .comfy.inputs import input_for
from .comfy.model.detect import check_model
from .comfy.node import Node
from .comfy.page.live import reporting
from .comfy.sampling.ddim import Guidance, invert


class TAVDDIMInversion(Node):
    """DDIM inversion: a clip's latents to the noise from which sampling rebuilds it (Tune-A-Video, section 3.3)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVDDIMInversion",
            display_name="DDIM Inversion",
            category="Tune-A-Video",
            description="Turns the clip into inverted latents, from which sampling starts and keeps the motion.",
            search_aliases=["unsampler", "inverse ddim", "video to noise", "noise from video"],
            inputs=[
                io.Model.Input("model", tooltip="The tuned model; the same one must sample afterwards."),
                io.Conditioning.Input(
                    "conditioning",
                    tooltip="An empty prompt through CLIP Text Encode, as in the paper. ControlNet may be applied.",
                ),
                io.Latent.Input("latent", tooltip="The clip's frames through VAE Encode."),
                input_for(Inversion, "steps"),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=1.0,
                    max=30.0,
                    step=0.1,
                    tooltip="Guidance scale. 1 is unguided, as in the paper; more loses the clip's structure.",
                    advanced=True,
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="Only used when cfg is above 1.",
                ),
                io.Boolean.Input(
                    "keep_trajectory",
                    default=False,
                    optional=True,
                    tooltip="Keep the latents of every step, for the mask of Sample Edited Video. Takes memory.",
                    advanced=True,
                ),
                input_for(Inversion, "strength", optional=True),
            ],
            outputs=[io.Latent.Output(tooltip="Inverted latents, for Sample Edited Video.")],
            hidden=[io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls, model, conditioning, latent, steps, cfg, negative, keep_trajectory, strength
    ) -> io.NodeOutput:
        check_model(model)
        frames = len(check_latents(latent, "latent"))
        for name, given in (("conditioning", conditioning), ("negative", negative or [])):
            check_conditioning_frames(given, frames, name)
        if cfg > 1.0 and negative is None:
            raise ValueError(
                "The input 'cfg' is above 1 but 'negative' is not connected; connect it or set cfg to 1."
            )
        guidance = Guidance(conditioning, negative or conditioning, cfg)
        with reporting("inversion", cls.hidden.extra_pnginfo) as reporter:
            return io.NodeOutput(invert(model, guidance, latent, steps, strength, keep_trajectory, reporter))
