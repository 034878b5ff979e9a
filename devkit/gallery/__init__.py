"""The example workflows: what is in each, how they are laid out, what they need, and their thumbnails."""
