"""Frame consistency: how alike the frames of one video are to an image encoder."""

import math

from torch import Tensor
from torch.nn import functional


def frame_consistency(features: Tensor) -> float:
    """Mean cosine similarity over all pairs of different frames, times 100; 100 is a still picture.

    ``features`` is (F, D), one row per frame. With CLIP's image embeddings this is the "frame consistency" of
    Tune-A-Video (arXiv 2212.11565, section 5) as the LOVEU-TGVE-2023 challenge computes it (its run_eval.py,
    clip_score_frame). It rewards stillness: read it next to a measure of motion. NaN for fewer than two frames.
    """
    count = len(features)
    if count < 2:
        return math.nan
    unit = functional.normalize(features.detach().cpu().double(), dim=-1)
    similarity = unit @ unit.T
    return 100 * float(similarity.sum() - similarity.diagonal().sum()) / (count * (count - 1))
