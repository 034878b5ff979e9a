"""Benchmarks: numbers about the project that its own commands make."""
