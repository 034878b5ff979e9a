"""CLIP metrics of a video: frame consistency and text alignment."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .consistency import frame_consistency

_SIDE = 480
_BATCH = 16


class ClipScore:
    """A CLIP model from a local folder, for the two CLIP measures of LOVEU-TGVE-2023 (its run_eval.py).

    ``folder`` holds a CLIP model with processor and tokenizer as transformers saves them, weights as safetensors;
    openai/clip-vit-large-patch14 is what published numbers use. Nothing is downloaded. Raises OSError if
    something is missing there.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        from transformers import CLIPModel, CLIPProcessor

        self.model = CLIPModel.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
        self.model = self.model.train(False).requires_grad_(False).to(device)
        self.processor = CLIPProcessor.from_pretrained(str(folder), local_files_only=True)

    @torch.no_grad()
    def image_features(self, frames: Tensor) -> Tensor:
        """CLIP's projected image embeddings (F, D) of ``frames`` (F, H, W, 3) in 0..1.

        As in the challenge, frames are first made 480 x 480, whatever their aspect.
        """
        pictures = (frames.detach().cpu().float().clamp(0, 1) * 255).round().byte().numpy()
        parts = []
        for start in range(0, len(pictures), _BATCH):
            images = [_resized(picture) for picture in pictures[start : start + _BATCH]]
            pixels = self.processor(images=images, return_tensors="pt")["pixel_values"]
            seen = self.model.vision_model(pixel_values=pixels.to(self.model.device)).pooler_output
            parts.append(self.model.visual_projection(seen).float().cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def text_features(self, prompt: str) -> Tensor:
        """CLIP's projected embedding (1, D) of a prompt, truncated to 77 tokens."""
        tokens = self.processor(text=[prompt], padding=True, truncation=True, return_tensors="pt")
        read = self.model.text_model(
            input_ids=tokens["input_ids"].to(self.model.device),
            attention_mask=tokens["attention_mask"].to(self.model.device),
        )
        return self.model.text_projection(read.pooler_output).float().cpu()

    def frame_consistency(self, frames: Tensor) -> float:
        """Mean cosine over all pairs of frames, times 100; see `consistency.frame_consistency`."""
        return frame_consistency(self.image_features(frames))

    def text_alignment(self, frames: Tensor, prompt: str) -> float:
        """Mean over the frames of CLIP's logit for ``prompt``: 100 (its learned scale) times the cosine.

        "Textual alignment" of Tune-A-Video and clip_score_text of LOVEU-TGVE-2023.
        """
        images = torch.nn.functional.normalize(self.image_features(frames), dim=-1)
        text = torch.nn.functional.normalize(self.text_features(prompt), dim=-1)
        scale = float(self.model.logit_scale.exp())
        return scale * float((images @ text.T).mean())


def _resized(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(picture).resize((_SIDE, _SIDE))
