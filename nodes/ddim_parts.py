"""The pack's DDIM as SAMPLER and SIGMAS, for core's SamplerCustom and SamplerCustomAdvanced."""

from comfy_api.latest import io

from ..tav_core.diffusion.settings import Inversion, Sampling
from .comfy.inputs import input_for
from .comfy.model.detect import check_model
from .comfy.node import Node
from .comfy.sampling.ddim import ddim_sampler, inversion_sampler, inversion_sigmas, sampling_sigmas

DIRECTIONS = ("sampling", "inversion")
STOCHASTIC_INVERSION = (
    "The input 'eta' must be 0 for inversion: a stochastic sampler cannot be run backwards."
)


class TAVDDIMSampler(Node):
    """DDIM forwards or backwards as a SAMPLER."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVDDIMSampler",
            display_name="DDIM Sampler",
            category="Tune-A-Video/advanced",
            description="The sampler of Sample Edited Video or of DDIM Inversion, for SamplerCustomAdvanced.",
            search_aliases=["ksampler select", "unsampler", "inversion sampler"],
            inputs=[
                io.Combo.Input(
                    "direction",
                    options=list(DIRECTIONS),
                    default="sampling",
                    tooltip="sampling goes from noise to frames, inversion from frames to noise; no noise is added.",
                ),
                input_for(
                    Sampling,
                    "eta",
                    advanced=None,
                    tooltip="Fresh noise per sampling step. Inversion is deterministic: there it must be 0.",
                ),
            ],
            outputs=[io.Sampler.Output(tooltip="Use it with DDIM Sigmas of the same direction.")],
        )

    @classmethod
    def validate_inputs(cls, direction="sampling", eta=0.0) -> bool | str:
        return STOCHASTIC_INVERSION if direction == "inversion" and eta else True

    @classmethod
    def execute(cls, direction, eta) -> io.NodeOutput:
        if direction == "inversion" and eta:  # values that came over connections
            raise ValueError(STOCHASTIC_INVERSION)
        return io.NodeOutput(inversion_sampler() if direction == "inversion" else ddim_sampler(eta))


class TAVDDIMSigmas(Node):
    """The noise levels of DDIM inversion or sampling as SIGMAS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVDDIMSigmas",
            display_name="DDIM Sigmas",
            category="Tune-A-Video/advanced",
            description="The noise levels of Sample Edited Video or of DDIM Inversion, exact for any step count.",
            search_aliases=["scheduler", "ddim schedule", "inversion sigmas"],
            inputs=[
                io.Model.Input("model", tooltip="The model whose noise schedule is used."),
                input_for(Sampling, "steps", tooltip="Number of steps."),
                io.Combo.Input(
                    "direction",
                    options=list(DIRECTIONS),
                    default="sampling",
                    tooltip="sampling goes from noise to frames, inversion from frames to noise.",
                ),
                input_for(
                    Inversion,
                    "strength",
                    optional=True,
                    tooltip="The share of the way between frames and noise; the same for both directions.",
                ),
            ],
            outputs=[io.Sigmas.Output(tooltip="The noise levels: steps + 1 values.")],
        )

    @classmethod
    def execute(cls, model, steps, direction, strength) -> io.NodeOutput:
        check_model(model)
        sigmas = inversion_sigmas if direction == "inversion" else sampling_sigmas
        return io.NodeOutput(sigmas(model, steps, strength))
