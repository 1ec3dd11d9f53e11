"""Processes side by side, each with a file of orders and a log; one that ends badly does not disturb the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .. import project
from ..files import write_json

BUSY = 75  # exit status of a worker that found another one at the same work
STOPPED = (-signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGTERM)
BEAT_SECONDS, POLL_SECONDS, PATIENCE_SECONDS = 30.0, 0.2, 60.0
Log = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """Work for one process: a name for people, and orders for `worker.py`. `folder` gets `orders.json` and `log`."""

    name: str
    orders: Mapping[str, Any]
    folder: Path

    @property
    def log(self) -> Path:
        """What the process prints."""
        return self.folder / "log"


class RunJobs(Protocol):
    """Runs jobs somewhere: `run_jobs` in processes here, `cluster.run_on_cluster` elsewhere."""

    def __call__(self, jobs: Sequence[Job], count: int, on_end: Callable[[Job, int], None], log: Log, /) -> None:
        """See `run_jobs`."""


def run_jobs(jobs: Sequence[Job], count: int, on_end: Callable[[Job, int], None], log: Log) -> None:
    """Run all jobs, `count` at a time, in their order.

    Several at a time have one thread each: two trainings of one thread do more than one of two. Of several cards each
    has one, and shares it only where there are more jobs at a time than cards.

    Args:
        on_end: called with each job and its exit status as it ends.
        log: takes one line of progress.

    Raises:
        KeyboardInterrupt: by the user; the processes were asked to stop, and have saved where they were.
    """
    waiting, running, places = list(jobs), dict[subprocess.Popen[bytes], Job](), dict[subprocess.Popen[bytes], int]()
    cards = visible_cards(os.environ) if count > 1 else []
    began, next_beat = time.monotonic(), BEAT_SECONDS
    try:
        while waiting or running:
            while waiting and len(running) < count:
                job, place = waiting.pop(0), min(set(range(count)) - {places[p] for p in running})
                process = _start(job, environment(count, place, cards))
                running[process], places[process] = job, place
            time.sleep(POLL_SECONDS)
            for process in [p for p in running if p.poll() is not None]:
                on_end(running.pop(process), process.returncode)
            if time.monotonic() - began > next_beat:
                next_beat += BEAT_SECONDS
                for job in running.values():
                    log(f"  {job.name}: {last_line(job.log) or 'starts'}")
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def visible_cards(given: Mapping[str, str]) -> list[str]:
    """The cards that this process sees, by the names that `CUDA_VISIBLE_DEVICES` takes.

    Args:
        given: the environment.
    """
    import torch

    named = given.get("CUDA_VISIBLE_DEVICES")
    return (named.split(",") if named else list(map(str, range(torch.cuda.device_count()))))[
        : torch.cuda.device_count()
    ]


def environment(count: int, place: int, cards: Sequence[str]) -> dict[str, str]:
    """The environment of one of `count` jobs at a time, beside this process's own.

    Args:
        place: 0 to `count` - 1, which no other running job has.
        cards: to share out; none leaves all of them to the job.
    """
    path = os.pathsep.join(filter(None, (str(project.ROOT), os.environ.get("PYTHONPATH"))))
    threads = {"OMP_NUM_THREADS": "1"} if count > 1 else {}
    card = {"CUDA_VISIBLE_DEVICES": cards[place % len(cards)]} if cards else {}
    return {"PYTHONPATH": path, **threads, **card}


def _start(job: Job, own: Mapping[str, str]) -> subprocess.Popen[bytes]:
    write_json(job.folder / "orders.json", job.orders)
    command = worker_command(job.folder / "orders.json")
    with job.log.open("wb") as log:
        return subprocess.Popen(command, env={**os.environ, **own}, stdout=log, stderr=subprocess.STDOUT)


def worker_command(orders: Path) -> list[str]:
    """What does the work that a file of orders describes."""
    return [sys.executable, "-m", "pgpt_lib.sweeps.worker", str(orders)]


def why(job: Job, status: int) -> str:
    """Why a job failed, in one sentence: the signal that ended it, or the last line that it printed."""
    if status < 0:
        name = signal.Signals(-status).name
        return f"ended by {name}" + (" (out of memory, perhaps)" if -status == signal.SIGKILL else "")
    return last_line(job.log).removeprefix("error: ") or f"ended with status {status}"


def last_line(path: Path) -> str:
    """The last line of a file that is not empty."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(text.replace("\r", "\n").splitlines()) if line.strip()), "")
