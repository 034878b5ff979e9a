"""Imported by Python at its start in processes that dev.py starts (this folder is on their PYTHONPATH)."""

import cpu_torch

cpu_torch.install()
