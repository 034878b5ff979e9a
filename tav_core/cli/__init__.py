"""The commands of ``python -m tav_core``, on diffusers models, with the same tuned files as the ComfyUI nodes."""
