"""What notebooks read of a sweep: its finished cells, what is missing and how it is made, and one cell run live."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .. import project
from ..errors import RunError
from ..evaluation.series import MAIN
from ..files import read_json
from .cells import changed
from .engine import differences, sweep_folder
from .plans import Plan, load_plan, sized
from .rates import is_rate
from .results import contrast, finished, mean, reached, result_file, select, shared_seeds
from .worker import perform, read_back

NAMED = 4  # missing cells that are named one by one
Factors = Mapping[str, Any]


class OverSeeds(NamedTuple):
    """A mean over `seeds` seeds, or a difference of such means, with its 95 % interval."""

    value: float
    low: float
    high: float
    seeds: int

    @classmethod
    def of(cls, found: Sequence[float], seeds: int) -> OverSeeds:
        """From [value, low, high]."""
        value, low, high = found
        return cls(value, low, high, seeds)

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]{self._seeds()}"

    @property
    def signed(self) -> str:
        """For a difference: with its sign."""
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]{self._seeds()}"

    def _seeds(self) -> str:
        return f", {self.seeds} seed{'s' * (self.seeds != 1)}"


@dataclass(frozen=True)
class Sweep:
    """A plan with the finished cells of one profile.

    `home` is the folder that holds `sweeps/`; `results` the finished cells; `missing` the names of the plan's other
    cells; `stale` those of the missing ones that were finished with other settings than today's, and do not count.
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

    def mean(self, metric: str, **factors: Any) -> OverSeeds | None:
        """A metric of the main split over the seeds; None without a finished cell."""
        found = self.cells(**factors)
        value = mean(found, f"{MAIN}.{metric}")
        return OverSeeds.of(value, len(found)) if value else None

    def gap(self, metric: str, a: Factors, b: Factors) -> OverSeeds | None:
        """`a` minus `b` in a metric of the main split, over the seeds that both have."""
        return self._contrast(metric, [(1, a), (-1, b)])

    def growth(self, metric: str, a: Factors, b: Factors, then: Factors) -> OverSeeds | None:
        """By how much `a` minus `b` grows when both take the factors `then`; negative where the gap shrinks."""
        return self._contrast(metric, [(1, {**a, **then}), (-1, {**b, **then}), (-1, a), (1, b)])

    def _contrast(self, metric: str, terms: Sequence[tuple[int, Factors]]) -> OverSeeds | None:
        groups = [(sign, self.cells(**factors)) for sign, factors in terms]
        value = contrast(groups, f"{MAIN}.{metric}")
        seeds = shared_seeds(*([r["cell"]["seed"] for r in group] for _, group in groups))
        return OverSeeds.of(value, len(seeds)) if value else None

    @property
    def note(self) -> str:
        """What a dash in a table or figure means, and what fills it; or that no cell is missing."""
        if not self.missing:
            return f"all {len(self.results)} cells of the plan are there"
        return f"–: not run yet; made by {self.command}"

    def told(self, found: OverSeeds | None, signed: bool = False) -> str:
        """An interval for people, or what makes it."""
        if found is None:
            return f"not run yet; made by {self.command}"
        return found.signed if signed else str(found)

    def facts(self) -> dict[str, Any]:
        """What the finished cells took, for a report.

        Returns: `cells` and `missing` (counts), `seeds` (of the cells that are compared, not of those that tuned a
            learning rate), `hours` (of one process, scoring included, added over cells), `threads` (of a process) and
            `machines`, each once.
        """
        machines: list[Any] = []
        for result in self.results:
            if result["machine"] and result["machine"] not in machines:
                machines.append(result["machine"])
        return {
            "cells": len(self.results),
            "missing": len(self.missing),
            "seeds": sorted({r["cell"]["seed"] for r in self.results if not is_rate(r["cell"].get("lr"))}),
            "hours": sum(result["total_seconds"] for result in self.results) / 3600,
            "threads": sorted({result["threads"] for result in self.results}),
            "machines": machines,
        }

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


def untuned(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same cells with the scores of their models before they were tuned in place of those after it."""
    return [{**cell, "metrics": {MAIN: cell["before"]}} for cell in cells]


def open_sweep(name: str, out: Path, profile: str) -> Sweep:
    """A plan's finished cells in a run's folder, or, where it has none, in `reports/<profile>`.

    A cell that was finished with other settings than today's counts as missing. A profile in which sweeps have no sizes
    reads those of the plan's own.

    Raises:
        InputError: an unknown plan.
    """
    plan = load_plan(name)
    profile = profile if sized(profile) else plan.profile
    homes = (out, project.report_folder(profile))
    home = next((h for h in homes if finished(sweep_folder(h, name))), homes[0])
    done = {result["id"]: result for result in finished(sweep_folder(home, name))}
    cells = plan.cells(profile)
    folder = sweep_folder(home, name)
    stale = [c.id for c in cells if c.id in done and differences(c, done[c.id], folder)]
    known = [done[cell.id] for cell in cells if cell.id in done and cell.id not in stale]
    missing = [cell.id for cell in cells if cell.id not in done or cell.id in stale]
    return Sweep(plan, profile, home, known, missing, stale)


def live_cell(sweep: Sweep, folder: Path, **factors: Any) -> Mapping[str, Any]:
    """Train and score one cell now, in this process, below a notebook's own folder; a finished one is kept.

    A tuned learning rate is the one that the sweep's own cells take.

    Raises:
        InputError: factors that the plan does not know, or a switch that this version lacks.
        RunError: the training failed, or another process is at work on the cell.
    """
    cell = sweep.plan.cell(factors, sweep.profile)
    place = sweep_folder(folder, sweep.plan.name)
    held = read_json(result_file(place, cell.id))
    if held and not changed(held["asked"], read_back(cell.asked())):
        return dict(held)
    result = perform(cell, place, progress=False, tuned_in=sweep_folder(sweep.home, sweep.plan.name))
    if result is None:
        raise RunError(f"another process is at work on {cell.id} in {place}; wait for it or choose another out_dir")
    return result


def told_size(cells: Sequence[Mapping[str, Any]]) -> str:
    """How long cells of one kind were trained, and at what rate, for people; a dash without any."""
    if not cells:
        return "–"
    texts = [f"{c['expressions']:,} expressions in {c['steps']} steps at a peak rate of {c['lr']:g}" for c in cells]
    return "; ".join(dict.fromkeys(texts))


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
