"""What a claim can rest on: metrics and tables of a report, and the cells of its sweeps."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import project
from ..files import read_json
from ..sweeps.results import difference, shared_seeds

REPRODUCED, NOT_REPRODUCED, NOT_MEASURABLE = "reproduced", "not reproduced", "not measurable here"
MAIN = "refshapes-refcoco/val"


class Missing(Exception):
    """The evidence that a rule needs is not there; the message names it."""


@dataclass(frozen=True)
class Verdict:
    """What a rule found: the verdict, what it rests on, and why in one sentence."""

    verdict: str
    evidence: tuple[str, ...]
    why: str


def judged(holds: bool, evidence: Sequence[str], why: str) -> Verdict:
    """Reproduced where `holds`, else not reproduced."""
    return Verdict(REPRODUCED if holds else NOT_REPRODUCED, tuple(dict.fromkeys(evidence)), why)


class Evidence:
    """A report with its folder; every look-up raises `Missing`, naming what is not there."""

    def __init__(self, report: Mapping[str, Any], folder: Path) -> None:
        self.report, self.folder = report, folder

    def metric(self, *path: str) -> Any:
        """A metric by its keys, the first being an entry of `metrics`."""
        found: Any = self.report["metrics"]
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
            if found is None:
                raise Missing(f"the report has no {': '.join(path)}")
        return found

    def table(self, name: str) -> Mapping[str, Mapping[str, Any]]:
        """Our rows of a table of the paper."""
        found = self.report["tables"].get(name, {}).get("ours")
        if not found:
            raise Missing(f"the report has no {name} of ours")
        return found

    def cells(self, plan: str, **factors: Any) -> dict[Any, tuple[str, Mapping[str, Any]]]:
        """The finished cells of a sweep whose factors have these values: seed to path and content."""
        found: dict[Any, tuple[str, Mapping[str, Any]]] = {}
        for path in sorted((self.folder / "sweeps" / plan).glob("*.json")):
            result = read_json(path)
            if not isinstance(result, dict) or not {"cell", "metrics"} <= result.keys():
                continue  # the sweep's table, or a damaged file
            cell = result["cell"]
            if result.get("status", "done") == "done" and all(_same(cell.get(k), v) for k, v in factors.items()):
                if cell.get("seed") in found:
                    raise Missing(f"two cells of sweeps/{plan} have {_text(factors)} and seed {cell.get('seed')}")
                found[cell.get("seed")] = self._name(path), result
        if not found:
            raise Missing(f"no finished cell with {_text(factors)} in sweeps/{plan}")
        return found

    def gain(self, plan: str, better: Mapping[str, Any], worse: Mapping[str, Any], key: str) -> Gain:
        """By how much one kind of cell exceeds another in a metric of the main split, over the seeds that both have."""
        ours, theirs = self.cells(plan, **better), self.cells(plan, **worse)
        seeds = shared_seeds(ours, theirs)
        if len(seeds) < 2:
            raise Missing(f"sweeps/{plan} has fewer than two seeds of both {_text(better)} and {_text(worse)}")
        pairs = [(ours[seed], theirs[seed]) for seed in seeds]
        for cell in itertools.chain(*pairs):
            score(cell, key)  # names the cell that lacks it
        found = difference([a[1] for a, _ in pairs], [b[1] for _, b in pairs], f"{MAIN}.{key}")
        assert found is not None  # seeds are shared, and every cell has the metric
        middle, lower, upper = found
        return Gain(middle, lower, upper, len(seeds), tuple(path for path, _ in itertools.chain(*pairs)))

    def _name(self, path: Path) -> str:
        """Relative to the project where it lies within, else as it is."""
        whole = path.resolve()
        return str(whole.relative_to(project.ROOT) if whole.is_relative_to(project.ROOT) else whole)


@dataclass(frozen=True)
class Gain:
    """A mean difference with its 95 % interval over seeds, and the cells that it comes from."""

    value: float
    low: float
    high: float
    seeds: int
    paths: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}] over {self.seeds} seeds"


def score(cell: tuple[str, Mapping[str, Any]], key: str) -> Any:
    """A metric of a cell on the main split."""
    path, result = cell
    found = result["metrics"].get(MAIN, {}).get(key)
    if found is None:
        raise Missing(f"{path} has no {MAIN}: {key}")
    return found


def point(metric: Any) -> float:
    """A metric's value: of `[value, low, high]` the first."""
    return float(metric[0] if isinstance(metric, (list, tuple)) else metric)


def low(metric: Any) -> float:
    """The lower end of a metric's interval; of a plain number, itself."""
    return float(metric[1] if isinstance(metric, (list, tuple)) else metric)


def high(metric: Any) -> float:
    """The upper end of a metric's interval; of a plain number, itself."""
    return float(metric[2] if isinstance(metric, (list, tuple)) else metric)


def _same(found: Any, wanted: Any) -> bool:
    return bool(found == wanted) or str(found) == str(wanted)


def _text(factors: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in factors.items())
