"""`python -m pgpt_lib test`: the project's tests."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated

import typer

from .. import project


def test(
    arguments: Annotated[list[str] | None, typer.Argument(help="For pytest, after --: as -- -k boxes.")] = None,
    processes: Annotated[int, typer.Option(help="Test files run at a time; 0 runs all in one process.", min=0)] = 2,
) -> None:
    """Run the tests, each file in one process, two files at a time."""
    command = [sys.executable, "-m", "pytest", f"--numprocesses={processes}", "--dist=loadfile", *(arguments or ())]
    # One thread a process: two that share a core wait for each other at every operation.
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "HF_HUB_OFFLINE": "1"}
    sys.exit(subprocess.run(command, cwd=project.ROOT, env=environment).returncode)
