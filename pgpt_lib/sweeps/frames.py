"""Tables of notebooks 07 and 08 from a sweep's cells: Table 6, tuned rates, effort, failures, what tuning forgets.

All are data frames of text for people; where a cell of a sweep is missing, a dash stands.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..evaluation.failures import KINDS
from ..evaluation.series import MAIN
from ..report import paper_table
from .rates import best_rate, score
from .reading import OverSeeds, Sweep, effort_to
from .results import difference, mean, point_score
from .table import SETS

DASH = "–"
LABELS = {"numerical": "Numerical", "vocabulary": "Vocab", "embedding": "Embed"}  # as the paper's Table 6 has them
RANKS: Mapping[Any, str] = {8: "rank 8", 32: "rank 32", "full": "full"}
ANSWERED = f"{MAIN}.questions.all.accuracy"
Results = Sequence[Mapping[str, Any]]


def frame(rows: Mapping[str, Mapping[str, OverSeeds | None]], signed: bool = False) -> pd.DataFrame:
    """Intervals by row and column as text."""
    return pd.DataFrame(
        {
            name: {column: DASH if v is None else v.signed if signed else str(v) for column, v in row.items()}
            for name, row in rows.items()
        }
    ).T


def table6(sweep: Sweep) -> pd.DataFrame:
    """Table 6, a row of ours above each of the paper's, in % ± half of the interval.

    In brackets stands the share of answers that could not be parsed, in %.
    """
    made: dict[tuple[str, str], dict[str, str]] = {}
    for name, label in LABELS.items():
        for rank, how in RANKS.items():
            cells, theirs = (
                sweep.cells(representation=name, rank=rank),
                paper_table("table6")["rows"][f"{label}, {how}"],
            )
            ours = {"seeds": str(len(cells)), "trained": f"{cells[0]['parameters']['trainable']:,}" if cells else DASH}
            paper = {"seeds": DASH, "trained": f"{theirs['trainable parameters']:,}"}
            for split in SETS:
                column = split.removeprefix("refshapes-")
                ours[column], paper[column] = _percent(cells, split), f"{theirs[column]:.1f}"
            made[f"{label}, {how}", "ours"], made[f"{label}, {how}", "paper"] = ours, paper
    return pd.DataFrame(made).T


def _percent(cells: Results, split: str) -> str:
    found, parse = mean(cells, f"{split}.acc@0.5"), mean(cells, f"{split}.parse_failure_rate")
    if found is None:
        return DASH
    return f"{100 * found[0]:.1f} ± {50 * (found[2] - found[1]):.1f}" + (f" ({100 * parse[0]:.1f})" if parse else "")


def table6_result(sweep: Sweep) -> dict[str, dict[str, Any]]:
    """Our rows of Table 6 in the paper's columns and units, for `result.json`; rows without a cell are left out.

    Each has `seeds`, how many, `trainable parameters`, and scores as [value, low, high] over the seeds, in %.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, label in LABELS.items():
        for rank, how in RANKS.items():
            if cells := sweep.cells(representation=name, rank=rank):
                scores = {s.removeprefix("refshapes-"): mean(cells, f"{s}.acc@0.5") for s in SETS}
                rows[f"{label}, {how}"] = {
                    "seeds": len(cells),
                    "trainable parameters": cells[0]["parameters"]["trainable"],
                    **{column: [100 * v for v in found] for column, found in scores.items() if found},
                }
    return rows


def tuned_rates(sweep: Sweep) -> pd.DataFrame:
    """Mean box IoU (and Acc@0.5) of every learning rate that was tried, what was taken, and whether at the edge."""
    made: dict[tuple[str, str], dict[str, str]] = {}
    grid = sweep.plan.grids[0]
    for name in grid["representation"]:
        for rank in grid["rank"]:
            tried = {r["lr"]: r for r in sweep.results if r["cell"]["budget"] == "tuning"
                     and (r["cell"]["representation"], str(r["cell"]["rank"])) == (name, str(rank))}  # fmt: skip
            row = {f"{lr:g}": "{:.3f} ({:.3f})".format(*score(tried[lr])) if lr in tried else DASH for lr in grid["lr"]}
            cell = sweep.plan.cell({"representation": name, "rank": rank, "seed": 0}, sweep.profile)
            best = best_rate(cell, [dict(r) for r in tried.values()])
            whole = len(tried) == len(grid["lr"])
            edge = best is not None and whole and best["lr"] in (min(tried), max(tried))
            row |= {"best": f"{best['lr']:g}" if best else DASH, "at the edge": ("no", "yes")[edge] if whole else DASH}
            made[name, RANKS[rank]] = row
    return pd.DataFrame(made).T


def last_score(cells: Results, key: str = "acc@0.5") -> float | None:
    """The mean over seeds of what the learning curves end with; None without a curve."""
    ends = [point_score(cell["curve"][-1][key]) for cell in cells if cell["curve"]]
    return statistics.fmean(ends) if ends else None


def effort(curves: Mapping[str, Results], levels: Mapping[str, float]) -> pd.DataFrame:
    """Expressions and seconds until a learning curve reaches each level, mean over the seeds that reach it.

    Args:
        curves: a representation's name to its cells.
        levels: what a level is called, and the score.
    """
    made: dict[tuple[str, str], dict[str, str]] = {}
    for name, cells in curves.items():
        for label, level in levels.items():
            found = effort_to(cells, level)
            never = "never" if cells else DASH
            row = {unit: f"{found[unit]:,.0f}" if found["reached"] else never for unit in ("expressions", "seconds")}
            made[name, label] = {**row, "seeds": f"{found['reached']} of {found['of']}" if cells else DASH}
    return pd.DataFrame(made).T


def failures(groups: Mapping[str, Results]) -> pd.DataFrame:
    """How answers fail, as counts over all seeds, beside the rate of those that could not be parsed and Acc@0.5."""
    made: dict[str, dict[str, str]] = {}
    for name, cells in groups.items():
        if not cells:
            made[name] = dict.fromkeys(("answers", *(k.replace("_", " ") for k in KINDS)), DASH)
            continue
        scores = [cell["metrics"][MAIN] for cell in cells]
        counts = {kind: sum(s["failures"][kind] for s in scores) for kind in KINDS}
        rates = {title: mean(cells, f"{MAIN}.{key}") for title, key in
                 (("parse failures", "parse_failure_rate"), ("Acc@0.5", "acc@0.5"))}  # fmt: skip
        most = max(counts, key=lambda kind: counts[kind])
        made[name] = {
            "answers": f"{sum(s['n'] for s in scores):,}",
            **{kind.replace("_", " "): f"{count:,}" for kind, count in counts.items()},
            "mostly": most.replace("_", " ") if counts[most] else DASH,
            **{title: str(OverSeeds.of(found, len(cells))) if found else DASH for title, found in rates.items()},
        }
    return pd.DataFrame(made).T.fillna(DASH)


def wrong_answers(groups: Mapping[str, Results], count: int = 5) -> pd.DataFrame:
    """The first answers of each group's first cell that failed, as they were written, beside the boxes in %.

    A cell keeps a few answers only, see `evaluation.failures.kept_answers`.
    """
    made: dict[tuple[str, int], dict[str, str]] = {}
    for name, cells in groups.items():
        kept = cells[0].get("answers", []) if cells else []
        wrong = [answer for answer in kept if answer["failure"]][:count]
        for number, answer in enumerate(wrong, start=1):
            boxes = {title: _in_percent(answer[key]) for title, key in (("true box", "true"), ("box read", "read"))}
            words = {"question": answer["question"], "written": answer["written"]}
            made[name, number] = {**words, **boxes, "failure": answer["failure"].replace("_", " ")}
        if not wrong:
            made[name, 1] = dict.fromkeys(("question", "written", "true box", "box read", "failure"), DASH)
    return pd.DataFrame(made).T


def _in_percent(box: Sequence[float] | None) -> str:
    return DASH if box is None else " ".join(f"{100 * value:.0f}" for value in box)


def failure_shares(cells: Results) -> dict[str, float]:
    """The share of all answers that failed in each way, a mean over seeds."""
    counts = [(cell["metrics"][MAIN]["failures"], cell["metrics"][MAIN]["n"]) for cell in cells]
    return {kind: statistics.fmean(failed[kind] / n for failed, n in counts) for kind in KINDS}


def words_kept(groups: Mapping[str, Results]) -> pd.DataFrame:
    """Accuracy on questions in words before and after the tuning, and the change, over the seeds."""
    made: dict[str, dict[str, str]] = {}
    for name, cells in groups.items():
        before = [{"cell": c["cell"], "metrics": {MAIN: c["before"]}} for c in cells]
        kept = {"before": mean(before, ANSWERED), "after": mean(cells, ANSWERED)}
        row = {when: str(OverSeeds.of(found, len(cells))) if found else DASH for when, found in kept.items()}
        change = difference(cells, before, ANSWERED)
        made[name] = {**row, "change": OverSeeds.of(change, len(cells)).signed if change else DASH}
    return pd.DataFrame(made).T
