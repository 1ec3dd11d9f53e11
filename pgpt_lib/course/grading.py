"""`course grade`: a class's submissions, each in a process of its own, to a table and pages of feedback.

Nothing that a student hands in stops the class. What has been graded is kept with a digest of all that it depended on,
so a grading that was interrupted, or gets late submissions, goes on.
"""

from __future__ import annotations

import csv
import io
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .. import project
from ..errors import InputError
from ..files import digest, digest_all, read_json, write_json, write_text
from .building import build_course, read_lessons
from .gradebook import gather
from .running import run_all
from .submissions import Submission, find_submissions

Log = Callable[[str], None]
COLUMNS = ("student", "assignment", "exercise", "points", "of", "message")
STORED = ("smoke", "cpu")


@dataclass(frozen=True)
class Limits:
    """What a submission may take: seconds a cell, seconds in all, GB of memory."""

    cell_seconds: int = 60
    total_seconds: int = 300
    memory_gb: float = 4.0


def grade_class(
    submitted: Path,
    out: Path,
    only: Sequence[str] = (),
    seed: int | None = None,
    workers: int = 2,
    limits: Limits = Limits(),
    log: Log = print,
) -> dict[str, Any]:
    """Grade every submission of a folder, or those that are new or changed.

    Args:
        submitted: `STUDENT/ASSIGNMENT/ASSIGNMENT.ipynb`, nbgrader's layout.
        out: gets `grades.csv`, `feedback/`, and what grading needs to go on.
        only: some of the assignments; by default all that anybody handed in.
        seed: of the hidden tests' inputs; by default drawn, and kept for the submissions to come.
        workers: submissions graded at once.
        limits: for each submission.
        log: takes one line of progress.

    Returns:
        `students`, `submissions`, `graded` now, `seconds`, `csv`, `feedback`, `seed`.

    Raises:
        InputError: no such folder, nothing in it that belongs to the course, an unknown assignment, a bad number.
    """
    if not submitted.is_dir():
        raise InputError(f"--submitted {submitted} is no folder; it holds a folder for each student")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    if workers < 1 or limits.cell_seconds < 1 or limits.total_seconds < 1 or limits.memory_gb < 1:
        raise InputError("workers, seconds and memory must be at least 1")
    lessons = {lesson.slug: lesson for lesson in read_lessons(only)}
    found = find_submissions(submitted, lessons)
    if not found:
        wanted = "STUDENT/ASSIGNMENT/ASSIGNMENT.ipynb"
        raise InputError(f"--submitted {submitted} holds no {wanted}; assignments are {', '.join(lessons)}")
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / ".lock", timeout=0):
            return _grade(found, out.absolute(), seed, workers, limits, log)
    except Timeout:
        raise InputError(f"another grading is at work in {out}: let it finish, or name another folder") from None


def _grade(
    found: Sequence[Submission],
    out: Path,
    seed: int | None,
    workers: int,
    limits: Limits,
    log: Log,
) -> dict[str, Any]:
    began = time.monotonic()
    used = sorted({s.assignment for s in found})
    seed = _seed(out, seed)
    course = out / "course"
    made_by = digest_all(Path(__file__).parent.glob("*.py"), Path(__file__).parent)
    of = {"made_by": made_by} | {name: _source_digest(name) for name in used}
    if read_json(course / "of.json") != of:
        build_course(course, only=used, log=log)
        write_json(course / "of.json", of)
    jobs = [_job(s, out, course, seed, limits) for s in found]
    waiting = [job for job in jobs if (read_json(Path(job["result"])) or {}).get("inputs") != job["inputs"]]
    log(f"{len(jobs)} submissions, {len(jobs) - len(waiting)} graded before")
    run_all(waiting, workers, limits.total_seconds, log)
    results = _results(out, {s.student for s in found})
    write_text(out / "grades.csv", grades_csv(results))
    gather(course, out / "work", results)
    return {
        "students": len({s.student for s in found}),
        "submissions": len(jobs),
        "graded": len(waiting),
        "seconds": round(time.monotonic() - began, 1),
        "csv": str(out / "grades.csv"),
        "feedback": str(out / "feedback"),
        "seed": seed,
    }


def _results(out: Path, students: set[str]) -> list[tuple[Submission, dict[str, Any]]]:
    """All that was graded of some students, in earlier calls for other assignments too."""
    paths = sorted((out / "results").glob("*/*.json"))
    return [(Submission(p.parent.name, p.stem, None), read_json(p)) for p in paths if p.parent.name in students]


def grades_csv(results: Sequence[tuple[Submission, dict[str, Any]]]) -> str:
    """The table, one line an exercise. A text that a spreadsheet would take for a formula gets an apostrophe."""
    lines = io.StringIO()
    table = csv.writer(lines, lineterminator="\n")
    table.writerow(COLUMNS)
    for submission, result in results:
        for row in result["exercises"]:
            cells = (submission.student, submission.assignment, row["name"])
            message = " ".join(str(row["message"]).split())
            table.writerow([*map(_inert, cells), f"{row['points']:g}", f"{row['of']:g}", _inert(message)])
    return lines.getvalue()


def _inert(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def _seed(out: Path, given: int | None) -> int:
    """The seed that was given, else the one of an earlier call, else a new one."""
    kept = read_json(out / "seed.json") or {}
    seed = given if given is not None else kept.get("seed", secrets.randbelow(10**9) + 10**6)
    if seed < 0:
        raise InputError(f"--seed {seed} is no whole number from 0")
    write_json(out / "seed.json", {"seed": seed})
    return int(seed)


def _source_digest(name: str) -> str:
    return digest(project.ROOT / "notebooks" / "src" / f"{name}.py")


def _job(submission: Submission, out: Path, course: Path, seed: int, limits: Limits) -> dict[str, Any]:
    """All that a worker needs; `inputs` is what the result depends on."""
    name, assignment = submission.student, submission.assignment
    package = Path(__file__).parents[1]
    code = [p for part in ("checks", "course") for p in (package / part).rglob("*.py")]
    stored = [project.ROOT / "reports" / profile for profile in STORED]
    return {
        "student": name,
        "assignment": assignment,
        "file": str(submission.file.absolute()) if submission.file else None,
        "source": str(project.ROOT / "notebooks" / "src" / f"{assignment}.py"),
        "course": str(course),
        "folder": str(out / "work" / name / assignment),
        "result": str(out / "results" / name / f"{assignment}.json"),
        "feedback": str(out / "feedback" / name / f"{assignment}.html"),
        "seed": seed,
        "cell_seconds": limits.cell_seconds,
        "total_seconds": limits.total_seconds,
        "memory": int(limits.memory_gb * 2**30),
        "stored": next((str(f) for f in stored if (f / assignment / f"{assignment}.ipynb").is_file()), None),
        "inputs": {
            "submission": submission.content,
            "lesson": _source_digest(assignment),
            "code": digest_all(code, package),
            "limits": [limits.cell_seconds, limits.total_seconds, limits.memory_gb],
            "seed": seed,
        },
    }
