"""Compare Videos: source and edits under captions, as a video or as one contact sheet."""

from comfy_api.latest import io

from ..tav_core.video.grid import compare_frames, contact_sheet
from .comfy.node import Node
from .comfy.page.player import player

SIDE_BY_SIDE = "side by side"
STACKED = "stacked"
CONTACT_SHEET = "contact sheet"
MOST_EDITS = 16
# IMAGE carries no rate; the page can play at others.
PLAYER_FPS = 8.0


class TAVCompareVideos(Node):
    """A source and its edits under captions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as ComfyUI shows it."""
        return io.Schema(
            node_id="TAVCompareVideos",
            display_name="Compare Videos",
            category="Tune-A-Video",
            description="Shows the source and its edits next to each other with captions.",
            search_aliases=["tune a video", "side by side", "contact sheet", "grid", "video comparison"],
            is_output_node=True,
            # A list of videos is one comparison, not one each.
            is_input_list=True,
            inputs=[
                io.Image.Input(
                    "source",
                    tooltip="The source frames. The other videos are shown at this size.",
                ),
                io.Autogrow.Input(
                    "edited",
                    template=io.Autogrow.TemplateNames(
                        io.Image.Input(
                            "frames",
                            tooltip=(
                                "Edited frames. Videos of another size get black bars;"
                                " the comparison is as long as the shortest video."
                            ),
                        ),
                        names=[f"edited_{number}" for number in range(1, MOST_EDITS + 1)],
                        min=1,
                    ),
                    tooltip=(
                        "One connection per edited video, or one for all of List of Edits; a new one appears when "
                        "the last is used."
                    ),
                ),
                io.String.Input(
                    "captions",
                    default="",
                    multiline=True,
                    tooltip=(
                        "One line per video: the source first, then the edits. An empty line gives no caption;"
                        " missing lines become Source, Edit 1, Edit 2, ..."
                    ),
                ),
                io.Combo.Input(
                    "layout",
                    options=[SIDE_BY_SIDE, STACKED, CONTACT_SHEET],
                    default=SIDE_BY_SIDE,
                    tooltip=(
                        "side by side and stacked give a video; contact sheet gives one image"
                        " with a row per video."
                    ),
                ),
                io.Int.Input(
                    "columns",
                    default=6,
                    min=1,
                    max=64,
                    tooltip="Contact sheet only: how many evenly spaced frames each row shows.",
                ),
            ],
            outputs=[
                io.Image.Output("comparison", display_name="comparison", tooltip="The video or the sheet."),
            ],
        )

    @classmethod
    def execute(cls, source, edited: io.Autogrow.Type, captions, layout, columns) -> io.NodeOutput:
        """Lays the videos out; raises ValueError for more captions than videos.

        Every input is a list; those of ``edited`` hold as many videos as the graph ran for.
        """
        edits = sorted(
            ((name, given) for name, given in edited.items() if given is not None),
            key=lambda entry: int(entry[0].rsplit("_", 1)[-1]),
        )
        clips = [source[0], *(frames for _, given in edits for frames in given if frames is not None)]
        videos = list(zip(_captions(captions[0], len(clips)), clips, strict=True))
        if layout[0] == CONTACT_SHEET:
            comparison = contact_sheet(videos, columns[0])[None]
        else:
            comparison = compare_frames(videos, columns=1 if layout[0] == STACKED else None)
        return io.NodeOutput(comparison, ui=player(videos, PLAYER_FPS))


def _captions(text: str, videos: int) -> list[str]:
    """One caption per video; raises ValueError for more lines than videos."""
    lines = text.rstrip().splitlines()
    if len(lines) > videos:
        raise ValueError(
            f"Compare Videos (captions): there are {len(lines)} lines for {videos} videos;"
            " write one line per video, the source first."
        )
    defaults = ["Source", *(f"Edit {number}" for number in range(1, videos))]
    return lines + defaults[len(lines) :]
