"""Builds the site with Sphinx in a process of its own, examines it, and puts it in its place."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .. import project
from ..errors import InputError, RunError
from .layout import CONFIG, Laid, choose_reports, lay_out
from .pages import Findings, examine

NEEDED = ("sphinx", "myst_nb", "furo")
SHOWN = 20  # problems that an error lists


def build(out: Path, report: str = "") -> tuple[Laid, Findings]:
    """Build the site into `out`, in place of an earlier one.

    Args:
        out: a folder that is new, empty or an earlier site.
        report: folder of a run; empty means each notebook from reports/cpu, else from another report, else without
            outputs.

    Raises:
        InputError: the `site` extra is missing, `report` has no executed notebooks, or `out` is something else.
        RunError: Sphinx failed or warned, or a page has a broken link or a figure without alternative text.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"the site needs {', '.join(missing)}: pip install -c requirements.lock '.[site]'")
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / ".buildinfo").exists())):
        raise InputError(f"out {str(out)!r} is no site of an earlier build; choose a new folder")
    chosen = choose_reports(report)
    out = out.absolute()  # Sphinx takes relative paths from the folder of its settings
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".site.", suffix=".tmp", dir=out.parent) as work:
        folder = Path(work)
        laid = lay_out(folder / "source", folder / "extra", chosen)
        _sphinx(folder)
        found = examine(folder / "html")
        if found.problems:
            raise RunError("the site has faults:\n" + _some(found.problems))
        shutil.rmtree(folder / "html" / ".doctrees", ignore_errors=True)
        if out.exists():
            shutil.rmtree(out)
        (folder / "html").rename(out)
    return laid, found


def _sphinx(folder: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-c", str(CONFIG), "-d", str(folder / "doctrees")]
    command += ["-w", str(folder / "warnings"), "-D", f"html_extra_path={folder / 'extra'}"]
    path = os.pathsep.join(filter(None, (str(project.ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [*command, str(folder / "source"), str(folder / "html")],
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RunError(f"Sphinx ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    warnings = (folder / "warnings").read_text(encoding="utf-8").replace(f"{folder}{os.sep}", "").splitlines()
    if warnings:
        raise RunError("Sphinx warns:\n" + _some(warnings))


def _some(lines: list[str]) -> str:
    more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n".join([*lines[:SHOWN], *more])
