"""Example workflows run in the real server at small settings, and what they leave behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from devkit.client import Result
from devkit.gallery.workflows import BEFORE
from devkit.paths import WORKFLOWS
from devkit.server import Server
from devkit.workflow import find, to_api

FRAMES, FRAME_STEP, STEPS = 4, 5, 3
"""The frames cover the whole movement of the sample clips."""

_SMALL = {
    "TAVLoadVideo": {"frame_count": FRAMES, "frame_stride": FRAME_STEP},
    "TAVTune": {"steps": 2},
    "TAVDDIMInversion": {"steps": STEPS},
    "TAVSample": {"steps": STEPS},
    "TAVDDIMSigmas": {"steps": STEPS},
}
_SAMPLERS, _PICTURES = ("TAVSample", "SamplerCustomAdvanced"), ("VAEDecode", "TAVLoadVideo")

Change = Callable[[dict], None]


@dataclass(frozen=True)
class Run:
    """One workflow that was run. log: what the server wrote meanwhile."""

    prompt: dict
    result: Result
    output: Path
    log: str

    def node(self, kind: str) -> str:
        """The id of the last node of a type."""
        return find(self.prompt, kind)[-1]

    def latents(self, node: str | None = None) -> Tensor:
        """What a sampler put out, bit for bit; the last sampler without `node`."""
        node = node or next(n for kind in _SAMPLERS for n in find(self.prompt, kind)[::-1])
        return self.all_latents(node)[-1]

    def all_latents(self, node: str) -> list[Tensor]:
        """What a sampler put out that ran once for each item of a list."""
        return [load_file(file)["latent_tensor"] for file in self._saved(f"latent-{node}", "latent")]

    def frames(self, node: str | None = None) -> Tensor:
        """What a VAE Decode or a loader put out; the last VAE Decode without `node`."""
        return self.pictures(f"frames-{node or self.node('VAEDecode')}")

    def filmed(self, node: str) -> Tensor:
        """The frames that a Save Video was given, one video after the other where it ran for a list."""
        create = self.prompt[node]["inputs"]["video"][0]
        return self.frames(self.prompt[create]["inputs"]["images"][0])

    def source(self) -> Tensor:
        """The clip's frames."""
        return self.frames(find(self.prompt, "TAVLoadVideo")[0])

    def pictures(self, node: str) -> Tensor:
        """What a Save Image saved, (F, H, W, 3) in 0..1, in 8 bits."""
        files = self.result.files(node)
        pictures = [Image.open(self.output / file["subfolder"] / file["filename"]) for file in files]
        return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).float() / 255

    def text(self, kind: str) -> str:
        """What a node of that type showed."""
        return "\n".join(self.result.outputs[self.node(kind)]["text"])

    def _saved(self, node: str, suffix: str) -> list[Path]:
        prefix = self.prompt[node]["inputs"]["filename_prefix"]
        return sorted(self.output.glob(f"{prefix}_*.{suffix}"))


class Runs:
    """Runs workflows. Those that another one's file is needed for run first.

    info: the server's description of every node type.
    """

    def __init__(self, server: Server, info: dict) -> None:
        self.server = server
        self.info = info
        self._made: dict[str, Run] = {}
        self._number = 0

    def prompt(self, name: str) -> dict:
        """A workflow in API format at small settings."""
        if name in BEFORE:
            self.of(BEFORE[name])
        saved = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
        prompt = to_api(saved, self.info)
        self.make_small(prompt)
        return prompt

    @staticmethod
    def make_small(prompt: dict) -> None:
        """Put the small settings into a prompt."""
        for kind, values in _SMALL.items():
            for node in find(prompt, kind):
                prompt[node]["inputs"].update(values)

    def of(self, name: str) -> Run:
        """The workflow as it is, at small settings."""
        if name not in self._made:
            self._made[name] = self.run(self.prompt(name))
        return self._made[name]

    def changed(self, name: str, change: Change) -> Run:
        """The workflow after a change of its prompt."""
        prompt = self.prompt(name)
        change(prompt)
        return self.run(prompt)

    def run(self, prompt: dict) -> Run:
        """Run a prompt; what samplers and decoders put out is saved as well. Raises RunError where a node raised."""
        server = self.server.start()
        prompt = dict(prompt)
        self._number += 1
        for node, content in list(prompt.items()):
            name = f"workflows/{self._number:03}-{node}"
            if content["class_type"] in _SAMPLERS:
                save = {"samples": [node, 0], "filename_prefix": name}
                prompt[f"latent-{node}"] = {"class_type": "SaveLatent", "inputs": save}
            if content["class_type"] in _PICTURES:
                save = {"images": [node, 0], "filename_prefix": name}
                prompt[f"frames-{node}"] = {"class_type": "SaveImage", "inputs": save}
        before = len(server.log)
        result = server.client().run(prompt).check()
        return Run(prompt, result, server.base / "output", server.log[before:])
