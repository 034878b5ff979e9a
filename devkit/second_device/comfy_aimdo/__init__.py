"""ComfyUI's library for dynamic VRAM, which runs on GPUs only, as far as the second device needs it.

With it ComfyUI keeps models as it does by default on NVIDIA's GPUs: read-only from the file, moved to the device
layer by layer as they are needed. Every third layer finds no room here and is moved each time.
"""
