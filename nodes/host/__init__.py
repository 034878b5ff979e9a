"""Everything the pack uses of ComfyUI's inside; a change there shows here and nowhere else."""
