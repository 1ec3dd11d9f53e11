"""The files of a sweep's cells, and what can be read off several of them: means over seeds and differences.

An interval of a mean over seeds joins two sources of doubt: the seeds (Student's t over their values) and the scenes
(the bootstrap interval of each value; more seeds do not narrow it, for all are scored on the same scenes). Their half
widths are added in squares. A difference pairs the seeds that both sides have, and the scenes too where every result
says what its score adds up from on the same ones: what makes a scene hard for both sides cancels. Else scenes count as
if they were drawn apart, which makes the interval rather too wide. With one seed the first part is unknown: the
interval covers scenes alone.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from ..files import read_json

RESERVED = {"table.json"}
LEAST_SEEDS = 3
"""Fewer decide no ordering, whatever their interval: two may agree by chance."""


def result_file(folder: Path, cell_id: str) -> Path:
    """Where a cell's result stands in the folder of its sweep."""
    return folder / f"{cell_id}.json"


def all_results(folder: Path) -> list[dict[str, Any]]:
    """Every result of a sweep, failed ones too, by name."""
    files = sorted(p for p in folder.glob("*.json") if p.name not in RESERVED) if folder.is_dir() else []
    return [r for p in files if isinstance(r := read_json(p), dict) and "cell" in r and "status" in r]


def finished(folder: Path) -> list[dict[str, Any]]:
    """The results of the cells that came to their end."""
    return [r for r in all_results(folder) if r["status"] == "done"]


def select(results: Sequence[Mapping[str, Any]], **factors: Any) -> list[Mapping[str, Any]]:
    """Those whose factors have these values, by seed. Factors that are not named may be anything."""
    chosen = [r for r in results if all(str(r["cell"].get(k)) == str(v) for k, v in factors.items())]
    return sorted(chosen, key=lambda r: r["cell"]["seed"])


def metric(result: Mapping[str, Any], path: str) -> Any:
    """A metric of a result by its path below `metrics`, as `refshapes-refcoco/val.acc@0.5`; None where it has none."""
    data_set, _, rest = path.partition(".")
    found: Any = result["metrics"].get(data_set)
    while found is not None and rest:
        if not isinstance(found, Mapping):
            return None
        key = next((k for k in found if rest == k or rest.startswith(f"{k}.")), None)
        if key is None:
            return None
        found, rest = found[key], rest[len(key) + 1 :]
    return found


def value(result: Mapping[str, Any], path: str) -> float | None:
    """The number at the front of a metric; None where it has none."""
    found = metric(result, path)
    if isinstance(found, (list, tuple)):
        found = found[0]
    return float(found) if isinstance(found, (int, float)) and not isinstance(found, bool) else None


def mean(results: Sequence[Mapping[str, Any]], path: str) -> list[float] | None:
    """The mean of a metric over results that differ by their seed alone, as [value, low, high]; None without any."""
    found = [m for r in results if (m := metric(r, path)) is not None]
    return interval([point_score(m) for m in found], [_half(m) for m in found]) if found else None


def difference(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]], path: str) -> list[float] | None:
    """`a` minus `b` in a metric, over the seeds that both have, as [value, low, high]; None where none is shared."""
    return contrast([(1, a), (-1, b)], path)


def contrast(terms: Sequence[tuple[float, Sequence[Mapping[str, Any]]]], path: str) -> list[float] | None:
    """A weighted sum of a metric over groups of results, as [value, low, high], over the seeds that all groups have.

    Args:
        terms: weight and results of each group; +a -b is a difference, +a -b -c +d a difference of two differences.
        path: of the metric, see `metric`.

    Returns: None where no seed is shared.
    """
    rows = _by_seed([side for _, side in terms], path)
    if not rows:
        return None
    members = [[(weight, r) for (weight, _), r in zip(terms, row, strict=True)] for row in rows]
    values = [sum(weight * point_score(metric(r, path)) for weight, r in row) for row in members]
    return interval(values, _scene_halves(members, path))


def shortfall(whole: Sequence[Mapping[str, Any]], part: Sequence[Mapping[str, Any]], path: str) -> list[float] | None:
    """By which share of its score `part` falls short of `whole`, as [value, low, high], over the seeds both have.

    A share is taken seed by seed. What scenes leave in doubt of it is that of the quotient to first order.

    Returns: None where no seed is shared, or where `whole` has a score of 0, which leaves nothing to lose.
    """
    rows = _by_seed([whole, part], path)
    scores = [[point_score(metric(r, path)) for r in row] for row in rows]
    if not rows or not all(full for full, _ in scores):
        return None
    members = [[(rest / full**2, row[0]), (-1 / full, row[1])] for row, (full, rest) in zip(rows, scores, strict=True)]
    return interval([1 - rest / full for full, rest in scores], _scene_halves(members, path))


def _by_seed(sides: Sequence[Sequence[Mapping[str, Any]]], path: str) -> list[list[Mapping[str, Any]]]:
    """The results of all sides that have a metric, side by side in a row for each seed that all of them have."""
    groups = [{r["cell"]["seed"]: r for r in side if metric(r, path) is not None} for side in sides]
    return [[group[seed] for group in groups] for seed in shared_seeds(*groups)]


def _scene_halves(members: Sequence[Sequence[tuple[float, Mapping[str, Any]]]], path: str) -> list[float]:
    """What scenes leave in doubt of weighted sums of scores, a row a seed: of their mean where scenes can be paired."""
    paired = _paired_half([(weight / len(members), r) for row in members for weight, r in row], path)
    if paired is not None:
        return [paired]
    return [math.hypot(*(weight * _half(metric(r, path)) for weight, r in row)) for row in members]


def _paired_half(terms: Sequence[tuple[float, Mapping[str, Any]]], path: str) -> float | None:
    """The half width that scenes leave in doubt of a weighted sum of scores on the same scenes, at 95 %.

    A score is a quotient of sums over scenes; to first order, a scene's share in its error is (n - score d) / sum of d
    (Cochran, Sampling Techniques, 1977, section 6.3). Shares of one scene are added with their weights before they are
    squared.

    Returns: None where a result does not say what its score adds up from (`evaluation.by_scene`), or where the scenes
        are not the same, or are fewer than two.
    """
    data_set, _, key = path.partition(".")
    columns = [r["metrics"][data_set].get("scenes", {}).get(key) for _, r in terms]
    if not all(columns) or len({column["images"] for column in columns}) > 1:
        return None
    shares = []
    for (weight, _), column in zip(terms, columns, strict=True):
        sums, of = (np.array(column[name].split(), float) for name in ("sums", "of"))
        shares.append(weight * (sums - sums.sum() / of.sum() * of) / of.sum())
    errors = np.sum(shares, axis=0)
    count = len(errors)
    if count < 2:
        return None
    return float(student.ppf(0.975, count - 1) * np.sqrt(count / (count - 1) * np.square(errors).sum()))


def shared_seeds(*sides: Iterable[Any]) -> list[Any]:
    """The seeds that all sides have, in order."""
    return sorted(set.intersection(*map(set, sides)), key=str)


def reached(result: Mapping[str, Any], level: float, key: str = "acc@0.5") -> Mapping[str, Any] | None:
    """The first point of a learning curve (`step`, `expressions`, `seconds`) at which a score is at least `level`."""
    return next((p for p in result["curve"] if p.get(key) is not None and point_score(p[key]) >= level), None)


def interval(values: Sequence[float], halves: Sequence[float] = (0.0,)) -> list[float]:
    """[mean, low, high] of a number over seeds, at 95 %; `halves` are half widths of what a value leaves in doubt."""
    middle, count = statistics.fmean(values), len(values)
    seeds = student.ppf(0.975, count - 1) * statistics.stdev(values) / math.sqrt(count) if count > 1 else 0.0
    half = math.hypot(float(seeds), statistics.fmean(halves))
    return [middle, middle - half, middle + half]


def point_score(found: Any) -> float:
    """The number at the front of a score, which may have an interval."""
    return float(found[0] if isinstance(found, (list, tuple)) else found)


def _half(found: Any) -> float:
    return (found[2] - found[1]) / 2 if isinstance(found, (list, tuple)) else 0.0
