"""`sweep FILE.yaml`: the notebook series, or a part of it, at every point of a grid of its parameters.

    profile: smoke
    notebooks: [05_training, 06_evaluation]     those that run, in the series' order; all of the profile's when left out
    parameters: {scenes: 40}                    the same at every point
    grid: {seed: [0, 1, 2], steps: [20, 40]}    every combination is a point; `run --list-parameters` names them
    timeout_minutes: 30                         that one notebook may take; may be left out
    folder: my/notebooks                        of notebooks of one's own, relative to the file; may be left out

Each point runs in a process and a folder of its own, `OUT/NAME=VALUE,...`, as `run` does: it goes on where it stopped,
and what is finished is kept. A broken point is marked as failed and leaves its notebook up to the error.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from .. import project
from ..config import Section, load_profile
from ..errors import InputError
from ..files import read_json, write_json, write_text
from ..reproduce import NOTEBOOKS, plan, run_series
from .cells import flatten
from .jobs import STOPPED, Job, RunJobs, run_jobs, why

Log = Callable[[str], None]


class Grid(Section):
    """A file's content, its name, and the folder of its notebooks."""

    name: str
    profile: str
    notebooks: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = {}
    grid: Mapping[str, list[Any]] = Field(min_length=1)
    timeout_minutes: float | None = Field(default=None, gt=0)
    folder: Path = NOTEBOOKS

    def points(self) -> dict[str, dict[str, Any]]:
        """Each point's name and the parameters that it has beside the common ones."""
        combined = itertools.product(*self.grid.values())
        found = [dict(zip(self.grid, values, strict=True)) for values in combined]
        return {",".join(f"{k}={v}" for k, v in point.items()): point for point in found}


def load_grid(path: Path) -> Grid:
    """Read a grid and check it against the notebooks, so that nothing starts that cannot run.

    Raises:
        InputError: no such file, no YAML, an unknown key, or a parameter, value or notebook that does not exist.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"sweep {path}: no such file") from None
    except yaml.YAMLError as error:
        raise InputError(f"sweep {path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"sweep {path}: a mapping with `profile` and `grid` is expected, not {type(content).__name__}")
    if "folder" in content:
        content["folder"] = (path.parent / content["folder"]).absolute()
    try:
        grid = Grid.model_validate({"name": path.stem, **content})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InputError(f"sweep {path}: {problems}") from None
    profile = load_profile(grid.profile)
    for point in grid.points().values():
        if twice := sorted(point.keys() & grid.parameters.keys()):
            raise InputError(f"sweep {path}: {twice[0]} stands in `grid` and in `parameters`")
        plan(profile, Path(), {**grid.parameters, **point}, only=grid.notebooks, notebooks=grid.folder)
    return grid


def run_grid(
    grid: Grid, out: Path | None, jobs: int, dry_run: bool, log: Log, run: RunJobs | None = None
) -> dict[str, Any]:
    """Run every point that is not finished.

    Args:
        grid: what to run.
        out: gets a folder a point; `reports/sweeps/NAME` when None.
        jobs: points at a time.
        dry_run: only say what would run.
        log: takes one line of progress.
        run: where the points run; by default in processes here.

    Returns:
        `points` (name to `parameters`, `status`, `error`, `metrics`), `failed` (name to error), `table` (its path),
        `text`.
    """
    folder = grid_folder(grid, out)
    points = grid.points()
    if dry_run:
        steps = plan(
            load_profile(grid.profile), folder, dict(grid.parameters), only=grid.notebooks, notebooks=grid.folder
        )
        minutes = sum(step.minutes for step in steps) * -(-len(points) // jobs)
        text = "\n".join(
            [*points, f"{len(points)} points of {len(steps)} notebooks: {minutes:.0f} minutes, {jobs} at a time"]
        )
        return {"points": points, "failed": {}, "minutes": minutes, "text": text}
    failed: dict[str, str] = {}

    def on_end(job: Job, status: int) -> None:
        if status == 0:
            log(f"{job.name}: done")
        elif status in STOPPED:
            log(f"{job.name}: stopped; the next sweep goes on with it")
        else:
            failed[job.name] = why(job, status)
            log(f"{job.name} failed: {failed[job.name]}")
        _gather(grid, folder, failed)

    (run or run_jobs)(
        [Job(name, _orders(grid, folder / name, point), folder / name) for name, point in points.items()],
        jobs,
        on_end,
        log,
    )
    rows = _gather(grid, folder, failed)
    table = folder / "table.md"
    text = f"{table.read_text(encoding='utf-8')}\n{table}"
    return {"points": rows, "failed": failed, "table": table, "text": text}


def grid_folder(grid: Grid, out: Path | None) -> Path:
    """Where the points of a grid go."""
    return (out or project.ROOT / "reports" / "sweeps" / grid.name).expanduser().absolute()


def _orders(grid: Grid, folder: Path, point: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": "notebooks",
        "profile": grid.profile,
        "out": str(folder),
        "parameters": {**grid.parameters, **point},
        "only": list(grid.notebooks),
        "timeout_minutes": grid.timeout_minutes,
        "notebooks": str(grid.folder),
    }


def run_point(orders: Mapping[str, Any]) -> None:
    """One point, in this process."""
    run_series(
        orders["profile"],
        orders["out"],
        orders["parameters"],
        only=orders["only"],
        timeout_minutes=orders["timeout_minutes"],
        notebooks=Path(orders["notebooks"]),
        log=lambda line: print(line, file=sys.stderr, flush=True),
    )


def _gather(grid: Grid, folder: Path, failed: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Write `table.json` and `table.md` of all points; returns the former's content."""
    rows: dict[str, dict[str, Any]] = {}
    for name, point in grid.points().items():
        results = sorted((folder / name).glob("[0-9][0-9]_*/result.json"))
        records = [
            read_json(path.with_name("run.json")) for path in sorted((folder / name).glob("[0-9][0-9]_*/run.json"))
        ]
        metrics: dict[str, Any] = {}
        for path in results:
            content = read_json(path) or {"metrics": {}}
            metrics |= {f"{path.parent.name}.{k}": v for k, v in flatten(content["metrics"]).items()}
        complete = bool(records) and all(record and record["finished"] for record in records)
        status = "failed" if name in failed else "done" if complete else "to do"
        rows[name] = {"parameters": point, "status": status, "error": failed.get(name), "metrics": metrics}
    write_json(folder / "table.json", rows)
    write_text(folder / "table.md", _markdown(grid, rows))
    return rows


def _markdown(grid: Grid, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The points as a table: parameters, status, and the metrics that differ between points."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row["metrics"]))
    shown = [n for n in names if len({repr(row["metrics"].get(n)) for row in rows.values()}) > 1]
    head = [*grid.grid, "status", *shown]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for row in rows.values():
        cells = [
            *(str(v) for v in row["parameters"].values()),
            row["status"] + (f": {row['error']}" if row["error"] else ""),
        ]
        lines.append(f"| {' | '.join([*cells, *(_cell(row['metrics'].get(n)) for n in shown)])} |".replace("\n", " "))
    return "\n".join(lines) + "\n"


def _cell(found: Any) -> str:
    if found is None:
        return "–"
    if isinstance(found, list) and len(found) == 3 and all(isinstance(v, float) for v in found):
        return f"{found[0]:.4g} [{found[1]:.4g}, {found[2]:.4g}]"
    return f"{found:.4g}" if isinstance(found, float) else str(found)
