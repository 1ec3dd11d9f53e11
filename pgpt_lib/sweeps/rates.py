"""Learning rates that a sweep tuned for itself: each kind of cell tries the same few, in the same short budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import project
from ..evaluation.series import MAIN
from .cells import Cell
from .results import finished, metric, value


def learning_rate_of(cell: Cell, results: Path) -> dict[str, Any]:
    """The rate that a cell trains with: `lr`, and `lr_from`, which says where it comes from.

    A tuned one is the best of the tuning cells of this cell's kind (`best_rate`), in the sweep's own folder,
    or, for a cell run alone, among the committed results of the same profile; without any it is the profile's. A sweep
    runs its tuning cells before all others, and a cell whose rate is no longer the best counts as changed.

    Raises:
        InputError: the profile's own settings are bad.
    """
    given = cell.run.lr
    if isinstance(given, float):
        return {"lr": given, "lr_from": "given"}
    if given == "tuned":
        for folder in (results, project.report_folder(cell.profile_name) / "sweeps" / cell.plan):
            best = best_rate(cell, finished(folder))
            if best is not None:
                return {"lr": best["lr"], "lr_from": best["id"]}
    return {"lr": cell.profile().training.lr, "lr_from": f"profile {cell.profile_name}"}


def best_rate(cell: Cell, results: list[dict[str, Any]]) -> Mapping[str, Any] | None:
    """The best tuning cell of this cell's kind, see `best_of`; None without one.

    Where the best score is chance, the longer tuning that the cell names decides, if it has cells of this kind: a loss
    after a few steps favours high rates, with which a longer training may not learn.
    """
    asked = {budget for budget in (cell.run.tuned_by, cell.run.tuned_else) if budget}
    tuning = [r for r in results if is_rate(r["cell"].get("lr")) and r["cell"].get("budget") in asked]
    # What a cell is tuned for is neither its length nor its data, but the model: the factors that tuning cells vary.
    several = {k for k in cell.factors if len({str(r["cell"].get(k)) for r in tuning}) > 1} - {"lr", "seed", "budget"}
    alike = [r for r in tuning if all(str(r["cell"].get(k)) == str(cell.factors[k]) for k in several)]
    tried = [r for r in alike if r["cell"]["budget"] == cell.run.tuned_by]
    longer = [r for r in alike if r["cell"]["budget"] != cell.run.tuned_by]
    if not tried:
        return None
    return best_of(longer if longer and not _understands(max(tried, key=score)) else tried)


def best_of(tried: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The best-scoring of results that differ in their rate; where its score is chance, that of least loss.

    Chance is an Acc@0.5, or of masks a cIoU, that does not exceed what the same answers have when held against
    exchanged expressions. Only the best is asked: among several rates that have learnt nothing, one passes by luck.
    """
    best = max(tried, key=score)
    return best if _understands(best) else min(tried, key=lambda r: r["log"][-1]["loss"])


def told_from_chance_by(result: Mapping[str, Any]) -> str:
    """The metric that is compared with its own value under exchanged expressions: Acc@0.5, of masks alone cIoU."""
    return "ciou" if _masks_alone(result) else "acc@0.5"


def _understands(result: Mapping[str, Any]) -> bool:
    name = told_from_chance_by(result)
    exchanged = metric(result, f"{MAIN}.shuffled.{name}")
    return not isinstance(exchanged, (list, tuple)) or (value(result, f"{MAIN}.{name}") or 0.0) > exchanged[2]


def _masks_alone(result: Mapping[str, Any]) -> bool:
    return "box" not in result["asked"]["signals"]  # its boxes are scored too, as missing: 0


def score(result: Mapping[str, Any]) -> tuple[float, float]:
    """The share of regions that overlap the true one by more than one half, then mean IoU, on the main split.

    Not mean IoU first: one middling box for every expression has 0.14 of it, and hits hardly anything.
    """
    hits, overlap = ("p@0.5", "miou_mask") if _masks_alone(result) else ("acc@0.5", "miou_box")
    return value(result, f"{MAIN}.{hits}") or 0.0, value(result, f"{MAIN}.{overlap}") or 0.0


def is_outdated(cell: Cell, result: Mapping[str, Any], results: Path) -> bool:
    """Whether a finished cell was trained with another rate than its tuning cells have found by now."""
    return cell.run.lr == "tuned" and "lr" in result and result["lr"] != learning_rate_of(cell, results)["lr"]


def is_rate(text: Any) -> bool:
    """Whether a value of the factor `lr` is a rate that was tried, and not `tuned`."""
    return isinstance(text, (int, float)) and not isinstance(text, bool)
