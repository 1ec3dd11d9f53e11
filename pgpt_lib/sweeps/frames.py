"""Tables of notebooks 07 and 08 from a sweep's cells: Table 6, tuned rates, effort, failures, what tuning forgets.

All are data frames of text for people; where a cell of a sweep is missing, a dash stands.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..evaluation.failures import KINDS
from ..evaluation.series import MAIN
from ..report import paper_table
from .rates import best_of, score, told_from_chance_by
from .reading import OverSeeds, Sweep, effort_to, untuned
from .results import difference, mean, metric, point_score, select, value
from .table import SETS

DASH = "–"
LABELS = {"numerical": "Numerical", "vocabulary": "Vocab", "embedding": "Embed"}  # as the paper's Table 6 has them
RANKS: Mapping[Any, str] = {8: "rank 8", 32: "rank 32", "full": "full"}
TUNED_APART = ("lr", "budget", "seed")  # factors that tell tuning cells apart but name no kind of cell
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
    """Acc@0.5 (and mean box IoU) of every learning rate that was tried, a row for each kind of cell and length.

    Where masks alone are learnt: the share of masks with an IoU above 0.5 (and mean mask IoU).
    Of the best one: whether it is at the edge of those tried, its Acc@0.5 (of masks cIoU) with expressions exchanged
    (as high means that nothing was understood), and questions answered in words. A row of masks has the best one's
    `cIoU` for that. `least loss` is the rate of the lowest loss at the end of the training.
    """
    made: dict[tuple[str, ...], dict[str, str]] = {}
    grids = [grid for grid in sweep.plan.grids if isinstance(grid.get("lr"), list)]
    rates = sorted({lr for grid in grids for lr in grid["lr"]})
    varied = [name for name in sweep.plan.factors if any(name in grid for grid in grids) and name not in TUNED_APART]
    for grid in grids:
        wanted = set(grid["lr"])
        for values in itertools.product(*(_listed(grid.get(name, sweep.plan.defaults.get(name))) for name in varied)):
            factors = {**dict(zip(varied, values, strict=True)), "budget": grid["budget"]}
            tried = {r["lr"]: r for r in select(sweep.results, **factors) if r["lr"] in wanted}
            best = best_of(list(tried.values())) if tried else None
            row = {f"{lr:g}": "{:.3f} ({:.3f})".format(*score(tried[lr])) if lr in tried else DASH for lr in rates}
            row["best"] = f"{best['lr']:g}" if best else DASH
            whole = tried.keys() == wanted
            row["at the edge"] = (
                ("yes" if best["lr"] in (min(wanted), max(wanted)) else "no") if whole and best else DASH
            )
            told_by = told_from_chance_by(best) if best else None
            row["cIoU"] = _with_interval(best, f"{MAIN}.ciou") if told_by == "ciou" else DASH
            row["exchanged"] = _with_interval(best, f"{MAIN}.shuffled.{told_by}")
            row["questions"] = _decimal(value(best, ANSWERED) if best else None)
            ends = {lr: r["log"][-1]["loss"] for lr, r in tried.items() if r["log"]}
            row["least loss"] = f"{min(ends, key=ends.__getitem__):g}" if ends else DASH
            run = sweep.plan.cell({**factors, "lr": grid["lr"][0], "seed": grid["seed"]}, sweep.profile).run
            kind = [RANKS.get(value, str(value)) for value in values]
            made[*kind, f"{run.expressions * run.times:,.0f}"] = row
    table = pd.DataFrame(made).T
    return table if (table["cIoU"] != DASH).any() else table.drop(columns="cIoU")


def _listed(choice: Any) -> list[Any]:
    return choice if isinstance(choice, list) else [choice]


def _with_interval(result: Mapping[str, Any] | None, path: str) -> str:
    found = metric(result, path) if result else None
    return "{:.3f} [{:.3f}, {:.3f}]".format(*found) if isinstance(found, (list, tuple)) else _decimal(found)


def _decimal(number: float | None) -> str:
    return DASH if number is None else f"{number:.3f}"


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
    """How answers fail, as counts over all seeds, beside the rate of those that could not be parsed and Acc@0.5.

    And what tells whether the picture was seen at all: Acc@0.5 with expressions exchanged, and how many different boxes
    are among the answers that the first cell kept.
    """
    made: dict[str, dict[str, str]] = {}
    for name, cells in groups.items():
        if not cells:
            made[name] = dict.fromkeys(("answers", *(k.replace("_", " ") for k in KINDS)), DASH)
            continue
        scores = [cell["metrics"][MAIN] for cell in cells]
        counts = {kind: sum(s["failures"][kind] for s in scores) for kind in KINDS}
        rates = {title: mean(cells, f"{MAIN}.{key}") for title, key in
                 (("parse failures", "parse_failure_rate"), ("Acc@0.5", "acc@0.5"),
                  ("exchanged", "shuffled.acc@0.5"))}  # fmt: skip
        most = max(counts, key=lambda kind: counts[kind])
        made[name] = {
            "answers": f"{sum(s['n'] for s in scores):,}",
            **{kind.replace("_", " "): f"{count:,}" for kind, count in counts.items()},
            "mostly": most.replace("_", " ") if counts[most] else DASH,
            **{title: str(OverSeeds.of(found, len(cells))) if found else DASH for title, found in rates.items()},
            "different boxes": _variety(cells[0].get("answers", [])),
        }
    return pd.DataFrame(made).T.fillna(DASH)


def _variety(answers: Sequence[Mapping[str, Any]]) -> str:
    """How many different boxes some answers have, to a hundredth: few where one box is the answer to all."""
    boxes = [tuple(round(side, 2) for side in answer["read"]) for answer in answers if answer["read"]]
    return f"{len(set(boxes))} of {len(boxes)}" if boxes else DASH


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
    """Accuracy on questions in words before and after the tuning, and the change, over the seeds.

    `with a region` is the share of the later answers that hold a region, in cells that have counted them.
    """
    made: dict[str, dict[str, str]] = {}
    for name, cells in groups.items():
        before = untuned(cells)
        kept = {"before": mean(before, ANSWERED), "after": mean(cells, ANSWERED)}
        row = {when: str(OverSeeds.of(found, len(cells))) if found else DASH for when, found in kept.items()}
        change = difference(cells, before, ANSWERED)
        region = mean(cells, f"{MAIN}.questions_with_region")
        made[name] = {
            **row,
            "change": OverSeeds.of(change, len(cells)).signed if change else DASH,
            "with a region": str(OverSeeds.of(region, len(cells))) if region else DASH,
        }
    return pd.DataFrame(made).T
