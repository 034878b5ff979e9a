"""What a developer of the pack needs around it: environment, ComfyUI, server, client, commands.

Nothing here is imported by the pack itself. The modules that the launcher `dev.py` uses before the virtual
environment exists (`launch`, `commands`, `paths`, `say`, `uv`, `venv`, `comfyui`) import the standard library only.
"""
