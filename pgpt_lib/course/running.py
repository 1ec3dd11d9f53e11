"""Workers at work: each job in a process of its own that is ended with all it started, whatever becomes of it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import psutil

from .. import project
from ..files import read_json, write_json, write_text
from ..interrupts import StopSignals
from .building import read_lessons
from .processes import end_with_all_below
from .submissions import NotGradable, Submission, read_submission

TOKEN = "PGPT_GRADING"  # in the environment of every process of one job
START_SECONDS = 240  # for the worker and the kernel to start, beyond the time of the cells


class Running:
    """The workers that are at work, so that an interrupt can end them."""

    def __init__(self) -> None:
        self.stopped = False
        self.processes: set[subprocess.Popen[bytes]] = set()

    def stop(self) -> None:
        """End all of them, for good."""
        self.stopped = True
        for process in list(self.processes):
            if process.poll() is None:
                end_with_all_below(process.pid)


def run_all(jobs: Sequence[dict[str, Any]], workers: int, total_seconds: float, log: Callable[[str], None]) -> None:
    """Run every job, some at once; an interrupt ends those at work and drops the rest.

    Args:
        jobs: see `worker.grade`.
        workers: how many at once.
        total_seconds: the longest that a submission's cells may take together.
        log: takes one line of progress.
    """
    done, lock, began, running = 0, threading.Lock(), time.monotonic(), Running()

    def one(job: dict[str, Any]) -> None:
        nonlocal done
        if running.stopped:
            return
        try:
            result = run_job(job, total_seconds + START_SECONDS, running)
        except BaseException:
            running.stop()
            raise
        if running.stopped:
            return
        with lock:
            done += 1
            points, of = (sum(row[k] for row in result["exercises"]) for k in ("points", "of"))
            note = f" ({result['note']})" if result["note"] else ""
            head = f"{done} of {len(jobs)}, {time.monotonic() - began:.0f} s"
            log(f"{head}: {job['student']}, {job['assignment']}: {points:g} of {of:g} points{note}")

    with StopSignals() as signals, ThreadPoolExecutor(workers) as pool:
        left: set[Future[None]] = {pool.submit(one, job) for job in jobs}
        while left:
            ended, left = wait(left, timeout=0.5)
            for future in ended:
                future.result()
            if signals.requested:
                running.stop()
                pool.shutdown(cancel_futures=True)
                signals.leave("grading was ended; the same command goes on with what is left")


def run_job(job: dict[str, Any], seconds: float, running: Running) -> dict[str, Any]:
    """Run a worker, and write the result for it where there is nothing to run, or it could not.

    What an earlier grading left goes first, so that no page speaks of points that the table does not give. A result
    that is not the submission's doing has no `inputs`, so that the next call tries again.
    """
    path, feedback = Path(job["result"]), Path(job["feedback"])
    path.unlink(missing_ok=True)
    feedback.unlink(missing_ok=True)
    for old in (Path(job["folder"]), Path(job["course"], "autograded", job["student"], job["assignment"])):
        shutil.rmtree(old, ignore_errors=True)
    file = Path(job["file"]) if job["file"] else None
    try:
        read_submission(Submission(job["student"], job["assignment"], file))
    except NotGradable as error:
        from .feedback import write_refusal  # after grading's own word on what the course needs to be installed

        result = _without(job, str(error)) | {"inputs": job["inputs"]}
        write_refusal(feedback, job["assignment"], sum(row["of"] for row in result["exercises"]), str(error))
        write_json(path, result)
        return result
    write_text(path.with_suffix(".job"), json.dumps(job))  # in ASCII, for names of files that UTF-8 cannot hold
    log = Path(job["folder"] + ".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    why = _work(path.with_suffix(".job"), log, seconds, running)
    result = read_json(path)
    if result is None:
        result = _without(job, f"not graded: {why}; see {log}")
        if not running.stopped:
            write_json(path, result)
    return dict(result)


def _work(job: Path, log: Path, seconds: float, running: Running) -> str:
    """Run a worker to its end; says why it did not come to it by itself."""
    token = secrets.token_hex(8)
    environment = os.environ | {TOKEN: token, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pgpt_lib.course.worker", str(job)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=project.ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        running.processes.add(process)
        try:
            if running.stopped or process.wait(seconds):
                return "its grading ended with an error" if (process.returncode or 0) > 0 else "its grading was killed"
        except subprocess.TimeoutExpired:
            return f"its grading took more than {seconds:.0f} s"
        finally:
            running.processes.discard(process)
            _end_all(process, token)
    return "its grading left no result"


def _without(job: dict[str, Any], why: str) -> dict[str, Any]:
    """The result of a submission that could not be run."""
    lesson = read_lessons([job["assignment"]])[0]
    rows = [{"name": e.name, "points": 0.0, "of": e.points, "message": why} for e in lesson.exercises]
    return {"exercises": rows, "note": why, "seconds": 0.0}


def _end_all(process: subprocess.Popen[bytes], token: str) -> None:
    """End the worker and whatever a student's code left behind.

    A worker that comes to its end does so itself. The token finds what is left when one was killed by the system, and
    where orphans cannot be adopted.
    """
    if process.poll() is None:
        end_with_all_below(process.pid)
        process.wait()
    for other in psutil.process_iter():
        try:
            if other.environ().get(TOKEN) == token:
                other.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
        except (psutil.Error, OSError):
            continue
