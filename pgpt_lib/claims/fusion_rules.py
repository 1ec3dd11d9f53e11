"""The rules on the layers of the vision tower, from the cells of Figure 5; they judge as those of `sweep_rules` do.

What stands beside the judged differences in `why` is told and not judged: it was asked for when the numbers were known.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from ..sweeps.layers import shortfall
from ..sweeps.results import metric as metric_at
from .evidence import MAIN, Evidence, Gain, Verdict, judged, over, point

FIXED = ("last", "second_last", "mean")  # strategies of layer fusion that learn nothing
TASKS = {"REC": "acc@0.5", "RES": "ciou", "captions": "caption.cider", "questions": "questions.all.accuracy"}


def layer_fusion(e: Evidence) -> Verdict:
    """Learned fusion over each fixed strategy, each aligned with the same budget, in each task."""
    gains = {task: {other: _fusion(e, "learned", other, key) for other in FIXED} for task, key in TASKS.items()}
    leads = [task for task, found in gains.items() if all(gain.holds for gain in found.values())]
    least = {task: min(found.items(), key=lambda item: item[1].found.low) for task, found in gains.items()}
    text = "; ".join(f"{task} {gain} against {other}" for task, (other, gain) in least.items())
    paths = [path for found in gains.values() for gain in found.values() for path in gain.paths]
    why = f"learned fusion leads every fixed choice in {', '.join(leads) or 'no task'}; nearest to it come: {text}"
    sides = [gain.side for found in gains.values() for gain in found.values()]
    return judged(sides, paths, f"{why}{_filled_boxes(e, ('learned', *FIXED))}")


def layers_by_task(e: Evidence) -> Verdict:
    """The mean, which holds the lower layers, over the last layer in RES; the last layer over the mean in captions.

    Told beside it: what the last layer lacks of learned fusion, for lower layers also reach a task by a mixture.
    """
    detail, words = _fusion(e, "mean", "last", TASKS["RES"]), _fusion(e, "last", "mean", TASKS["captions"])
    why = f"cIoU of the mean minus that of the last layer: {detail}; CIDEr of the last layer minus the mean's: {words}"
    lacking, paths = _lacking(e)
    why += f"{lacking}; no strategy holds the lower layers alone{_filled_boxes(e, ('mean', 'last'))}"
    return judged([detail.side, words.side], (*detail.paths, *words.paths, *paths), why)


def _fusion(e: Evidence, better: str, worse: str, key: str) -> Gain:
    return e.gain("fusion", {"strategy": better}, {"strategy": worse}, key)


def _lacking(e: Evidence) -> tuple[str, tuple[str, ...]]:
    """What the last layer alone lacks of learned fusion's score in each task, and the cells that say so.

    Nothing where they share no seed.
    """
    fusion, learned, last = e.sweep("fusion"), {"strategy": "learned"}, {"strategy": "last"}
    found = {task: share for task, key in TASKS.items() if (share := shortfall(fusion, key, learned, last))}
    if not found:
        return "", ()
    told = ", ".join(f"{share.value:.0%} in {task}" for task, share in found.items())
    seeds = min(share.seeds for share in found.values())
    text = f"; of learned fusion's score the last layer alone lacks {told} ({seeds} seeds)"
    return text, e.paths(*fusion.cells(**learned), *fusion.cells(**last))


def _filled_boxes(e: Evidence, strategies: Sequence[str]) -> str:
    """In how many cells the masks are not above the cell's own boxes filled, as `segments` asks it of a model.

    Empty where a cell does not say.
    """
    keys = (TASKS["RES"], "filled_ciou.predicted_box", "shuffled.ciou")
    cells = [cell for strategy in strategies for cell in e.sweep("fusion").cells(strategy=strategy)]
    found = [[metric_at(cell, f"{MAIN}.{key}") for key in keys] for cell in cells]
    if any(None in scores for scores in found):
        return ""
    flat = sum(over(own, filled) < 1 for own, filled, _ in found)
    chance = statistics.fmean(point(exchanged) for *_, exchanged in found)
    return (
        f"; in {flat} of {len(found)} cells the masks are not above their own predicted boxes filled, and a mask head "
        f"on that level says little of layers (cIoU with the expressions exchanged: {chance:.3f})"
    )
