"""Sample Edited Video."""

from comfy_api.latest import io

from .comfy.checks import check_conditioning_frames, check_latents, check_numbers
from .comfy.model.kinds import check_model
from .comfy.page.live import reporting
from .comfy.sampling.ddim import STARTS, Guidance, sample


class TAVSample(io.ComfyNode):
    """DDIM with classifier-free guidance from inverted noise (Tune-A-Video, section 3.3)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVSample",
            display_name="Sample Edited Video",
            category="Tune-A-Video",
            description="Draws the clip again under an edited sentence, with its motion kept.",
            search_aliases=[
                "video edit",
                "edit video",
                "video ksampler",
                "ddim video sampler",
                "video to video",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The tuned model, the same one that inverted the clip."),
                io.Conditioning.Input("positive", tooltip="The edited sentence through CLIP Text Encode."),
                io.Conditioning.Input("negative", tooltip="What to avoid; an empty prompt as in the paper."),
                io.Latent.Input("latent", tooltip="From DDIM Inversion."),
                io.Int.Input(
                    "steps",
                    default=50,
                    min=1,
                    max=1000,
                    tooltip="Sampling steps; best the same as for the inversion.",
                ),
                io.Float.Input(
                    "cfg",
                    default=12.5,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Guidance: how strongly the sentence counts. The paper's is 12.5; 7 to 12 is usual.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=False,
                    tooltip="Only matters with eta above 0 or a start from fresh noise.",
                ),
                io.Combo.Input(
                    "start",
                    options=list(STARTS),
                    default="inverted clip",
                    tooltip="What to start from. Only the inverted clip keeps the motion.",
                    advanced=True,
                ),
                io.Float.Input(
                    "eta",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Fresh noise per step: 0 is deterministic DDIM, 1 is DDPM, which forgets the clip.",
                    advanced=True,
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip=(
                        "Where the edit may change the clip (white); the rest stays the source's. One mask, or one "
                        "per frame. Needs keep_trajectory on DDIM Inversion and the same number of steps."
                    ),
                ),
            ],
            outputs=[io.Latent.Output(tooltip="The edited frames, for VAE Decode.")],
            hidden=[io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls, model, positive, negative, latent, steps, cfg, seed, start, eta, mask=None
    ) -> io.NodeOutput:
        check_numbers(cls, steps=steps, cfg=cfg, seed=seed, eta=eta)
        check_model(model)
        frames = len(check_latents(latent, "latent"))
        for name, conditioning in (("positive", positive), ("negative", negative)):
            check_conditioning_frames(conditioning, frames, name)
        guidance = Guidance(positive, negative, cfg)
        with reporting("sampling", cls.hidden.extra_pnginfo) as reporter:
            return io.NodeOutput(sample(model, guidance, latent, steps, eta, seed, start, mask, reporter))
