"""Lint, format, types, and notebooks that follow their sources: what `make lint` checks, as part of `make test`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pgpt_lib.project import ROOT

CHECKS = {
    "lint": ("ruff", "check", "."),
    "format": ("ruff", "format", "--check", "."),
    "types": ("mypy",),
    "notebooks": ("pgpt_lib.notebook_sources", "--check"),
}


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_style(check):
    command = [sys.executable, "-m", *CHECKS[check]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command[1:])} says:\n{done.stdout}{done.stderr}"
