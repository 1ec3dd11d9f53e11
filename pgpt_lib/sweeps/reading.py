"""What notebooks read of a sweep: its finished cells, what is missing and how it is made, and one cell run live."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import project
from ..errors import RunError
from ..evaluation.series import MAIN
from ..files import read_json
from .cells import changed
from .engine import sweep_folder
from .plans import Plan, load_plan, sized
from .results import finished, mean, reached, result_file, select
from .worker import perform, read_back

NAMED = 4  # missing cells that are named one by one


@dataclass(frozen=True)
class Sweep:
    """A plan with the finished cells of one profile.

    `home` is the folder that holds `sweeps/`; `results` the finished cells; `missing` the names of the plan's other
    cells; `stale` those of finished ones whose settings have changed since.
    """

    plan: Plan
    profile: str
    home: Path
    results: Sequence[Mapping[str, Any]]
    missing: Sequence[str]
    stale: Sequence[str]

    @property
    def command(self) -> str:
        """What makes the missing cells."""
        other = "" if self.profile == self.plan.profile else f" --profile {self.profile}"
        return f"python -m pgpt_lib sweep {self.plan.name}{other}"

    def cells(self, **factors: Any) -> list[Mapping[str, Any]]:
        """The finished cells with these factors, by seed; a factor that is not named has the plan's default."""
        return select(self.results, **{**self.plan.defaults, **factors})

    def mean(self, metric: str, **factors: Any) -> list[float] | None:
        """A metric of the main split over the seeds, [value, low, high]; None without a finished cell."""
        return mean(self.cells(**factors), f"{MAIN}.{metric}")

    def summary(self) -> str:
        """How much there is, what is missing, and the command that makes it."""
        total = len(self.results) + len(self.missing)
        text = f"sweep {self.plan.name}, profile {self.profile}: {len(self.results)} of {total} cells are done"
        if self.missing:
            more = f" and {len(self.missing) - NAMED} more" if len(self.missing) > NAMED else ""
            text += f"\nmissing: {'; '.join(self.missing[:NAMED])}{more}\nmade by: {self.command}"
        if self.stale:
            text += f"\nof other settings than today's: {'; '.join(self.stale)}"
        return text


def open_sweep(name: str, out: Path, profile: str) -> Sweep:
    """A plan's finished cells in a run's folder, or, where it has none, in `reports/<profile>`.

    A profile in which sweeps have no sizes reads those of the plan's own.

    Raises:
        InputError: an unknown plan.
    """
    plan = load_plan(name)
    profile = profile if sized(profile) else plan.profile
    homes = (out, project.report_folder(profile))
    home = next((h for h in homes if finished(sweep_folder(h, name))), homes[0])
    done = {result["id"]: result for result in finished(sweep_folder(home, name))}
    cells = plan.cells(profile)
    known = [done[cell.id] for cell in cells if cell.id in done]
    missing = [cell.id for cell in cells if cell.id not in done]
    stale = [c.id for c in cells if c.id in done and changed(done[c.id].get("asked", {}), read_back(c.asked()))]
    return Sweep(plan, profile, home, known, missing, stale)


def live_cell(sweep: Sweep, folder: Path, **factors: Any) -> Mapping[str, Any]:
    """Train and score one cell now, in this process, below a notebook's own folder; a finished one is kept.

    Raises:
        InputError: factors that the plan does not know, or a switch that this version lacks.
        RunError: the training failed, or another process is at work on the cell.
    """
    cell = sweep.plan.cell(factors, sweep.profile)
    place = sweep_folder(folder, sweep.plan.name)
    held = read_json(result_file(place, cell.id))
    if held and not changed(held["asked"], read_back(cell.asked())):
        return dict(held)
    result = perform(cell, place, progress=False)
    if result is None:
        raise RunError(f"another process is at work on {cell.id} in {place}; wait for it or choose another out_dir")
    return result


def effort_to(results: Sequence[Mapping[str, Any]], level: float, key: str = "acc@0.5") -> dict[str, Any]:
    """What it takes until a learning curve reaches a level, over seeds.

    Returns:
        `reached` (how many seeds), `of`, and, where any did, the mean `expressions` and `seconds` of those.
    """
    points = [point for result in results if (point := reached(result, level, key))]
    found: dict[str, Any] = {"reached": len(points), "of": len(results)}
    if points:
        found |= {unit: statistics.fmean(p[unit] for p in points) for unit in ("expressions", "seconds")}
    return found
