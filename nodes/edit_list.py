"""List of Edits."""

from comfy_api.latest import io

from .comfy.checks import check_text_encoder
from .comfy.node import Node

NO_EDIT = "The input 'edits' has no prompt; write one edit per line."


class TAVEditList(Node):
    """Several edit prompts at once: the nodes after this one run once for each."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TAVEditList",
            display_name="List of Edits",
            category="Tune-A-Video",
            description="One edit prompt per line; each gives an edited video, from one tuning and one inversion.",
            search_aliases=["batch edit", "prompt list", "many edits", "prompt batch", "for each prompt"],
            inputs=[
                io.Clip.Input("clip", tooltip="The checkpoint's text encoder."),
                io.String.Input(
                    "edits",
                    default="a cat on the grass\na rabbit on the snow",
                    multiline=True,
                    tooltip="One edit prompt per line. Empty lines are ignored.",
                ),
                io.String.Input(
                    "source",
                    default="Source",
                    tooltip="The source's caption, the first line of the captions.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    is_output_list=True,
                    tooltip="One CONDITIONING per prompt, for the positive input of Sample Edited Video.",
                ),
                io.String.Output(
                    display_name="captions",
                    tooltip="The source's caption and the edit prompts, for Compare Videos.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, edits=None) -> bool | str:
        # A connected text is only known when the graph runs.
        return True if edits is None or _prompts(edits) else NO_EDIT

    @classmethod
    def execute(cls, clip, edits, source) -> io.NodeOutput:
        check_text_encoder(clip)
        prompts = _prompts(edits)
        if not prompts:
            raise ValueError(NO_EDIT)
        encoded = [clip.encode_from_tokens_scheduled(clip.tokenize(prompt)) for prompt in prompts]
        return io.NodeOutput(encoded, "\n".join((" ".join(source.split()), *prompts)))


def _prompts(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
