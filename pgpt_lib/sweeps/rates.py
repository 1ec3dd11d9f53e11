"""Learning rates that a sweep tuned for itself: each kind of cell tries the same few, in the same short budget."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import project
from ..evaluation.series import MAIN
from .cells import Cell, of_same_kind, parse_factors
from .results import finished, value


def learning_rate_of(cell: Cell, results: Path) -> dict[str, Any]:
    """The rate that a cell trains with: `lr`, and `lr_from`, which says where it comes from.

    A tuned one is the best of the tuning cells that share the most factors with this cell, in the sweep's own folder,
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
    """The best-scoring tuning cell of this cell's kind; None without one."""
    tried = [r for r in results if _is_rate(r["cell"].get("lr")) and r["cell"].get("budget") == "tuning"]
    if not tried:
        return None
    factors = {**cell.factors, **(parse_factors(cell.run.tuned_as) if cell.run.tuned_as else {})}
    # What a cell is tuned for is neither its length nor its data, but the model: the factors that tuning cells vary.
    varied = {
        k: v for k, v in factors.items() if len({str(r["cell"].get(k)) for r in tried}) > 1 and k not in ("lr", "seed")
    }
    nearest = [tried[i] for i in of_same_kind(varied, [r["cell"] for r in tried])]
    if any(str(r["cell"].get(k)) != str(v) for r in nearest for k, v in varied.items()):
        return None
    return max(nearest, key=score)


def score(result: Mapping[str, Any]) -> tuple[float, float]:
    """What rates are compared by, on the main split: mean IoU of boxes, or of masks where none is learnt; then Acc@0.5.

    Mean IoU tells rates apart where Acc@0.5 is still near 0, and counts what cannot be read as 0 as well.
    """
    overlap = value(result, f"{MAIN}.miou_box")
    if overlap is None:
        overlap = value(result, f"{MAIN}.miou_mask")
    return overlap or 0.0, value(result, f"{MAIN}.acc@0.5") or 0.0


def is_outdated(cell: Cell, result: Mapping[str, Any], results: Path) -> bool:
    """Whether a finished cell was trained with another rate than its tuning cells have found by now."""
    return cell.run.lr == "tuned" and "lr" in result and result["lr"] != learning_rate_of(cell, results)["lr"]


def _is_rate(text: Any) -> bool:
    return isinstance(text, (int, float)) and not isinstance(text, bool)
