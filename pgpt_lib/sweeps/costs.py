"""What each difference between the paper and its released code costs, read from the sweep `released_code`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..evaluation.series import MAIN
from .reading import Sweep
from .results import difference, metric

DEFAULT = "none"  # the switch of a cell without any
FORCED = "teacher_forced"
METRICS = {  # what is lost, by the key in a result
    "acc@0.5": "Acc@0.5 of boxes",
    "ciou": "cIoU of masks",
    "region_caption.mask": "captions of a given mask",
}


@dataclass(frozen=True)
class Difference:
    """One difference: what the paper says, and what its released code does."""

    title: str
    paper: str
    code: str


DIFFERENCES = {
    "giou_misparsed": Difference(
        "GIoU on mis-parsed boxes", "GIoU of the boxes", "corners are read as centre and size, then GIoU is taken"
    ),
    "position_scrambled": Difference(
        "scrambled position codes", "a two-way decoder that knows positions", "rows, columns and channels exchanged"
    ),
    "dice_pooled": Difference("DICE pooled over the batch", "DICE of a mask", "all masks of a batch as one"),
    "last_layer_excluded": Difference("last layer excluded", "all layers of the tower are fused", "all but the last"),
    "fusion_raw": Difference("un-normalised fusion", "a weighted sum (says nothing of norms)", "layers as they are"),
    "projector_frozen": Difference("frozen projector", "a projection layer", "under LoRA it is frozen by mistake"),
    "threshold_0.35": Difference("mask threshold 0.35", "no threshold named", "0.35 in place of 0.5"),
    "state_at_vis": Difference(
        "state at `<vis>`", "the state of `<vis>`", "the state that predicts it, as ours; the switch takes the next"
    ),
    "mask_encoder_unused": Difference(
        "mask encoder unused", "masks are encoded too", "the mask's code is computed and dropped"
    ),
    FORCED: Difference(
        "teacher-forced evaluation", "the model answers", "the true answer is in the prompt; regions are read from it"
    ),
}
"""By the name of the switch in the sweep; teacher forcing stands beside the free-running scores of every cell."""


def costs(sweep: Sweep, key: str) -> dict[str, list[float] | None]:
    """Our default minus the released code's choice in a metric, [value, low, high], for each of `DIFFERENCES`.

    Positive: the choice costs something. None where a side has no finished cell, or the metric is not measured.
    Teacher forcing is compared within the default's own cells; there a negative number is what the shortcut adds.

    Args:
        key: of the main split's metrics, as `acc@0.5` or `region_caption.mask`.
    """
    path = f"{MAIN}.{key}"
    ours = sweep.cells(switch=DEFAULT)
    found = {name: difference(ours, sweep.cells(switch=name), path) for name in DIFFERENCES if name != FORCED}
    return {**found, FORCED: difference(ours, [_forced(result, key) for result in ours], path)}


def _forced(result: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A result whose main metric is the teacher-forced one."""
    value = metric(result, f"{MAIN}.{FORCED}.{key}")
    return {**result, "metrics": {MAIN: {key: value} if value is not None else {}}}


def reading(interval: Sequence[float] | None) -> str:
    """A cost in words: what its interval decides."""
    if interval is None:
        return "not there yet"
    value, low, high = interval
    decided = "costs" if low > 0 else "gains" if high < 0 else "undecided:"
    return f"{decided} {abs(value) if decided != 'undecided:' else value:.3f} [{low:+.3f}, {high:+.3f}]"
