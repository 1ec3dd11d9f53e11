"""`python -m pgpt_lib sweep`: a built-in plan of trainings, or a grid over notebook parameters from a YAML file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError, RunError
from ._output import Emit, JsonFlag, log, results

if TYPE_CHECKING:
    from ..sweeps.cells import Cell
    from ..sweeps.engine import Status
    from ..sweeps.jobs import RunJobs
    from ..sweeps.plans import Plan

ALL_AT_ONCE = 256  # of a cluster's jobs; submitit's own default


def sweep(
    name: Annotated[str, typer.Argument(help="table6, losses, fusion, released_code, or a YAML file.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder that gets sweeps/NAME; reports/PROFILE when left out.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="name=value,...: one cell where it names all factors, else those that fit.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print cells and minutes, and stop.")] = False,
    jobs: Annotated[
        int | None, typer.Option(help="Processes at a time, one thread each if several; on a cluster, all.", min=1)
    ] = None,
    cluster: Annotated[str, typer.Option(help="slurm: run there, not here; OUT is on a disk its nodes share.")] = "",
    resource: Annotated[
        list[str] | None, typer.Option("-r", "--resource", help="name=value of a cluster's job, as time=240 (minutes).")
    ] = None,
    profile: Annotated[str, typer.Option(help="In place of the plan's own; smoke tries every path.")] = "",
    available: Annotated[bool, typer.Option("--available", help="Leave out cells that lack something here.")] = False,
    json: JsonFlag = False,
) -> None:
    """Run the cells of a sweep that are not done yet; one that was killed goes on."""
    where = Where(jobs, cluster, resource)
    with results(json) as emit:
        if name.endswith((".yaml", ".yml")):
            from ..sweeps.notebook_grid import grid_folder, load_grid, run_grid

            if only or profile or available:
                raise InputError(
                    f"sweep {name}: --only, --profile and --available are for built-in sweeps; edit the file"
                )
            grid = load_grid(Path(name))
            summary = run_grid(grid, out, where.count, dry_run, log, where.run(grid_folder(grid, out)))
            emit(summary, summary["text"] + (where.told() if dry_run else ""))
            _fail_if_any(summary["failed"])
            return
        from ..sweeps.plans import load_plan

        _builtin(load_plan(name), out, only, dry_run, where, profile, available, emit)


class Where:
    """In how many processes of this machine, or on which cluster with which resources, a sweep runs.

    Raises:
        InputError: a cluster that is not known, or resources without one.
    """

    def __init__(self, jobs: int | None, cluster: str, resources: Sequence[str] | None) -> None:
        from ..notebook_parameters import parse_assignments

        if cluster not in ("", "slurm"):
            raise InputError(f"--cluster {cluster!r}: there is slurm")
        if resources and not cluster:
            raise InputError(f"--resource {resources[0]}: it belongs to --cluster slurm")
        self.count = jobs or (ALL_AT_ONCE if cluster else 1)
        self.cluster, self.resources = cluster, parse_assignments(resources or (), "-r")

    def run(self, folder: Path) -> RunJobs | None:
        """What runs the jobs of a sweep whose results go into a folder; None for processes here."""
        if not self.cluster:
            return None
        from ..sweeps.cluster import run_on_cluster

        return partial(run_on_cluster, resources=self.resources, folder=folder / ".slurm")

    def told(self) -> str:
        """For the plan that `--dry-run` shows."""
        given = ", ".join(f"{name}={value}" for name, value in self.resources.items()) or "no resources named"
        return f"\non SLURM: {given}" if self.cluster else ""


def _builtin(
    plan: Plan,
    out: Path | None,
    only: str | None,
    dry_run: bool,
    where: Where,
    profile: str,
    available: bool,
    emit: Emit,
) -> None:
    from .. import project

    folder = project.report_folder(profile or plan.profile, out or "")
    cells, single = choose(plan, only, profile)
    from ..sweeps.engine import run_cells, survey, sweep_folder

    if dry_run:
        statuses = survey(cells, folder)
        emit(_as_data(statuses, where.count), _dry(statuses, where.count) + where.told())
    elif single and not where.cluster:
        found = one_cell(cells[0], folder)
        emit({key: found[key] for key in ("cell", "metrics", "seconds")})
    else:
        runner = where.run(sweep_folder(folder, plan.name))
        summary = run_cells(cells, folder, where.count, available, log, runner)
        text = summary["table"].read_text(encoding="utf-8") if summary["table"].exists() else "no cell is done"
        emit(summary, f"{text}\n{summary['table']}")
        _fail_if_any(summary["failed"])


def choose(plan: Plan, only: str | None, profile: str) -> tuple[Sequence[Cell], bool]:
    """The cells that `--only` means, and whether it names a single one by all of its factors.

    Raises:
        InputError: it fits no cell.
    """
    from ..sweeps.cells import parse_factors

    if not only:
        return plan.cells(profile), False
    given = parse_factors(only)
    if set(given) >= {*plan.factors, "seed"} - set(plan.defaults):
        return [plan.cell(given, profile)], True
    unknown = set(given) - {*plan.factors, "seed"}
    if unknown:
        raise InputError(
            f"sweep {plan.name} has no factor {min(unknown)!r}; it has {', '.join([*plan.factors, 'seed'])}"
        )
    cells = [c for c in plan.cells(profile) if all(str(c.factors[k]) == str(v) for k, v in given.items())]
    if not cells:
        raise InputError(f"--only {only!r} fits no cell of sweep {plan.name}; --dry-run lists them")
    return cells, False


def one_cell(cell: Cell, out: Path) -> dict[str, Any]:
    """The result of one cell, in this process: the stored one while its settings are the same, else made now.

    Raises:
        RunError: another process is at work on it.
    """
    from ..files import read_json
    from ..sweeps.engine import survey, sweep_folder
    from ..sweeps.results import result_file
    from ..sweeps.switches import require_all
    from ..sweeps.worker import perform

    require_all([cell])
    folder = sweep_folder(out, cell.plan)
    if survey([cell], out)[0].state == "done":
        return read_json(result_file(folder, cell.id))
    result = perform(cell, folder)
    if result is None:
        raise RunError(f"another process is at work on {cell.id} in {folder}; wait for it or choose another --out")
    return result


def _as_data(statuses: Sequence[Status], jobs: int) -> dict[str, Any]:
    cells = [
        {
            "id": s.cell.id,
            "cell": s.cell.factors,
            "state": s.state,
            "why": s.why,
            "minutes": s.minutes,
            "guess": s.guessed,
        }
        for s in statuses
    ]
    return {"cells": cells, "minutes": _minutes_left(statuses, jobs), "jobs": jobs}


def _minutes_left(statuses: Sequence[Status], jobs: int) -> float:
    """Minutes that `jobs` at a time take together; however many they are, no fewer than the longest cell."""
    left = [s.minutes or 0 for s in statuses if s.state not in ("done", "lacking")]
    return max(sum(left) / jobs, max(left, default=0))


def _dry(statuses: Sequence[Status], jobs: int) -> str:
    width = max(len(s.cell.id) for s in statuses)
    lines = []
    for s in statuses:
        minutes = "" if s.minutes is None else f"{s.minutes:7.1f} min" + (" (a guess)" if s.guessed else "")
        lines.append(f"{s.cell.id:<{width}}  {s.state:<8}{minutes}" + (f"  {s.why}" if s.why else ""))
    left = [s for s in statuses if s.state not in ("done", "lacking")]
    total = f"{len(left)} of {len(statuses)} cells to do: {_minutes_left(statuses, jobs):.0f} minutes, {jobs} at a time"
    return "\n".join([*lines, total])


def _fail_if_any(failed: Any) -> None:
    if failed:
        raise RunError(f"{len(failed)} failed: " + "; ".join(f"{name}: {error}" for name, error in failed.items()))
