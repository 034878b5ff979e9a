"""A closed world of captioned pictures and a small Stable Diffusion trained on it."""
