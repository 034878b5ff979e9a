"""Apply, save and load tuned weights."""

import json

from comfy_api.latest import io

from ..tav_core.diffusion.settings import Strengths
from ..tav_core.files.weights import TunedWeights, warn_of_another_base
from .comfy import files
from .comfy.inputs import inputs_for
from .comfy.model.apply import apply_weights
from .comfy.model.base_weights import base_fingerprint
from .comfy.node import Node
from .comfy.types import TunedWeightsType


class TAVApplyWeights(Node):
    """Puts tuned weights on a MODEL: queries as weight patches, temporal layers beside the UNet."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVApplyWeights",
            display_name="Apply Tuned Weights",
            category="Tune-A-Video",
            description="Inflates a model with the mode of the tuned weights and applies them.",
            search_aliases=["load tuned video", "one-shot video", "motion weights"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model that the weights were tuned on, or one derived from it."
                ),
                TunedWeightsType.Input("weights", tooltip="From Tune on One Video or Load Tuned Weights."),
                *inputs_for(Strengths),
            ],
            outputs=[io.Model.Output(tooltip="The tuned model. The input model is not changed.")],
        )

    @classmethod
    def execute(cls, model, weights: TunedWeights, query_strength, temporal_strength) -> io.NodeOutput:
        tuned = apply_weights(model, weights, query_strength, temporal_strength)
        warn_of_another_base(weights.metadata, base_fingerprint(model))
        return io.NodeOutput(tuned)


class TAVSaveWeights(Node):
    """Writes tuned weights to models/tune_a_video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVSaveWeights",
            display_name="Save Tuned Weights",
            category="Tune-A-Video",
            description="Saves tuned weights to models/tune_a_video as a safetensors file with its settings inside.",
            search_aliases=["save tuned video", "export tuned weights"],
            is_output_node=True,
            inputs=[
                TunedWeightsType.Input("weights", tooltip="From Tune on One Video."),
                io.String.Input(
                    "filename_prefix",
                    default="tuned",
                    tooltip="Name of the file; subfolders such as clips/skiing are fine. A number is added.",
                ),
                io.Combo.Input(
                    "precision",
                    options=list(files.PRECISIONS),
                    default="fp32 (exact)",
                    tooltip="fp16 halves the file and rounds the weights.",
                ),
            ],
            outputs=[],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None) -> bool | str:
        return files.prefix_problem(filename_prefix) or True

    @classmethod
    def execute(cls, weights: TunedWeights, filename_prefix, precision) -> io.NodeOutput:
        path = files.new_path(filename_prefix)
        weights.save(path, files.PRECISIONS[precision])
        return io.NodeOutput(ui={"text": [f"saved {path.name}"]})


class TAVLoadWeights(Node):
    """Reads tuned weights from models/tune_a_video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVLoadWeights",
            display_name="Load Tuned Weights",
            category="Tune-A-Video",
            description="Loads tuned weights from models/tune_a_video with their metadata.",
            search_aliases=["load tuned video", "import tuned weights"],
            inputs=[
                io.Combo.Input(
                    "file", options=files.names(), tooltip="A file in models/tune_a_video; safetensors only."
                ),
            ],
            outputs=[
                TunedWeightsType.Output(display_name="weights", tooltip="For Apply Tuned Weights."),
                io.String.Output(display_name="info", tooltip="Metadata of the weights, as JSON."),
            ],
        )

    @classmethod
    def validate_inputs(cls, file=None) -> bool | str:
        if file is not None and file not in files.names():  # None comes over a connection
            return (
                f"There is no tuned-weights file named {file!r:.90} in models/{files.FOLDER}; "
                "tune or copy one there."
            )
        return True

    @classmethod
    def fingerprint_inputs(cls, file=None, **kwargs) -> str:
        return files.stamp(file)

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        weights = files.load(file)
        return io.NodeOutput(weights, json.dumps(weights.metadata.to_header(), indent=1))
