"""How good an edited video is: general measures on tensors of frames.

Frames are (F, H, W, 3) tensors in 0..1 throughout, as ComfyUI's IMAGE. Every function says what it computes and
where the definition comes from, so that its numbers can be set beside published ones.
"""
