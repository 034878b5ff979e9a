"""The speed benchmark: time, memory and arithmetic of each stage beside a plain image model's in the same run."""
