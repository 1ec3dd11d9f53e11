"""What a claim can rest on: metrics and tables of a report, and the cells of its sweeps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import project
from ..evaluation.series import MAIN
from ..sweeps.engine import sweep_folder
from ..sweeps.plans import sized
from ..sweeps.reading import OverSeeds, Sweep, open_sweep, untuned
from ..sweeps.results import LEAST_SEEDS, contrast, result_file, shared_seeds
from ..sweeps.results import metric as metric_at

REPRODUCED, NOT_REPRODUCED, NOT_MEASURABLE = "reproduced", "not reproduced", "not measurable here"
UNDECIDED, CONTRADICTED = "undecided", "contradicted"  # what "not reproduced" may mean, as the first word of `why`


class Missing(Exception):
    """The evidence that a rule needs is not there; the message names it.

    Args:
        why: the message.
        evidence: keys and paths of what is there and shows that it does not suffice.
    """

    def __init__(self, why: str, *evidence: str) -> None:
        super().__init__(why)
        self.evidence = evidence


@dataclass(frozen=True)
class Verdict:
    """What a rule found: the verdict, what it rests on, and why in one sentence."""

    verdict: str
    evidence: tuple[str, ...]
    why: str


def counted(holds: bool, evidence: Sequence[str], why: str) -> Verdict:
    """Reproduced where `holds`, else not: for what is counted and has no interval."""
    return Verdict(REPRODUCED if holds else NOT_REPRODUCED, tuple(dict.fromkeys(evidence)), why)


def judged(sides: Collection[int], evidence: Sequence[str], why: str) -> Verdict:
    """Reproduced where every comparison that the claim needs holds, by its whole interval.

    Else `why` begins with `contradicted: ` where one of them lies wholly on the other side, and with `undecided: `
    where none does.

    Args:
        sides: of each comparison, as `over` tells it; at least one.
        evidence: keys and paths; the same one twice counts once.
        why: a sentence.
    """
    worst = min(sides)
    meaning = {1: "", 0: f"{UNDECIDED}: ", -1: f"{CONTRADICTED}: "}[worst]
    return counted(worst == 1, evidence, f"{meaning}{why}")


def over(ours: Any, theirs: Any, share: float = 1.0, touching: bool = False) -> int:
    """On which side of a score, or of a share of it, another one lies, each with its whole interval.

    Args:
        ours, theirs: `[value, low, high]`, or a number, which stands for itself.
        share: of `theirs`.
        touching: whether it is enough that the two intervals meet.

    Returns: 1 above, -1 below, 0 where the intervals overlap.
    """
    least, most = share * low(theirs), share * high(theirs)
    if low(ours) > most or (touching and low(ours) == most):
        return 1
    return -1 if high(ours) < least else 0


class Evidence:
    """A report with its folder; every look-up raises `Missing`, naming what is not there."""

    def __init__(self, report: Mapping[str, Any], folder: Path) -> None:
        self.report, self.folder = report, folder
        self._sweeps: dict[str, Sweep] = {}

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

    def sweep(self, plan: str) -> Sweep:
        """The cells of a plan as the notebooks read them: those in it, of today's settings."""
        profile = self.report["profile"]
        if not sized(profile):
            raise Missing(f"needs sweeps/{plan}, and the profile {profile} runs no sweeps")
        if plan not in self._sweeps:
            self._sweeps[plan] = open_sweep(plan, self.folder, profile)
        return self._sweeps[plan]

    def cells(self, plan: str, **factors: Any) -> list[Mapping[str, Any]]:
        """The finished cells of a sweep whose factors have these values, others the plan's default; by seed."""
        found = self.sweep(plan).cells(**factors)
        if not found:
            raise Missing(f"no finished cell of today's settings with {_text(factors)} in sweeps/{plan}")
        return found

    def paired(self, plan: str, *sides: Mapping[str, Any]) -> list[list[Mapping[str, Any]]]:
        """The cells of several kinds over the seeds that all of them have, a list for each kind.

        Raises:
            Missing: there are fewer than `LEAST_SEEDS`, or no such cells at all.
        """
        groups = [self.cells(plan, **factors) for factors in sides]
        seeds = shared_seeds(*([cell["cell"]["seed"] for cell in group] for group in groups))
        if len(seeds) < LEAST_SEEDS:
            kinds = " and ".join(_text(side) for side in sides)
            raise Missing(f"sweeps/{plan} shares {len(seeds)} seeds of {kinds}; an ordering takes {LEAST_SEEDS}")
        return [[cell for cell in group if cell["cell"]["seed"] in seeds] for group in groups]

    def gain(
        self, plan: str, better: Mapping[str, Any], worse: Mapping[str, Any], key: str, share: float = 1.0
    ) -> Gain:
        """By how much one kind of cell exceeds another, or a share of it, in a metric of the main split.

        Args:
            plan: the sweep.
            better, worse: the factors of both sides; compared over the seeds that both have.
            key: the metric's path, as `acc@0.5` or `caption.cider`.
            share: of the worse side's score.
        """
        ours, theirs = self.paired(plan, better, worse)
        return self._gain(ours, theirs, key, share)

    def kept(self, plan: str, factors: Mapping[str, Any], key: str, share: float) -> Gain:
        """By how much a kind of cell exceeds a share of what its own model scored before it was tuned."""
        [cells] = self.paired(plan, factors)
        for cell in cells:
            if not cell.get("before"):
                raise Missing(f"{self.paths(cell)[0]} does not say what the model scored before it was tuned")
        return self._gain(cells, untuned(cells), key, share)

    def _gain(
        self, ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], key: str, share: float
    ) -> Gain:
        for cell in (*ours, *theirs):
            self.score(cell, key)  # names the cell that lacks it
        found = contrast([(1, ours), (-share, theirs)], f"{MAIN}.{key}")
        assert found is not None  # seeds are shared, and every cell has the metric
        return Gain(OverSeeds.of(found, len(ours)), self.paths(*ours, *theirs))

    def score(self, cell: Mapping[str, Any], key: str) -> Any:
        """A metric of a cell on the main split."""
        found = metric_at(cell, f"{MAIN}.{key}")
        if found is None:
            raise Missing(f"{self.paths(cell)[0]} has no {MAIN}: {key}")
        return found

    def paths(self, *cells: Mapping[str, Any]) -> tuple[str, ...]:
        """Where cells lie: relative to the project where that is within, else absolute."""
        found = []
        for cell in cells:
            path = result_file(sweep_folder(self.sweep(cell["plan"]).home, cell["plan"]), cell["id"]).resolve()
            found.append(str(path.relative_to(project.ROOT) if path.is_relative_to(project.ROOT) else path))
        return tuple(found)


@dataclass(frozen=True)
class Gain:
    """A mean difference with its 95 % interval over seeds, and the cells that it comes from."""

    found: OverSeeds
    paths: tuple[str, ...]

    @property
    def side(self) -> int:
        """1 where the whole interval lies above 0, -1 where below, 0 where it holds 0."""
        return over(self.found, 0.0)

    @property
    def holds(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.side == 1

    def __str__(self) -> str:
        return self.found.signed


def point(metric: Any) -> float:
    """A metric's value: of `[value, low, high]` the first."""
    return float(metric[0] if isinstance(metric, (list, tuple)) else metric)


def low(metric: Any) -> float:
    """The lower end of a metric's interval; of a plain number, itself."""
    return float(metric[1] if isinstance(metric, (list, tuple)) else metric)


def high(metric: Any) -> float:
    """The upper end of a metric's interval; of a plain number, itself."""
    return float(metric[2] if isinstance(metric, (list, tuple)) else metric)


def _text(factors: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in factors.items())
