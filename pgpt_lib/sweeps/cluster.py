"""A sweep's jobs on a SLURM cluster, by submitit: what `jobs.run_jobs` does here, as one array job there.

A node runs the same worker as this machine would. Before its time is over, or when it is preempted, SLURM warns; the
worker then saves where it is and the job is queued again. The folder of the sweep must be one that all nodes share.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from .. import project
from ..errors import InputError
from ..files import write_json
from .jobs import BEAT_SECONDS, Job, Log, last_line, worker_command

SITTINGS = 20  # how often a job that ran out of time is queued again
MINUTES = 240  # of a sitting, unless `time` says otherwise
PAUSE_SECONDS, STATE_SECONDS = 1.0, 60  # between looks at the results, and at SLURM's own account
SAVE_SECONDS = 80.0  # submitit asks SLURM to warn 90 seconds before the end
LOST = 1
CANCELLED = 128 + signal.SIGTERM


class OnNode:
    """One job as submitit runs it on a node; it can be told to stop and be queued again."""

    def __init__(self, orders: Path, log: Path) -> None:
        self.orders, self.log = orders, log
        self.pid = 0

    def __call__(self) -> int:
        """The worker's exit status."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                worker_command(self.orders), stdout=log, stderr=subprocess.STDOUT, preexec_fn=_ignore_warning
            )
        self.pid = process.pid
        while process.poll() is None:  # not wait(): the warning's handler runs in between
            time.sleep(PAUSE_SECONDS)
        return process.returncode

    def checkpoint(self) -> Any:
        """Called by submitit in the warning's handler: have the worker save, and ask for another sitting."""
        from submitit.helpers import DelayedSubmission

        with contextlib.suppress(psutil.Error):
            worker, began = psutil.Process(self.pid), time.monotonic()
            worker.terminate()
            while worker.status() != psutil.STATUS_ZOMBIE and time.monotonic() - began < SAVE_SECONDS:
                time.sleep(0.1)
        return DelayedSubmission(OnNode(self.orders, self.log))


def _ignore_warning() -> None:
    """SLURM sends its warning to every process of a job; the worker is told by SIGTERM instead."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def run_on_cluster(
    jobs: Sequence[Job],
    count: int,
    on_end: Callable[[Job, int], None],
    log: Log,
    *,
    resources: Mapping[str, Any],
    folder: Path,
) -> None:
    """Run all jobs as one array job of SLURM, and follow them to their end.

    Args:
        jobs, count, on_end, log: as of `jobs.run_jobs`.
        resources: `sbatch` options by submitit's names, as `time` (minutes), `partition`, `gpus_per_node`, `mem_gb`.
        folder: for submitit's files; on a disk that the nodes share.

    Raises:
        InputError: no SLURM here, or an option that is none.
        KeyboardInterrupt: by the user; the jobs were cancelled, and have saved where they were.
    """
    if not jobs:
        return
    executor = _executor(folder, count, resources)
    for job in jobs:
        write_json(job.folder / "orders.json", job.orders)
        job.log.unlink(missing_ok=True)
    with executor.batch():
        handles = [executor.submit(OnNode(job.folder / "orders.json", job.log)) for job in jobs]
    waiting = list(zip(jobs, handles, strict=True))
    log(f"{len(jobs)} jobs submitted to SLURM, {handles[0].job_id} to {handles[-1].job_id}")
    next_beat = time.monotonic() + BEAT_SECONDS
    try:
        while waiting:
            time.sleep(PAUSE_SECONDS)
            for job, handle in [pair for pair in waiting if pair[1].done()]:
                waiting.remove((job, handle))
                on_end(job, _status(job, handle))
            if time.monotonic() > next_beat:
                next_beat += BEAT_SECONDS
                for job, handle in waiting:
                    log(f"  {job.name}: {last_line(job.log) or f'{handle.job_id} {handle.state.lower()}'}")
    finally:
        for _, handle in waiting:
            handle.cancel(check=False)


def _executor(folder: Path, count: int, resources: Mapping[str, Any]) -> Any:
    from submitit import SlurmExecutor
    from submitit.slurm.slurm import SlurmJob

    folder.mkdir(parents=True, exist_ok=True)
    try:
        executor = SlurmExecutor(folder, max_num_timeout=SITTINGS)
    except RuntimeError:
        raise InputError("--cluster slurm: no srun here; start the sweep on a machine that can submit jobs") from None
    SlurmJob.watcher._delay_s = STATE_SECONDS  # ten minutes by default
    path = os.pathsep.join(filter(None, (str(project.ROOT), os.environ.get("PYTHONPATH"))))
    given = {"job_name": "pgpt", "time": MINUTES, "array_parallelism": count, **resources}
    if "mem_gb" in given:
        given["mem"] = f"{given.pop('mem_gb')}GB"
    given["setup"] = [f"export PYTHONPATH={shlex.quote(path)}", *given.get("setup", ())]
    try:
        executor.update_parameters(**given)
    except (TypeError, ValueError) as error:
        raise InputError(f"--resource: {' '.join(str(error).split())}") from None
    return executor


def _status(job: Job, handle: Any) -> int:
    """The worker's status; where a job ended without one, its log says so."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        return handle.result()
    except (FailedJobError, UncompletedJobError) as error:
        state = handle.state
        with job.log.open("a", encoding="utf-8") as log:
            reason = str(error).strip().splitlines()
            known = state not in ("UNKNOWN", "COMPLETED", "RUNNING")
            log.write(f"\nerror: SLURM job {handle.job_id}: {state if known else reason[-1]}\n")
        return CANCELLED if state.startswith("CANCELLED") else LOST
