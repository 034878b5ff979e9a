"""Buffers of streams, of which the second device has none."""
