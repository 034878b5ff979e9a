"""ComfyUI's side of Tune-A-Video: the list of nodes."""

from comfy_api.latest import ComfyExtension, io

from .comfy.files import register_folder
from .comfy.page.routes import register_routes
from .compare import TAVCompareVideos
from .ddim_inversion import TAVDDIMInversion
from .ddim_parts import TAVDDIMSampler, TAVDDIMSigmas
from .edit_list import TAVEditList
from .evaluate import TAVEvaluate, TAVReconstruction
from .inflate_model import TAVInflateModel
from .load_video import TAVLoadVideo
from .official_files import TAVLoadOfficial, TAVSaveOfficial, TAVSaveQueryLora
from .prompt_schedule import TAVPromptSchedule
from .sample_video import TAVSample
from .tune import TAVTune
from .tuned_weights import TAVApplyWeights, TAVLoadWeights, TAVSaveWeights


class TuneAVideoExtension(ComfyExtension):
    """The pack, as ComfyUI sees it."""

    async def on_load(self) -> None:
        register_folder()
        register_routes()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            TAVLoadVideo,
            TAVInflateModel,
            TAVTune,
            TAVApplyWeights,
            TAVSaveWeights,
            TAVLoadWeights,
            TAVLoadOfficial,
            TAVSaveOfficial,
            TAVSaveQueryLora,
            TAVPromptSchedule,
            TAVEditList,
            TAVDDIMInversion,
            TAVSample,
            TAVDDIMSampler,
            TAVDDIMSigmas,
            TAVCompareVideos,
            TAVEvaluate,
            TAVReconstruction,
        ]


async def comfy_entrypoint() -> TuneAVideoExtension:
    """ComfyUI's entry point of a pack."""
    return TuneAVideoExtension()
