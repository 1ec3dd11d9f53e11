"""What the sweep `fusion` says of layers: masks beside scores that need none, and what a strategy loses by task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.series import MAIN
from .findings import side
from .reading import OverSeeds, Sweep, told_size
from .results import difference, metric, shared_seeds
from .results import shortfall as shortfall_of
from .weights import moved

HARDLY = 0.1  # of what alignment moved: a tuning that moves less has not made the weights
OWN, EXCHANGED, FILLED, MARGIN = "masks", "expressions exchanged", "own boxes filled", "masks over boxes filled"
MASKS = {OWN: "ciou", EXCHANGED: "shuffled.ciou", FILLED: "filled_ciou.predicted_box"}


def masks(sweep: Sweep, **factors: Any) -> dict[str, OverSeeds | None]:
    """The cIoU of some cells' masks, beside what two answers have that need no look at an outline, over seeds.

    Returns: the three of `MASKS`: the masks, the same ones held against another expression of their picture, and the
        boxes of the same answers filled; and `MARGIN`, the first minus the third, paired by seed. Its scenes count as
        if they were drawn apart, since cells do not keep the third one scene by scene.
    """
    found = {name: sweep.mean(key, **factors) for name, key in MASKS.items()}
    cells = sweep.cells(**factors)
    margin = difference(cells, [_in_place(cell, MASKS[OWN], MASKS[FILLED]) for cell in cells], f"{MAIN}.{MASKS[OWN]}")
    return {**found, MARGIN: OverSeeds.of(margin, len(cells)) if margin else None}


def sentence(margins: Mapping[str, OverSeeds | None]) -> str:
    """Whose masks are shown to be better than the boxes of the same answers, filled, and whose are not.

    Args:
        margins: a strategy to the `MARGIN` of its `masks`.
    """
    sides = {name: side(margin) for name, margin in margins.items()}
    better = [name for name, which in sides.items() if which == 1]
    others = [name for name, which in sides.items() if which in (0, -1)]
    if not better + others:
        return "No mask is scored yet."
    text = f"Masks are shown to be better than the same answers' boxes, filled, for {_and(better) or 'no strategy'}"
    if others:
        text += f". Not shown for {_and(others)}: there cIoU may say no more than where a region lies"
    return f"{text}."


def shortfall(sweep: Sweep, key: str, whole: Mapping[str, Any], part: Mapping[str, Any]) -> OverSeeds | None:
    """By which share of its score cells of the factors `part` fall short of `whole` in a metric, paired by seed."""
    both = sweep.cells(**whole), sweep.cells(**part)
    found = shortfall_of(*both, f"{MAIN}.{key}")
    seeds = shared_seeds(*([r["cell"]["seed"] for r in cells] for cells in both))
    return OverSeeds.of(found, len(seeds)) if found else None


def least_lost(shares: Mapping[str, OverSeeds | None]) -> str:
    """In which task the smallest share is lost, and which tasks' intervals overlap with that one's."""
    known = {task: share for task, share in shares.items() if share is not None}
    if not known:
        return "Nothing to compare yet."
    least = min(known, key=lambda task: known[task].value)
    near = [task for task, share in known.items() if task != least and share.low <= known[least].high]
    return f"The smallest share is lost in {least}; tasks whose intervals overlap with its own: {_and(near) or 'none'}."


def budget(cells: Sequence[Mapping[str, Any]]) -> str:
    """How long cells of one kind were aligned and tuned, for people; a dash without any."""
    steps = {cell["aligned"]["steps"] for cell in cells if cell.get("aligned")}
    aligned = "".join(f"aligned in {count:,} steps on words, then " for count in sorted(steps))
    return f"{aligned}tuned with {told_size(cells)}" if cells else told_size(cells)


def learnt_from(cells: Sequence[Mapping[str, Any]], which: str) -> str:
    """What moved a set of fusion weights in these cells, by their alignment and their tuning, in words.

    Args:
        which: `llm`, whose weights are aligned on words; or `mask`, whose weights are equal until the tuning.
    """
    moves = [moved(cell, which) for cell in cells]
    most = {stage: max((m[stage] for m in moves if stage in m), default=None) for stage in ("alignment", "tuning")}
    aligned, tuned = most["alignment"], most["tuning"]
    if tuned is None:
        return "not tracked"
    if which == "mask":
        return f"learnt in tuning, which moved no weight by more than {tuned:.4f} from equal ones"
    if aligned is None:
        return f"taken from the bundled backbone: tuning moved no weight by more than {tuned:.4f}"
    told = f"alignment moved a weight by up to {aligned:.4f}, tuning by up to {tuned:.4f}"
    if tuned < HARDLY * aligned:
        return f"learnt from words alone: {told}. That tuning is too short and too slow to make them anew"
    return f"learnt from words, then tuned: {told}"


def _in_place(result: Mapping[str, Any], key: str, other: str) -> dict[str, Any]:
    """A result in which another main metric stands in the place of one."""
    return {**result, "metrics": {MAIN: {key: metric(result, f"{MAIN}.{other}")}}}


def _and(names: list[str]) -> str:
    return ", ".join(names[:-1]) + " and " * (len(names) > 1) + (names[-1] if names else "")
