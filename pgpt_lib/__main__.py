"""`python -m pgpt_lib`: the command line of the project. `setup` needs no package, and installs all in `.venv`."""

import importlib.util
import sys

from .setup_venv import VENV, python_of, setup

if __name__ == "__main__":
    if sys.argv[1:] == ["setup"]:
        setup()
        sys.exit()
    if importlib.util.find_spec("typer") is None:
        ready = python_of(VENV)
        way_out = f"use {ready}" if ready.exists() else "make .venv with: python -m pgpt_lib setup"
        sys.exit(f"error: {sys.executable} lacks the packages that pgpt_lib needs; {way_out}")
    from .cli import main

    main()
