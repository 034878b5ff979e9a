"""The thumbnails' order and what is on a card."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from devkit import thumbnails
from devkit.client import Result
from devkit.paths import WORKFLOWS
from devkit.say import DevError


def test_what_saves_a_file_runs_before_what_loads_it():
    assert thumbnails.in_order(["load-official"]) == ["quickstart", "save-official", "load-official"]
    everything = thumbnails.in_order([])
    assert sorted(everything) == sorted(path.stem for path in WORKFLOWS.glob("*.json"))
    assert everything[0] == "quickstart"


def test_a_workflow_that_is_not_there_is_named():
    with pytest.raises(DevError, match="no workflow 'quikstart'"):
        thumbnails.in_order(["quikstart"])


class Saved:
    """A client whose server saved one picture."""

    def __init__(self, picture: Image.Image) -> None:
        self.picture = picture

    def view(self, file: dict) -> bytes:
        content = io.BytesIO()
        self.picture.save(content, "png")
        return content.getvalue()


@pytest.mark.parametrize("size", [(800, 300), (200, 900)])
@pytest.mark.parametrize("texts", [[], ["one line", "two\nthree"]])
def test_a_card_holds_the_whole_picture_and_the_texts(size, texts):
    outputs = {"1": {"images": [{"filename": "sheet.png", "subfolder": "", "type": "output"}]}}
    outputs["2"] = {"text": texts}
    picture = Image.new("RGB", size, (255, 0, 0))
    card = np.asarray(thumbnails.thumbnail(Saved(picture), Result("1", outputs))).astype(int)
    assert card.shape == (384, 512, 3)
    red = (card[..., 0] > 200) & (card[..., 1] < 60)
    height, width = red.any(1).sum(), red.any(0).sum()
    assert abs(width / height - size[0] / size[1]) < 0.05 * size[0] / size[1]
    dark = (card < 120).all(axis=2)
    assert dark.any() == bool(texts)
    assert not texts or dark.any(1).nonzero()[0].min() > red.any(1).nonzero()[0].max()


def test_a_run_that_saved_no_picture_shows_its_texts():
    card = thumbnails.thumbnail(Saved(Image.new("RGB", (8, 8))), Result("1", {"2": {"text": ["saved it"]}}))
    assert (np.asarray(card) < 120).any()
