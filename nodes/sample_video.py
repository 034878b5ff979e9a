"""Sample Edited Video."""

from comfy_api.latest import io

from ..tav_core.diffusion.settings import Sampling
from .comfy.checks import check_conditioning_frames, check_latents
from .comfy.inputs import inputs_for
from .comfy.model.detect import check_model
from .comfy.node import Node
from .comfy.page.live import reporting
from .comfy.sampling.ddim import STARTS, Guidance, sample


class TAVSample(Node):
    """DDIM with classifier-free guidance from inverted noise (Tune-A-Video, section 3.3)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVSample",
            display_name="Sample Edited Video",
            category="Tune-A-Video",
            description="Regenerates the clip with an edit prompt and keeps its motion.",
            search_aliases=[
                "video edit",
                "edit video",
                "video ksampler",
                "ddim video sampler",
                "video to video",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The tuned model, the same one that inverted the clip."),
                io.Conditioning.Input("positive", tooltip="The edit prompt through CLIP Text Encode."),
                io.Conditioning.Input("negative", tooltip="What to avoid; an empty prompt as in the paper."),
                io.Latent.Input("latent", tooltip="From DDIM Inversion."),
                *inputs_for(Sampling, until="eta"),
                io.Combo.Input(
                    "start",
                    options=list(STARTS),
                    default="inverted clip",
                    tooltip="What to start from. Only the inverted clip keeps the motion.",
                    advanced=True,
                ),
                *inputs_for(Sampling, since="eta"),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip=(
                        "White where the edit may change the clip; the source is kept elsewhere. One mask, or one "
                        "per frame. Needs keep_trajectory on DDIM Inversion and the same number of steps."
                    ),
                ),
            ],
            outputs=[io.Latent.Output(tooltip="The edited frames, for VAE Decode.")],
            hidden=[io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(cls, model, positive, negative, latent, steps, cfg, seed, start, eta, mask) -> io.NodeOutput:
        check_model(model)
        frames = len(check_latents(latent, "latent"))
        for name, conditioning in (("positive", positive), ("negative", negative)):
            check_conditioning_frames(conditioning, frames, name)
        guidance = Guidance(positive, negative, cfg)
        with reporting("sampling", cls.hidden.extra_pnginfo) as reporter:
            return io.NodeOutput(sample(model, guidance, latent, steps, eta, seed, start, mask, reporter))
