"""One submission, in a process of its own: `python -m pgpt_lib.course.worker JOB.json` writes the job's result."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import nbformat

from ..checks.base import GRADING_SEED
from ..files import read_json, write_bytes, write_json
from ..notebook_sources import MARKS
from . import nbgrader_api, sandbox
from .assignments import Lesson, hidden_lines, read_lesson, without_hidden
from .feedback import scrub, write_feedback
from .processes import adopt_orphans, end_below
from .submissions import Prepared, Submission, prepare, read_submission

KERNEL = "pgpt-course"


def grade(job: dict[str, Any]) -> dict[str, Any]:
    """Grade one submission.

    Args:
        job: `student`, `assignment`, `file`, `source` (of the lesson), `course` (a built folder), `folder` (to
            work in), `feedback` (a file to write), `seed`, `cell_seconds`, `total_seconds`, `memory` in bytes, and
            `stored`, a folder of executed notebooks or null.

    Returns:
        `exercises`, a list of `name`, `points`, `of` and `message`; `note` on the whole submission; `seconds`.
    """
    began = time.monotonic()
    lesson = read_lesson(Path(job["source"]))
    work = Path(job["folder"])
    handed_in = read_submission(Submission(job["student"], job["assignment"], Path(job["file"])))
    released = nbformat.read(Path(job["course"], "release", lesson.slug, f"{lesson.slug}.ipynb"), as_version=4)
    prepared = prepare(handed_in, released)
    shutil.rmtree(work, ignore_errors=True)
    place = work / "submitted" / nbgrader_api.STUDENT / lesson.slug / f"{lesson.slug}.ipynb"
    write_bytes(place, nbformat.writes(prepared.notebook).encode())
    shutil.copyfile(Path(job["course"], "gradebook.db"), work / "gradebook.db")
    _autograde(job, lesson, released, work)
    graded_file = work / "autograded" / nbgrader_api.STUDENT / lesson.slug / f"{lesson.slug}.ipynb"
    graded_file.chmod(0o644)
    graded = nbformat.read(graded_file, as_version=4)
    scrub(graded, [*hidden_lines(lesson.graded), *MARKS["grade"]], job["seed"], without_hidden)
    rows = _rows(lesson, prepared, graded, _points(work, lesson.slug))  # their messages are errors of students' code
    nbformat.write(graded, graded_file)
    for leftover in ("scratch", "jupyter", "submitted"):
        shutil.rmtree(work / leftover, ignore_errors=True)
    write_feedback(work, nbgrader_api.STUDENT, lesson.slug, Path(job["feedback"]))
    return {"exercises": rows, "note": "", "seconds": time.monotonic() - began}


def _autograde(job: dict[str, Any], lesson: Lesson, released: Any, work: Path) -> None:
    """nbgrader's autograde, with our step for the execution and a confined kernel."""
    from traitlets.config import Config

    scratch = work / "scratch"
    for name in ("tmp", "home", "runtime"):
        (scratch / name).mkdir(parents=True, exist_ok=True)
    spec = {"argv": [sys.executable, "-m", sandbox.__name__, "-f", "{connection_file}"], "language": "python"}
    write_json(work / "jupyter" / "kernels" / KERNEL / "kernel.json", spec | {"display_name": KERNEL})
    os.environ |= {
        "JUPYTER_PATH": str(work / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(scratch / "runtime"),
        "HOME": str(scratch / "home"),
        "TMPDIR": str(scratch / "tmp"),
        "IPYTHONDIR": str(scratch / "home" / "ipython"),
        "MPLCONFIGDIR": str(scratch / "home" / "matplotlib"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PGPT_HEADLESS": "1",
        "PYTHONPATH": os.pathsep.join((str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", ""))),
        sandbox.FOLDER: str(scratch),
        sandbox.MEMORY: str(job["memory"]),
        GRADING_SEED: str(job["seed"]),
    }
    code = [c for c in released.cells if c.cell_type == "code" and "nbgrader" not in c.metadata]
    extra = Config()
    extra.Autograde.autograde_preprocessors = [
        "pgpt_lib.course.execution.GradingExecute",
        *(f"nbgrader.preprocessors.{n}" for n in ("LimitOutput", "SaveAutoGrades", "CheckCellMetadata")),
    ]
    step = extra.GradingExecute
    step.kernel_name, step.timeout, step.folder = KERNEL, job["cell_seconds"], str(scratch)
    step.startup_timeout, step.iopub_timeout = 180, 20
    step.memory, step.total_seconds = job["memory"], float(job["total_seconds"])
    step.lesson = [c.source for c in code]
    step.parameters = {"profile": "smoke", "out_dir": str(scratch / "run")}
    step.stored = _stored(job["stored"], lesson.slug)
    extra.ClearMetadataPreprocessor.enabled = False
    api = nbgrader_api.open_course(work, extra)
    outcome = api.autograde(lesson.slug, nbgrader_api.STUDENT, force=True, create=True)
    if not outcome["success"]:
        print(outcome.get("log", ""), file=sys.stderr)
    nbgrader_api.check(outcome, "grade it")


def _points(work: Path, assignment: str) -> dict[str, float]:
    """What nbgrader gave, by grade id."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{work / 'gradebook.db'}", nbgrader_api.COURSE) as book:
        notebook = book.find_submission_notebook(assignment, assignment, nbgrader_api.STUDENT)
        return {grade.name: float(grade.auto_score or 0.0) for grade in notebook.grades}


def _rows(lesson: Lesson, prepared: Prepared, graded: Any, points: dict[str, float]) -> list[dict[str, Any]]:
    """A line for each exercise; an error of the exercise's own cell comes before what its test says."""
    errors = {}
    for cell in graded.cells:
        found = (_sentence(o) for o in cell.get("outputs", []) if o.output_type == "error")
        errors[cell.metadata.get("nbgrader", {}).get("grade_id")] = next(found, "")
    rows = []
    for exercise in lesson.exercises:
        name = f"{exercise.name}_check"
        own = errors.get(exercise.name)
        parts = [
            prepared.remarks.get(exercise.name),
            f"its cell failed: {own}" if own else "",
            errors.get(name) or "right",
        ]
        message = "; ".join(part for part in parts if part)
        rows.append({"name": exercise.name, "points": points.get(name, 0.0), "of": exercise.points, "message": message})
    return rows


def _sentence(error: Any) -> str:
    """An error as a student reads it: the check's own sentence, or the error's name and text."""
    text = " ".join(str(error.evalue).split())[:500]
    text = re.sub(r"\(\d+\.py, (line \d+)\)", r"(\1)", text)  # a cell's file has a number for a name
    told = {
        "KeyboardInterrupt": "it took too long and was stopped",
        "CellTimeoutError": "it took too long and was stopped",
        "MemoryError": "it ran out of memory",
    }
    if error.ename in told:
        return told[error.ename]
    return text if error.ename in ("CheckFailed", "NotGraded", "TooMuchOutput") else f"{error.ename}: {text}"


def _stored(folder: str | None, slug: str) -> dict[str, list[Any]]:
    """Text outputs of an executed notebook by its cells' sources, to stand where a lesson's cell is not run."""
    path = Path(folder, slug, f"{slug}.ipynb") if folder else None
    content = read_json(path) if path else None
    found: dict[str, list[Any]] = {}
    for cell in nbformat.from_dict(content or {"cells": []})["cells"]:
        streams = [o for o in cell.get("outputs", []) if o["output_type"] == "stream"]
        if streams:
            found["".join(cell["source"])] = [o | {"text": "".join(o["text"])[:5000]} for o in streams]
    return found


def main() -> None:
    """Read the job, grade, write its `result`, and leave no process behind."""
    path = Path(sys.argv[1])
    job = json.loads(path.read_text(encoding="utf-8"))
    adopt_orphans()
    try:
        write_json(Path(job["result"]), grade(job) | {"inputs": job["inputs"]})
    finally:
        end_below(os.getpid())


if __name__ == "__main__":
    main()
