"""The loss benchmark: how many tuning steps a schedule needs for the same held-out loss."""
