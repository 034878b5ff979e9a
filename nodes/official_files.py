"""Official Tune-A-Video folders in and out, and the tuned queries as a LoRA."""

import json

from comfy_api.latest import io
from torch import Tensor

from ..tav_core.files.lora import save_lora
from ..tav_core.files.official import load_official, save_official, weights_file
from ..tav_core.files.weights import TunedWeights, WeightsError
from .comfy import files
from .comfy.model.base_weights import base_weights, diffusers_config
from .comfy.model.detect import check_model, noise_schedule
from .comfy.node import Node
from .comfy.official import official_folder, official_folders
from .comfy.types import TunedWeightsType

_LORAS = "loras"


class TAVLoadOfficial(Node):
    """Reads a folder of the official code from models/tune_a_video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVLoadOfficial",
            display_name="Load Official Tune-A-Video Folder",
            category="Tune-A-Video",
            description="Loads a folder of the official Tune-A-Video code as tuned weights.",
            search_aliases=["import official weights", "diffusers folder", "unet3d"],
            inputs=[
                io.Model.Input("model", tooltip="The base model that the folder was tuned on."),
                io.Combo.Input(
                    "folder",
                    options=official_folders() or [""],
                    tooltip="A folder in models/tune_a_video, with unet inside or a unet folder itself.",
                ),
                io.Boolean.Input(
                    "exact",
                    default=True,
                    tooltip=(
                        "Keeps the queries bit-identical for saving in the official layout. "
                        "Off, single values may differ by rounding."
                    ),
                    advanced=True,
                ),
            ],
            outputs=[
                TunedWeightsType.Output(display_name="weights", tooltip="For Apply or Save Tuned Weights."),
                io.String.Output(display_name="info", tooltip="Metadata of the weights, as JSON."),
            ],
        )

    @classmethod
    def validate_inputs(cls, folder) -> bool | str:
        try:
            # None comes over a connection.
            return folder is None or bool(official_folder(folder))
        except WeightsError as error:
            return str(error)

    @classmethod
    def fingerprint_inputs(cls, folder, **kwargs) -> str:
        if folder not in official_folders():
            return ""
        status = weights_file(official_folder(folder)).stat()
        return f"{folder}:{status.st_mtime_ns}:{status.st_size}"

    @classmethod
    def execute(cls, model, folder, exact) -> io.NodeOutput:
        check_model(model)
        predicts = noise_schedule(model).prediction_type
        weights = load_official(official_folder(folder), _on_cpu(base_weights(model)), exact, predicts)
        return io.NodeOutput(weights, json.dumps(weights.metadata.to_header(), indent=1))


class TAVSaveOfficial(Node):
    """Writes tuned weights as the official code would, to models/tune_a_video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVSaveOfficial",
            display_name="Save Official Tune-A-Video Folder",
            category="Tune-A-Video",
            description=(
                "Saves base and tuned weights together as a UNet for the official Tune-A-Video code, "
                "in models/tune_a_video."
            ),
            search_aliases=["export official weights", "diffusers folder", "unet3d"],
            is_output_node=True,
            inputs=[
                io.Model.Input(
                    "model", tooltip="The base model, straight from its loader; LoRAs on it are not written."
                ),
                TunedWeightsType.Input("weights", tooltip="From Tune on One Video or Load Tuned Weights."),
                io.String.Input(
                    "filename_prefix",
                    default="official",
                    tooltip="Name of the folder; subfolders are fine. A number is added.",
                ),
                io.Combo.Input(
                    "precision",
                    options=list(files.PRECISIONS),
                    default="fp32 (exact)",
                    tooltip="fp16 halves the file and rounds the weights; the official code saves fp32.",
                ),
            ],
            outputs=[],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix) -> bool | str:
        return files.prefix_problem(filename_prefix) or True

    @classmethod
    def execute(cls, model, weights: TunedWeights, filename_prefix, precision) -> io.NodeOutput:
        check_model(model)
        # Named and numbered like our files, but a folder.
        path = files.new_path(filename_prefix)
        folder = files.first_free(path.parent, path.stem.rpartition("_")[0])
        config = diffusers_config(model)
        save_official(
            folder, weights, _on_cpu(base_weights(model)), config, dtype=files.PRECISIONS[precision]
        )
        return io.NodeOutput(ui={"text": [f"saved {folder.name}"]})


class TAVSaveQueryLora(Node):
    """Writes the tuned queries as a LoRA to models/loras."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVSaveQueryLora",
            display_name="Save Tuned Queries as LoRA",
            category="Tune-A-Video",
            description="Saves the tuned attention queries, without the temporal layers, as a LoRA in models/loras.",
            search_aliases=["export lora", "save lora", "query lora"],
            is_output_node=True,
            inputs=[
                TunedWeightsType.Input("weights", tooltip="From Tune on One Video or Load Tuned Weights."),
                io.String.Input(
                    "filename_prefix",
                    default="tuned_queries",
                    tooltip="Name of the file; subfolders are fine. A number is added.",
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
    def validate_inputs(cls, filename_prefix) -> bool | str:
        return files.prefix_problem(filename_prefix, _LORAS) or True

    @classmethod
    def execute(cls, weights: TunedWeights, filename_prefix, precision) -> io.NodeOutput:
        path = files.new_path(filename_prefix, _LORAS)
        save_lora(path, weights, files.PRECISIONS[precision])
        return io.NodeOutput(ui={"text": [f"saved {path.name}"]})


def _on_cpu(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.cpu() for name, weight in weights.items()}
