"""Runs the cells of a plan that are not done yet, and keeps a table of those that are."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import project
from ..files import read_json, write_json
from .cell_run import VERSION
from .cells import Cell, RunSettings, changed, of_same_kind
from .jobs import BUSY, STOPPED, Job, Log, RunJobs, run_jobs, why
from .rates import is_outdated
from .results import all_results, finished, result_file
from .switches import lacking, require_all
from .table import SETS, write_table
from .worker import read_back, work_folder


@dataclass(frozen=True)
class Status:
    """How a cell stands: `done`, `failed`, `changed` (done with other settings), `lacking` or `to do`, and why."""

    cell: Cell
    state: str
    why: str = ""
    minutes: float | None = None  # measured, or expected from its nearest relatives
    guessed: bool = False  # expected without any measured cell


def sweep_folder(out: Path, plan: str) -> Path:
    """Where the results of a sweep stand."""
    return out / "sweeps" / plan


def survey(cells: Sequence[Cell], out: Path) -> list[Status]:
    """How each cell stands, in the plan's order."""
    found: list[Status] = []
    measured: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        folder = sweep_folder(out, cell.plan)
        if cell.plan not in measured:
            committed = sweep_folder(project.report_folder(cell.profile_name), cell.plan)
            measured[cell.plan] = finished(folder) or finished(committed)
        found.append(_status(cell, folder, measured[cell.plan]))
    return found


def _status(cell: Cell, folder: Path, measured: Sequence[Mapping[str, Any]]) -> Status:
    result = read_json(result_file(folder, cell.id))
    minutes, guessed = expected_minutes(cell, measured)
    missing = lacking(cell)
    if missing:
        return Status(cell, "lacking", "; ".join(missing), minutes, guessed)
    if not result:
        begun = work_folder(folder, cell.id).joinpath("checkpoint").is_dir()
        return Status(cell, "to do", "begun" if begun else "", minutes, guessed)
    if result["status"] == "failed":
        return Status(cell, "failed", result["error"], minutes, guessed)
    differing = differences(cell, result, folder)
    if differing:
        return Status(cell, "changed", ", ".join(differing), minutes, guessed)
    return Status(cell, "done", "", result["total_seconds"] / 60)


def differences(cell: Cell, result: Mapping[str, Any], folder: Path) -> list[str]:
    """What a finished cell was trained with otherwise than it would be today, by name; empty where it still counts."""
    differing = changed(result.get("asked", {}), read_back(cell.asked()))
    return sorted([*differing, *["the tuned rate"] * is_outdated(cell, result, folder)])


def expected_minutes(cell: Cell, measured: Sequence[Mapping[str, Any]]) -> tuple[float, bool]:
    """Minutes that a cell will take, from finished cells of its kind; or a guess, and then True beside it.

    Training goes by the number of expressions, or by the clock where the cell does; scoring is taken to cost the same.
    """
    run = cell.run
    if not measured:
        return guessed_seconds(run) / 60, True
    kind = {name: value for name, value in cell.factors.items() if name != "lr"}  # a rate costs nothing
    near = [measured[i] for i in of_same_kind(kind, [r["cell"] for r in measured])]
    a_thousand = statistics.median_low(r["seconds"] / r["expressions"] * 1000 for r in near)
    # not the mean: the first cell of a seed also encodes thousands of pictures, for all that follow
    scoring = statistics.median_low(r["total_seconds"] - r["seconds"] for r in near)
    training = (run.minutes or 0) * 60 or run.expressions * run.times / 1000 * a_thousand
    return (training + scoring) / 60, False


def guessed_seconds(run: RunSettings) -> float:
    """Seconds of a cell before any was measured: training, scoring (curve and questions too), and alignment."""
    training = (run.minutes or 0) * 60 or run.expressions * run.times / 1000 * run.guess * run.longer
    sets = (1 + len(SETS)) / 2 if run.splits == "all" else 1.0  # the others take half of the main one's scenes
    scenes = run.eval_scenes * sets + 2 * run.question_scenes + len(run.curve) * run.curve_scenes
    alignment = run.align_steps * run.guess_align if run.align == "words" else 0.0
    return training + scenes * run.guess_scene * run.longer + alignment


def run_cells(
    cells: Sequence[Cell],
    out: Path,
    jobs: int = 1,
    available: bool = False,
    log: Log = print,
    run: RunJobs | None = None,
) -> dict[str, Any]:
    """Run the cells that are not done, `jobs` at a time; a failed one is tried again, and does not stop the others.

    Args:
        cells: of one plan.
        out: the folder that holds `sweeps/`.
        jobs: processes at a time.
        available: leave out cells that lack something, instead of refusing the sweep.
        log: takes one line of progress.
        run: where the cells run; by default in processes here.

    Returns:
        `done`, `failed` (id to error), `lacking`, `elsewhere` (at work in another process), `table` (its path).

    Raises:
        InputError: a cell lacks something (see `switches.lacking`), and `available` is off.
    """
    if not available:
        require_all(cells)
    statuses = survey(cells, out)
    folder = sweep_folder(out, cells[0].plan)
    open_ones = [s for s in statuses if s.state not in ("done", "lacking")]
    failed: dict[str, str] = {}
    elsewhere: list[str] = []
    ended = sum(s.state == "done" for s in statuses)
    total, by_name = len(statuses), {s.cell.id: s.cell for s in open_ones}
    minutes = sum(s.minutes or 0 for s in open_ones) / max(jobs, 1)
    log(f"{total} cells, {ended} done, {len(open_ones)} to do, about {minutes:.0f} minutes with {jobs} at a time")

    def on_end(job: Job, status: int) -> None:
        nonlocal ended
        cell = by_name[job.name]
        result = read_json(result_file(folder, cell.id))
        if status == 0 and result and result["status"] == "done":
            ended += 1
            log(f"cell {ended} of {total}, {cell.id}: {result['total_seconds']:.0f} s")
        elif status == BUSY:
            elsewhere.append(cell.id)
            log(f"{cell.id}: another process is at work on it")
        elif status in STOPPED:
            log(f"{cell.id}: stopped; the next sweep goes on with it")
        else:
            failed[cell.id] = why(job, status)
            log(f"{cell.id} failed: {failed[cell.id]}")
            with _told(log):
                write_json(result_file(folder, cell.id), _failure(cell, failed[cell.id]))
        with _told(log):
            write_table(folder, all_results(folder))

    waiting = [
        Job(s.cell.id, _orders(s.cell, folder), work_folder(folder, s.cell.id))
        for s in sorted(open_ones, key=lambda s: s.state == "failed")  # those that failed before come last
    ]
    tuned = {s.cell.id for s in open_ones if s.cell.run.lr == "tuned"}
    for batch in ([j for j in waiting if j.name not in tuned], [j for j in waiting if j.name in tuned]):
        if batch:  # rates are known before the first cell that takes the best of them
            (run or run_jobs)(batch, jobs, on_end, log)
    write_table(folder, all_results(folder))
    done = [s.cell.id for s in survey(cells, out) if s.state == "done"]
    missing = [s.cell.id for s in statuses if s.state == "lacking"]
    return {
        "done": done,
        "failed": failed,
        "lacking": missing,
        "elsewhere": elsewhere,
        "table": folder / "table.md",
    }


def _orders(cell: Cell, folder: Path) -> dict[str, Any]:
    return {
        "kind": "cell",
        "plan": cell.plan,
        "factors": dict(cell.factors),
        "profile": cell.profile_name,
        "folder": str(folder.absolute()),
    }


def _failure(cell: Cell, error: str) -> dict[str, Any]:
    about = {"version": VERSION, "plan": cell.plan, "id": cell.id, "cell": dict(cell.factors)}
    return {**about, "status": "failed", "error": error, "profile": cell.profile_name}


@contextlib.contextmanager
def _told(log: Log) -> Iterator[None]:
    """A file that cannot be written, as on a full disk, is told and does not end the sweep."""
    try:
        yield
    except OSError as error:
        log(f"not written: {error}")
