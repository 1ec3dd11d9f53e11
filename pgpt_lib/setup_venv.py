"""`python -m pgpt_lib setup`: the project's own environment in `.venv`, with nothing but Python and its pip."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
EXTRAS = "dev,course,site"
OLDEST = (3, 11)


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def setup(folder: Path = VENV) -> None:
    """Make the environment where it is missing or broken, and install the project with the releases it was tested with.

    Raises:
        SystemExit: this Python is too old (2), or pip failed (its own status).
    """
    if sys.version_info < OLDEST:
        older = sys.version.split()[0]
        print(f"error: Python {'.'.join(map(str, OLDEST))} or newer is needed, this is {older}", file=sys.stderr)
        sys.exit(2)
    python = python_of(folder)
    print(f"setting up {folder} with {sys.executable}: a few minutes, once", flush=True)
    if not _has_pip(python):
        shutil.rmtree(folder, ignore_errors=True)
        try:
            venv.create(folder, with_pip=True, symlinks=sys.platform != "win32")
        except subprocess.CalledProcessError:  # Debian's Python without python3-venv has no pip to put there
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, symlinks=True)
            _run([sys.executable, "-m", "pip", "--quiet", "--python", str(python), "install", "pip"])
    pinned = ["--constraint", "requirements.lock"]
    _run([str(python), "-m", "pip", "install", "--quiet", *pinned, "--editable", f".[{EXTRAS}]"])
    (folder / ".installed").touch()  # what the Makefile looks at
    print(f"done: {python} -m pgpt_lib --help lists the commands", flush=True)


def _has_pip(python: Path) -> bool:
    try:
        return subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0
    except OSError:
        return False


def _run(command: list[str]) -> None:
    if status := subprocess.run(command, cwd=ROOT).returncode:
        print(f"error: {' '.join(command)} failed with status {status}", file=sys.stderr)
        sys.exit(status)
