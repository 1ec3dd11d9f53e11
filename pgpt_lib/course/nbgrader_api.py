"""nbgrader, called from a program: its configuration for one folder, and errors that say what went wrong."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from ..errors import InputError, RunError

COURSE = "pgpt"
STUDENT = "student"  # the name within one submission's own course folder, so that any student's name will do
CELL_SECONDS = 120  # nbgrader's own limit is 30 s, too short for a first import on a busy machine


def open_course(root: Path, extra: Any = None) -> Any:
    """nbgrader's API on a course folder.

    Args:
        root: the folder that holds source/, release/ and gradebook.db.
        extra: further configuration, a traitlets `Config`.

    Raises:
        InputError: nbgrader is not installed.
    """
    try:
        from nbgrader.apps import NbGraderAPI
        from traitlets.config import Config
    except ImportError:
        raise InputError("nbgrader is missing: pip install 'pgpt-lib[course]', or make setup") from None
    folder = str(Path(sys.executable).parent)
    if folder not in os.environ.get("PATH", "").split(os.pathsep):  # nbgrader calls alembic by its bare name
        os.environ["PATH"] = os.pathsep.join((folder, os.environ.get("PATH", "")))
    config = Config()
    config.CourseDirectory.root = str(root)
    config.CourseDirectory.course_id = COURSE
    config.CourseDirectory.solution_directory = "solutions"
    config.Execute.timeout = CELL_SECONDS
    if extra is not None:
        config.merge(extra)
    return NbGraderAPI(config=config)


def check(outcome: dict[str, Any], what: str) -> None:
    """Raise `RunError` with nbgrader's last line when one of its calls failed."""
    if not outcome["success"]:
        lines = str(outcome.get("error") or outcome.get("log") or "").strip().splitlines()
        raise RunError(f"nbgrader could not {what}: {lines[-1] if lines else 'it does not say why'}")
