"""The rules that rest on sweeps: each compares cells that differ in what is claimed, over the seeds that both have.

What counts is the whole 95 % interval of the difference. With a metric that a cell lacks, or fewer than three seeds,
a rule raises `Missing`.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping
from typing import Any

from ..sweeps.results import interval, reached
from .evidence import Evidence, Gain, Missing, Verdict, judged, point

BASELINES = ("numerical", "vocabulary")
SHARE, TIME, CLOSE = 0.04, 0.25, 0.9
FLOOR = 0.1  # Acc@0.5 below which a baseline has learnt nothing that its time could be measured by
PARTS = (0.5, 0.25, 0.1)  # of the scenes; the first is what "less data" has to mean at least
FIXED = ("last", "second_last", "mean")  # strategies of layer fusion that learn nothing
TASKS = {"REC": "acc@0.5", "RES": "ciou", "captions": "caption.cider", "questions": "questions.all.accuracy"}


def easier_training(e: Evidence) -> Verdict:
    """Embed over both discrete representations at rank 8."""
    return _all_hold("embedding leads at rank 8", {b: _table6(e, ("embedding", 8), (b, 8)) for b in BASELINES})


def four_percent(e: Evidence) -> Verdict:
    """Embed at rank 8 over the baselines fully tuned, where the trained share is as small as claimed."""
    cell = e.cells("table6", **_cell("embedding", 8))[0]
    path, counts = e.paths(cell)[0], cell.get("parameters")
    if not counts:
        raise Missing(f"{path} does not say how many parameters were trained")
    share = counts["trainable"] / counts["llm"]
    if share > SHARE:
        raise Missing(
            f"rank 8 and the heads are {share:.0%} of this small language model, so 4 % cannot be tried ({path})"
        )
    gains = {b: _table6(e, ("embedding", 8), (b, "full")) for b in BASELINES}
    return _all_hold(f"{share:.1%} trained, against full tuning", gains)


def quarter_time(e: Evidence) -> Verdict:
    """Seconds until Embed at rank 8 meets a baseline's final score, over that baseline's seconds.

    Baselines are those at rank 8 and those fully tuned. A final score is the baseline's own last point, taken on the
    same scenes as all points. One that ends below `FLOOR` is left out: its score is met at once, whatever its time.
    Without a fully tuned one, which is what the paper's predecessors are, there is no verdict.
    """
    shares: dict[str, list[float]] = {}
    paths: list[str] = []
    idle: list[str] = []
    for baseline, rank in itertools.product(BASELINES, (8, "full")):
        name = f"{baseline}, {_how(rank)}"
        ours, theirs = e.paired("table6", _cell("embedding", 8), _cell(baseline, rank))
        paths += e.paths(*ours, *theirs)
        for cell in (*ours, *theirs):
            if not cell.get("curve"):
                raise Missing(f"{e.paths(cell)[0]} holds no learning curve")
        goals = [point(cell["curve"][-1]["acc@0.5"]) for cell in theirs]
        if statistics.fmean(goals) < FLOOR:
            idle.append(name)
            continue
        met = [reached(cell, goal) for cell, goal in zip(ours, goals, strict=True)]
        shares[name] = [p["seconds"] / cell["seconds"] if p else math.inf for p, cell in zip(met, theirs, strict=True)]
    lacking = [name for name in idle if name.endswith(_how("full"))]
    if lacking:
        raise Missing(f"{' and '.join(lacking)} end below acc@0.5 {FLOOR}: there is no training to compare times with")
    whole = {name: interval(values) if max(values) < math.inf else None for name, values in shares.items()}
    texts = [f"{name}: {_percent(found, len(shares[name]))}" for name, found in whole.items()]
    texts += [f"{name}: left out, it ends below acc@0.5 {FLOOR}" for name in idle]
    why = f"share of its time in which the embedding at rank 8 reaches the final score of {'; '.join(texts)}"
    return judged(all(found is not None and found[2] < TIME for found in whole.values()), paths, why)


def full_tuning_needed(e: Evidence) -> Verdict:
    """Both baselines gain from full tuning."""
    gains = {b: _table6(e, (b, "full"), (b, 8)) for b in BASELINES}
    return _all_hold("full tuning over rank 8", gains)


def lora_suffices(e: Evidence) -> Verdict:
    """Embed at rank 8 has more than 0.9 of its fully tuned score (the paper's own cells: 0.92)."""
    gain = e.gain("table6", _cell("embedding", 8), _cell("embedding", "full"), "acc@0.5", share=CLOSE)
    return judged(gain.holds, gain.paths, f"acc@0.5 at rank 8 minus {CLOSE} of that of full tuning: {gain}")


def lora_keeps(e: Evidence) -> Verdict:
    """Embed answers questions in words better after rank 8 than after full tuning; before it both are one model."""
    gain = e.gain("table6", _cell("embedding", 8), _cell("embedding", "full"), TASKS["questions"])
    return judged(gain.holds, gain.paths, f"questions answered after rank 8 minus after full tuning: {gain}")


def less_data(e: Evidence) -> Verdict:
    """Embed on half of the scenes leads both baselines on all of them, and has more than 0.9 of its own score there."""
    found = {f"{part:.0%}": _with_part(e, part) for part in PARTS}
    suffices = [part for part, gains in found.items() if all(gain.holds for gain in gains.values())]
    half = next(iter(found))
    text = "; ".join(f"against {name} {gain}" for name, gain in found[half].items())
    why = f"at rank 8 with {half} of the scenes: {text}; of {', '.join(found)} suffices {', '.join(suffices) or 'none'}"
    paths = [path for gains in found.values() for gain in gains.values() for path in gain.paths]
    return judged(half in suffices, paths, why)


def box_loss(e: Evidence) -> Verdict:
    """L1 + GIoU over L1 alone, in mean box IoU."""
    return _all_hold("miou_box with GIoU", {"L1": _losses(e, "l1+giou", "l1", "miou_box")})


def mask_loss(e: Evidence) -> Verdict:
    """BCE + DICE over BCE alone, in mean mask IoU."""
    return _all_hold("miou_mask with DICE", {"BCE": _losses(e, "bce+dice", "bce", "miou_mask")})


def layer_fusion(e: Evidence) -> Verdict:
    """Learned fusion over each fixed strategy, each aligned with the same budget, in each task."""
    gains = {task: {other: _fusion(e, "learned", other, key) for other in FIXED} for task, key in TASKS.items()}
    leads = [task for task, found in gains.items() if all(gain.holds for gain in found.values())]
    least = {task: min(found.items(), key=lambda item: item[1].found.low) for task, found in gains.items()}
    text = "; ".join(f"{task} {gain} against {other}" for task, (other, gain) in least.items())
    paths = [path for found in gains.values() for gain in found.values() for path in gain.paths]
    why = f"learned fusion leads every fixed choice in {', '.join(leads) or 'no task'}; nearest to it come: {text}"
    return judged(len(leads) == len(TASKS), paths, why)


def layers_by_task(e: Evidence) -> Verdict:
    """The mean, which holds the lower layers, over the last layer in RES; the last layer over the mean in captions."""
    detail, words = _fusion(e, "mean", "last", TASKS["RES"]), _fusion(e, "last", "mean", TASKS["captions"])
    why = f"cIoU of the mean minus that of the last layer: {detail}; CIDEr of the last layer minus the mean's: {words}"
    return judged(detail.holds and words.holds, (*detail.paths, *words.paths), why)


def _cell(representation: str, rank: Any) -> dict[str, Any]:
    """Factors of a cell of Table 6's own comparison: equal samples, all scenes, a tuned rate, the plan's defaults."""
    return {"representation": representation, "rank": rank}


def _how(rank: Any) -> str:
    return "full tuning" if rank == "full" else f"rank {rank}"


def _table6(e: Evidence, better: tuple[str, Any], worse: tuple[str, Any]) -> Gain:
    return e.gain("table6", _cell(*better), _cell(*worse), "acc@0.5")


def _with_part(e: Evidence, part: float) -> dict[str, Gain]:
    ours = {**_cell("embedding", 8), "fraction": part}
    gains = {f"{b} with all": e.gain("table6", ours, _cell(b, 8), "acc@0.5") for b in BASELINES}
    own = e.gain("table6", ours, _cell("embedding", 8), "acc@0.5", share=CLOSE)
    return {**gains, f"{CLOSE} of its own score with all": own}


def _losses(e: Evidence, better: str, worse: str, key: str) -> Gain:
    return e.gain("losses", {"terms": better}, {"terms": worse}, key)


def _fusion(e: Evidence, better: str, worse: str, key: str) -> Gain:
    return e.gain("fusion", {"strategy": better}, {"strategy": worse}, key)


def _all_hold(what: str, gains: Mapping[str, Gain]) -> Verdict:
    paths = [path for gain in gains.values() for path in gain.paths]
    text = "; ".join(f"against {name} {gain}" for name, gain in gains.items())
    return judged(all(gain.holds for gain in gains.values()), paths, f"{what}: {text}")


def _percent(found: list[float] | None, seeds: int) -> str:
    if found is None:
        return "never in some seed"
    middle, lower, upper = found
    return f"{middle:.0%} [{lower:.0%}, {upper:.0%}] over {seeds} seeds"
