"""The networks of a training that may still run, and a checkpoint of them.

``python -m devkit.toy.export --work DIR --out FILE`` writes the averaged weights as float16.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .checkpoint import Models, save_checkpoint
from .diffusion import averaged_base
from .models import build_vae
from .training import averaged_weights


def models_in_training(work: Path, stage: str = "base") -> Models:
    """Return the averaged networks of the states in a folder, with the decoder's latest weights."""
    vae = build_vae()
    vae.load_state_dict(averaged_weights("vae", work))
    if (work / "decoder.state.safetensors").exists():
        vae.load_state_dict(averaged_weights("decoder", work), strict=False)
    unet, text = averaged_base(stage, work)
    return Models(unet, text.full(), vae.eval())


def main() -> None:
    """Write a checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--stage", default="base", help="base or anneal")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    save_checkpoint(models_in_training(options.work, options.stage), options.out)


if __name__ == "__main__":
    main()
