"""The edit benchmark: tunes on clips of the closed world, edits them, and lets a judge count what worked."""
