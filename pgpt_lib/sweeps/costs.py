"""What each difference between the paper and its released code costs, read from the sweep `released_code`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..evaluation.series import MAIN
from .findings import FLOOR
from .reading import OverSeeds, Sweep
from .results import LEAST_SEEDS, difference, mean, metric, shared_seeds

DEFAULT = "none"  # the switch of a cell without any
FORCED = "teacher_forced"
ALIGNED = ("last_layer_excluded", "fusion_raw")  # aligned anew, as the default that they are held against
METRICS = {  # what is lost, by the key in a result
    "acc@0.5": "Acc@0.5 of boxes",
    "ciou": "cIoU of masks",
    "several.set_f1": "F1 of several boxes",
    "region_question.mask": "questions about a given mask",
}


@dataclass(frozen=True)
class Difference:
    """One difference: what the paper says, what its released code does, and the score that it should show in.

    A row is judged by that score alone, `judged_by`, whatever the others say: of all intervals one in twenty excludes 0
    by chance.
    """

    title: str
    paper: str
    code: str
    judged_by: str


DIFFERENCES = {
    "giou_misparsed": Difference(
        "GIoU on mis-parsed boxes",
        "GIoU of the boxes",
        "corners are read as centre and size, then GIoU is taken",
        "acc@0.5",
    ),
    "position_scrambled": Difference(
        "scrambled position codes",
        "a two-way decoder that knows positions",
        "rows, columns and channels exchanged",
        "ciou",
    ),
    "dice_pooled": Difference("DICE pooled over the batch", "DICE of a mask", "all masks of a batch as one", "ciou"),
    "last_layer_excluded": Difference(
        "last layer excluded",
        "all layers of the tower are fused",
        "all but the last; the embedding output, which it fuses as well, is left out of ours",
        "acc@0.5",
    ),
    "fusion_raw": Difference(
        "un-normalised fusion", "a weighted sum (says nothing of norms)", "layers as they are", "acc@0.5"
    ),
    "projector_frozen": Difference(
        "frozen projector", "a projection layer", "under LoRA it is frozen by mistake", "acc@0.5"
    ),
    "threshold_0.35": Difference("mask threshold 0.35", "no threshold named", "0.35 in place of 0.5", "ciou"),
    "state_at_vis": Difference(
        "paper's state at <vis> (code: as ours)",
        "the state of `<vis>`",
        "the state that predicts it, as ours",
        "acc@0.5",
    ),
    "mask_encoder_unused": Difference(
        "mask encoder unused",
        "masks are encoded too",
        "the mask's code is computed and dropped",
        "region_question.mask",
    ),
    FORCED: Difference(
        "teacher-forced evaluation",
        "the model answers",
        "the true answer is in the prompt; regions are read from it",
        "several.set_f1",
    ),
}
"""By the name of the switch in the sweep; teacher forcing stands beside the free-running scores of every cell."""


def costs(sweep: Sweep, key: str) -> dict[str, OverSeeds | None]:
    """Our default minus the released code's choice in a metric, for each of `DIFFERENCES`, paired by seed.

    Positive: the choice costs something. Those of `ALIGNED` are held against a default that was aligned anew as well,
    or the bundled alignment, made with the default, would be a part of their cost. None where a side has no finished
    cell, or the metric is not measured. Teacher forcing is compared within the default's own cells; there a negative
    number is what the shortcut adds.

    Args:
        key: of the main split's metrics, as `acc@0.5` or `region_caption.mask`.
    """
    found: dict[str, OverSeeds | None] = {}
    for name in DIFFERENCES:
        both = _sides(sweep, name, key)
        cost = difference(*both, f"{MAIN}.{key}")
        seeds = shared_seeds(*([r["cell"]["seed"] for r in side] for side in both))
        found[name] = OverSeeds.of(cost, len(seeds)) if cost else None
    return found


def at_floor(sweep: Sweep, key: str) -> set[str]:
    """The differences for which neither side, without the switch or with it, is shown to score above `FLOOR`.

    A side counts as above with its whole interval. Where none is, nothing may have been learnt that could be lost, so
    that the gap says little, whatever its own interval.
    """
    found = set()
    for name in DIFFERENCES:
        both = [score for side in _sides(sweep, name, key) if (score := mean(side, f"{MAIN}.{key}"))]
        if len(both) == 2 and all(low < FLOOR for _, low, _ in both):
            found.add(name)
    return found


def is_fixed(found: OverSeeds) -> bool:
    """Whether a difference is 0 by construction, as that of boxes is where only masks are read in another way."""
    return found.value == found.low == found.high == 0


def applies(name: str, key: str) -> bool:
    """Whether a difference can show in a metric: words about a given mask are nobody's to force."""
    return (name, key) != (FORCED, "region_question.mask")


def row_title(name: str) -> str:
    """A difference's title, with a star where it was aligned anew."""
    return DIFFERENCES[name].title + " *" * (name in ALIGNED)


def decided(found: OverSeeds | None) -> str:
    """`costs` or `gains` where the whole interval of `LEAST_SEEDS` or more lies on that side, else an empty string."""
    if found is None or found.seeds < LEAST_SEEDS or found.low <= 0 <= found.high:
        return ""
    return "costs" if found.low > 0 else "gains"


def reading(found: OverSeeds | None, floor: bool = False) -> str:
    """A cost in words: what its interval decides, and whether both sides are at the `floor`."""
    if found is None:
        return "not there yet"
    return f"{decided(found) or 'open:'} {found.signed}" + " † says little: both sides at the floor" * floor


def _sides(sweep: Sweep, name: str, key: str) -> tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]:
    """The cells without a difference and with it."""
    if name == FORCED:
        ours = sweep.cells(switch=DEFAULT)
        return ours, [_forced(result, key) for result in ours]
    start = {"start": "aligned"} if name in ALIGNED else {}
    return sweep.cells(switch=DEFAULT, **start), sweep.cells(switch=name, **start)


def _forced(result: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A result whose main metric, and what it adds up from scene by scene, are the teacher-forced ones."""
    value = metric(result, f"{MAIN}.{FORCED}.{key}")
    if value is None:
        return {**result, "metrics": {MAIN: {}}}
    column = (metric(result, f"{MAIN}.scenes") or {}).get(f"{FORCED}.{key}")
    return {**result, "metrics": {MAIN: {key: value, **({"scenes": {key: column}} if column else {})}}}
