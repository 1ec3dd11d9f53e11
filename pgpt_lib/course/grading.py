"""`course grade`: a class's submissions, each in a process of its own, to a table and pages of feedback.

Nothing that a student hands in stops the class. What has been graded is kept with a digest of all that it depended on,
so a grading that was interrupted, or gets late submissions, goes on.
"""

from __future__ import annotations

import csv
import io
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import project
from ..errors import InputError
from ..files import digest, digest_all, read_json, write_json, write_text
from .assignments import Lesson
from .building import build_course, read_lessons
from .gradebook import gather
from .submissions import NotGradable, Submission, find_submissions, read_submission

Log = Callable[[str], None]
TOKEN = "PGPT_GRADING"  # in the environment of every process of one job
START_SECONDS = 240  # for the worker and the kernel to start, beyond the time of the cells
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
    began, out = time.monotonic(), out.absolute()
    used = sorted({s.assignment for s in found})
    seed = _seed(out, seed)
    course = out / "course"
    if (read_json(course / "of.json") or {}) != (of := {name: _source_digest(name) for name in used}):
        build_course(course, only=used, log=log)
        write_json(course / "of.json", of)
    jobs = [_job(s, out, course, seed, limits) for s in found]
    waiting = [job for job in jobs if (read_json(Path(job["result"])) or {}).get("inputs") != job["inputs"]]
    log(f"{len(jobs)} submissions, {len(jobs) - len(waiting)} graded before")
    _run_all(waiting, workers, limits, log)
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
        "stored": next((str(folder) for folder in stored if folder.is_dir()), None),
        "inputs": {
            "submission": submission.content,
            "lesson": _source_digest(assignment),
            "code": digest_all(code, package),
            "limits": [limits.cell_seconds, limits.total_seconds, limits.memory_gb],
            "seed": seed,
        },
    }


def _run_all(jobs: Sequence[dict[str, Any]], workers: int, limits: Limits, log: Log) -> None:
    done, lock, began = 0, threading.Lock(), time.monotonic()

    def one(job: dict[str, Any]) -> None:
        nonlocal done
        result = run_job(job, limits.total_seconds + START_SECONDS)
        with lock:
            done += 1
            points, of = (sum(row[k] for row in result["exercises"]) for k in ("points", "of"))
            note = f" ({result['note']})" if result["note"] else ""
            head = f"{done} of {len(jobs)}, {time.monotonic() - began:.0f} s"
            log(f"{head}: {job['student']}, {job['assignment']}: {points:g} of {of:g} points{note}")

    with ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(one, job) for job in jobs]:
            future.result()


def run_job(job: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Run a worker, and write the result for it where there is nothing to run, or it could not."""
    path = Path(job["result"])
    path.unlink(missing_ok=True)
    file = Path(job["file"]) if job["file"] else None
    try:
        read_submission(Submission(job["student"], job["assignment"], file))
    except NotGradable as error:
        result = _without(job, str(error))
        write_json(path, result)
        return result
    write_json(path.with_suffix(".job"), job)
    token = secrets.token_hex(8)
    command = [sys.executable, "-m", "pgpt_lib.course.worker", str(path.with_suffix(".job"))]
    environment = os.environ | {TOKEN: token, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    log = Path(job["folder"] + ".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    why = ""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=project.ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            if process.wait(seconds):
                why = "its grading ended with an error" if process.returncode > 0 else "its grading was killed"
        except subprocess.TimeoutExpired:
            why = f"its grading took more than {seconds:.0f} s"
        finally:
            _end_all(process, token)
    result = read_json(path)
    if result is None:
        result = _without(job, f"not graded: {why}; see {log}")
        write_json(path, result)
    return dict(result)


def _without(job: dict[str, Any], why: str) -> dict[str, Any]:
    """The result of a submission that could not be run."""
    lesson: Lesson = read_lessons([job["assignment"]])[0]
    rows = [{"name": e.name, "points": 0.0, "of": e.points, "message": why} for e in lesson.exercises]
    return {"exercises": rows, "note": why, "seconds": 0.0, "inputs": job["inputs"]}


def _end_all(process: subprocess.Popen[bytes], token: str) -> None:
    """End the worker and whatever a student's code left behind."""
    import psutil

    if process.poll() is None:
        process.kill()
        process.wait()
    for other in psutil.process_iter():
        try:
            if other.environ().get(TOKEN) == token:
                other.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
        except (psutil.Error, OSError):
            continue
