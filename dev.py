#!/usr/bin/env python3
"""One command for everything a developer does with this checkout.

    python3 dev.py demo      edit a clip with a real ComfyUI server
    python3 dev.py test      run the whole test suite
    python3 dev.py serve     open the same ComfyUI for use by hand

Needs only Python 3.10 or newer: it makes a virtual environment in `.venv`, installs what is missing, fetches
ComfyUI, and hands over to the package `devkit` inside that environment. `python3 dev.py` alone lists the
commands.

Environment variables:
    COMFYUI_PATH     use this ComfyUI instead of fetching the pinned one (nothing is written into it)
    COMFYUI_VERSION  fetch and use this ComfyUI version instead of the pinned one
    DEV_PYTHON       use this Python and the packages it has, as they are; nothing is installed
"""

import os
import sys

if sys.version_info < (3, 10):  # noqa: UP036  (an older Python gets a sentence instead of a traceback)
    sys.exit("dev.py needs Python 3.10 or newer; this is {}.{}.".format(*sys.version_info))

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from devkit.launch import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
