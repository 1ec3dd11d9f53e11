"""The baselines of Table 6, which write boxes as text: their trainings, and which of those one can be judged by.

A baseline below `findings.FLOOR` is idle: it has learnt next to nothing in its budget. Its own gains and times are no
evidence, and a lead over it is only a lead over chance.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..sweeps.findings import is_idle
from ..sweeps.results import metric as metric_at
from .evidence import MAIN, Evidence, point

BASELINES = ("numerical", "vocabulary")
MORE = ", four times the steps"
BUDGETS = {"samples": "", "fourfold": MORE}  # its own steps, and more of them where it ends idle in those
Factors = Mapping[str, Any]


class Standing(NamedTuple):
    """By which training a baseline is judged, `factors`, or None where it ends idle in all that there are.

    `ends` are its mean scores in the trainings that were looked at, its own steps first, `paths` their cells.
    """

    factors: Factors | None
    ends: Sequence[float]
    paths: tuple[str, ...]

    @property
    def told(self) -> str:
        """The scores in words, as `0.029 and 0.048, four times the steps`."""
        return " and ".join(f"{end:.3f}{more}" for end, more in zip(self.ends, BUDGETS.values(), strict=False))


def cell_of(representation: str, rank: Any) -> dict[str, Any]:
    """Factors of a cell of Table 6's own comparison: equal samples, all scenes, a tuned rate, the plan's defaults."""
    return {"representation": representation, "rank": rank}


def how(rank: Any) -> str:
    """A rank in words."""
    return "full tuning" if rank == "full" else f"rank {rank}"


def in_words(factors: Factors) -> str:
    """A baseline's training in words, as `vocabulary, rank 8, four times the steps`."""
    return f"{factors['representation']}, {how(factors['rank'])}{BUDGETS[factors['budget']]}"


def trainings(e: Evidence, baseline: str, rank: Any) -> list[Factors]:
    """Factors of a baseline with its own steps, and with four times as many where there are such cells."""
    own, *more = ({**cell_of(baseline, rank), "budget": budget} for budget in BUDGETS)
    return [own, *(factors for factors in more if e.sweep("table6").cells(**factors))]


def standing_of(e: Evidence, baseline: str, rank: Any, ends: Callable[[Factors], Sequence[float]]) -> Standing:
    """The first of a baseline's trainings that does not end idle: its own steps, then four times as many.

    Args:
        ends: the scores that a training with these factors ends with, one a seed; raises `Missing` without cells.
    """
    means: list[float] = []
    paths: tuple[str, ...] = ()
    for factors in trainings(e, baseline, rank):
        scores = ends(factors)
        means.append(statistics.fmean(scores))
        paths += e.paths(*e.cells("table6", **factors))
        if not is_idle(scores):
            return Standing(factors, means, paths)
    return Standing(None, means, paths)


def scores_of(e: Evidence, factors: Factors) -> list[float]:
    """Acc@0.5 by seed of the cells with these factors."""
    return [point(e.score(cell, "acc@0.5")) for cell in e.cells("table6", **factors)]


def next_to_nothing(e: Evidence, rank: Any) -> str:
    """The end of a sentence about leads at a rank that names the idle baselines and their scores; empty without any."""
    told = []
    for baseline in BASELINES:
        if is_idle(scores := scores_of(e, cell_of(baseline, rank))):
            found = [metric_at(c, f"{MAIN}.shuffled.acc@0.5") for c in e.cells("table6", **cell_of(baseline, rank))]
            chance = "" if None in found else f", {mean_of(found)} with the expressions exchanged"
            told.append(f"{baseline}, {how(rank)} (acc@0.5 {mean_of(scores)}{chance})")
    if not told:
        return ""
    return f"; {' and '.join(told)} learnt next to nothing in this budget: a lead over that is only a lead over chance"


def mean_of(values: Sequence[Any]) -> str:
    """The mean of scores, in words."""
    return f"{statistics.fmean(map(point, values)):.3f}"
