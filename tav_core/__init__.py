"""Tune-A-Video (arXiv 2212.11565) in plain torch, independent of any host application."""

__version__ = "0.1.0"
