"""Tune-A-Video for ComfyUI: edit a real video with words."""

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
