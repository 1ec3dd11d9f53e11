"""The rules that rest on sweeps: each compares cells that differ in what is claimed, over the seeds that both have.

What counts is the whole 95 % interval of the difference; `evidence.judged` says whether a claim that does not hold is
contradicted or undecided. With a metric that a cell lacks, or fewer than three seeds, a rule raises `Missing`.

The gains and times of a baseline that is idle (`baselines`) are no evidence. `quarter_time` and `less_data` judge it by
its training of four times the steps; of a lead over an idle one `why` says that it is only a lead over chance.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ..sweeps.findings import FLOOR, is_idle
from ..sweeps.reading import untuned
from ..sweeps.results import interval, reached
from ..sweeps.results import metric as metric_at
from .baselines import (
    BASELINES,
    MORE,
    Factors,
    cell_of,
    how,
    in_words,
    mean_of,
    next_to_nothing,
    scores_of,
    standing_of,
    trainings,
)
from .evidence import MAIN, Evidence, Gain, Missing, Verdict, judged, over, point
from .fusion_rules import TASKS

SHARE, TIME, CLOSE = 0.04, 0.25, 0.9
PARTS = (0.5, 0.25, 0.1)  # of the scenes; the first is what "less data" has to mean at least
HARDER = " (harder than the paper's test: in equal steps it is idle)"
Cells = Sequence[Mapping[str, Any]]


def easier_training(e: Evidence) -> Verdict:
    """Embed over both discrete representations at rank 8, with equal samples and in equal time."""
    gains = {f"{b}, equal samples": _table6(e, ("embedding", 8), (b, 8)) for b in BASELINES}
    timed = {n: {**cell_of(n, 8), "budget": "time"} for n in ("embedding", *BASELINES)}
    gains |= {f"{b}, equal time": e.gain("table6", timed["embedding"], timed[b], "acc@0.5") for b in BASELINES}
    return _all_hold("embedding leads at rank 8", gains, note=next_to_nothing(e, 8))


def four_percent(e: Evidence) -> Verdict:
    """Embed at rank 8 over the baselines fully tuned, where the trained share is as small as claimed."""
    cell = e.cells("table6", **cell_of("embedding", 8))[0]
    path, counts = e.paths(cell)[0], cell.get("parameters")
    if not counts:
        raise Missing(f"{path} does not say how many parameters were trained")
    share = counts["trainable"] / counts["llm"]
    if share > SHARE:
        raise Missing(
            f"rank 8 and the heads are {share:.0%} of this small language model, so 4 % cannot be tried", path
        )
    gains = {b: _table6(e, ("embedding", 8), (b, "full")) for b in BASELINES}
    return _all_hold(f"{share:.1%} trained, against full tuning", gains, note=next_to_nothing(e, "full"))


def quarter_time(e: Evidence) -> Verdict:
    """Seconds until Embed at rank 8 meets a baseline's final score, over that baseline's seconds.

    Baselines are those at rank 8 and those fully tuned. A final score is the baseline's own last point, taken on the
    same scenes as all points. One that ends idle is judged by its training of four times the steps, where there is
    one, and left out where that ends idle too: its score is met at once, whatever its time. The paper's predecessors
    are fully tuned: without one of those nothing is judged, and the claim needs both.
    """
    sides: dict[str, int] = {}
    paths: list[str] = []
    texts: list[str] = []
    idle: list[str] = []
    for baseline, rank in itertools.product(BASELINES, (8, "full")):
        standing = standing_of(e, baseline, rank, lambda factors: _with_goals(e, factors)[2])
        paths += standing.paths
        name = f"{baseline}, {how(rank)}"
        if standing.factors is None:
            idle.append(name)
            continue
        ours, theirs, goals = _with_goals(e, standing.factors)
        paths += e.paths(*ours)
        sides[name], share = _share_of_time(ours, theirs, goals)
        texts.append(f"{in_words(standing.factors)}: {share}")
    lacking = [name for name in idle if name.endswith(how("full"))]
    none = len(lacking) == len(BASELINES)
    if none or (lacking and min(sides.values()) == 1):
        held = "" if none else f"; the claim holds against {'; '.join(texts)}"
        ends = f"{' and '.join(lacking)} end{'s' * (len(lacking) == 1)} below acc@0.5 {FLOOR}"
        raise Missing(f"{ends}: there is no training to compare times with{held}", *dict.fromkeys(paths))
    left = f"; left out, ending below acc@0.5 {FLOOR}: {'; '.join(idle)}" if idle else ""
    why = f"share of its time in which the embedding at rank 8 reaches the final score of {'; '.join(texts)}{left}"
    return judged(sides.values(), paths, why)


def full_tuning_needed(e: Evidence) -> Verdict:
    """Full tuning leads the baselines at rank 8, and at rank 8 with four times the steps where there are such cells.

    What more steps give as well is not what full tuning is needed for. Left out are baselines that are idle at rank 8
    and fully tuned. Told beside it: what the embedding gains from full tuning.
    """
    scores = {b: [scores_of(e, cell_of(b, rank)) for rank in (8, "full")] for b in BASELINES}
    gains = {
        b: {in_words(f): e.gain("table6", cell_of(b, "full"), f, "acc@0.5") for f in trainings(e, b, 8)}
        for b in BASELINES
    }
    paths = [path for found in gains.values() for gain in found.values() for path in gain.paths]
    idle = [b for b, both in scores.items() if all(map(is_idle, both))]
    told = "; ".join(f"{b} ({' and '.join(map(mean_of, scores[b]))})" for b in idle)
    told = f"below acc@0.5 {FLOOR} at rank 8 and fully tuned: {told}"
    if len(idle) == len(BASELINES):
        raise Missing(f"{told}: there is no gain to judge", *dict.fromkeys(paths))
    counts = {name: gain for b, found in gains.items() if b not in idle for name, gain in found.items()}
    text = "; ".join(f"{name} {gain}" for name, gain in counts.items())
    own = e.sweep("table6").gap("acc@0.5", cell_of("embedding", "full"), cell_of("embedding", 8))
    text += f"; the embedding itself {own.signed}" if own else ""
    text += f"; left out, {told}" if idle else ""
    return judged([gain.side for gain in counts.values()], paths, f"full tuning minus {text}")


def lora_suffices(e: Evidence) -> Verdict:
    """Embed at rank 8 has more than 0.9 of its fully tuned score (the paper's own cells: 0.92)."""
    gain = e.gain("table6", cell_of("embedding", 8), cell_of("embedding", "full"), "acc@0.5", share=CLOSE)
    return judged([gain.side], gain.paths, f"acc@0.5 at rank 8 minus {CLOSE} of that of full tuning: {gain}")


def lora_keeps(e: Evidence) -> Verdict:
    """Embed at rank 8 answers questions in words better than fully tuned, and keeps 0.9 of what it answered untuned.

    The first alone would also hold where both forget nearly all. Told beside it: how many answers became a region.
    """
    low_rank, full, key = cell_of("embedding", 8), cell_of("embedding", "full"), TASKS["questions"]
    lead, kept = e.gain("table6", low_rank, full, key), e.kept("table6", low_rank, key, share=CLOSE)
    cells = e.cells("table6", **low_rank)
    stages = (
        ("before tuning", untuned(cells)),
        ("after rank 8", cells),
        ("after full tuning", e.cells("table6", **full)),
    )
    text = ", ".join(f"{mean_of([e.score(cell, key) for cell in found])} {stage}" for stage, found in stages)
    why = f"questions answered: {text}; rank 8 minus full tuning {lead}; rank 8 minus {CLOSE} of before {kept}"
    return judged([lead.side, kept.side], (*lead.paths, *kept.paths), f"{why}{_answered_by_regions(cells)}")


def less_data(e: Evidence) -> Verdict:
    """Embed on half of the scenes leads the baselines on all of them; told beside it: its own scores by scenes.

    A baseline that ends idle is judged by its training of four times the steps, which asks more than the paper does,
    and left out where that ends idle too. Without any there is no verdict.
    """
    found = {baseline: standing_of(e, baseline, 8, partial(scores_of, e)) for baseline in BASELINES}
    paths = [path for standing in found.values() for path in standing.paths]
    idle = "; ".join(f"{b} ({standing.told})" for b, standing in found.items() if standing.factors is None)
    left = f"below acc@0.5 {FLOOR} at rank 8 with all scenes: {idle}"
    others = {in_words(s.factors): s.factors for s in found.values() if s.factors is not None}
    if not others:
        raise Missing(f"{left}: there is no lead to judge", *paths)
    gains = {
        f"{part:.0%}": {name: e.gain("table6", _part(part), f, "acc@0.5") for name, f in others.items()}
        for part in PARTS
    }
    suffices = [part for part, leads in gains.items() if all(gain.holds for gain in leads.values())]
    half, leads = next(iter(gains.items()))
    text = "; ".join(f"{name}{HARDER if name.endswith(MORE) else ''} {gain}" for name, gain in leads.items())
    enough = f"of {', '.join(gains)} of the scenes {', '.join(suffices) or 'none'} suffice{'s' * (len(suffices) < 2)}"
    own, told = _own(e)
    paths += [path for leads in (*gains.values(), own) for gain in leads.values() for path in gain.paths]
    why = f"with {half} of the scenes minus others with all: {text}; {enough}; {told}"
    return judged([gain.side for gain in leads.values()], paths, f"{why}; left out, {left}" if idle else why)


def box_loss(e: Evidence) -> Verdict:
    """L1 + GIoU over L1 alone, and over L1 counted twice, in mean box IoU."""
    others = {"L1": "l1", "L1 counted twice": "l1_twice"}
    return _all_hold("miou_box with GIoU", {k: _losses(e, "l1+giou", terms, "miou_box") for k, terms in others.items()})


def mask_loss(e: Evidence) -> Verdict:
    """BCE + DICE over BCE alone, and over BCE counted twice, in mean mask IoU."""
    others = {"BCE": "bce", "BCE counted twice": "bce_twice"}
    gains = {k: _losses(e, "bce+dice", terms, "miou_mask") for k, terms in others.items()}
    own = {k: mean_of([e.score(c, "miou_mask") for c in e.cells("losses", terms=t)]) for k, t in others.items()}
    return _all_hold("miou_mask with DICE", gains, note=f"; alone: {', '.join(f'{k} {v}' for k, v in own.items())}")


def _table6(e: Evidence, better: tuple[str, Any], worse: tuple[str, Any]) -> Gain:
    return e.gain("table6", cell_of(*better), cell_of(*worse), "acc@0.5")


def _part(part: float) -> Factors:
    return {**cell_of("embedding", 8), "fraction": part}


def _own(e: Evidence) -> tuple[dict[str, Gain], str]:
    """What Embed has on half of the scenes over 0.9 of its score on all, and on all over a tenth; and all its scores.

    Where more scenes are not shown to help it, "less" asks little of it, which the sentence says.
    """
    whole, half, tenth = cell_of("embedding", 8), _part(PARTS[0]), _part(PARTS[-1])
    gains = {
        f"{PARTS[0]:.0%} minus {CLOSE} of all": e.gain("table6", half, whole, "acc@0.5", share=CLOSE),
        f"all minus {PARTS[-1]:.0%}": e.gain("table6", whole, tenth, "acc@0.5"),
    }
    scores = {f"{part:.0%}": mean_of(scores_of(e, _part(part))) for part in reversed(PARTS)}
    told = ", ".join(f"{score} with {part}" for part, score in scores.items())
    text = f"its own acc@0.5: {told}, {mean_of(scores_of(e, whole))} with all; "
    text += "; ".join(f"{name} {gain}" for name, gain in gains.items())
    more = list(gains.values())[-1]
    return gains, text if more.holds else f"{text}, so that it is not shown to respond to the number of scenes at all"


def _losses(e: Evidence, better: str, worse: str, key: str) -> Gain:
    return e.gain("losses", {"terms": better}, {"terms": worse}, key)


def _all_hold(what: str, gains: Mapping[str, Gain], note: str = "") -> Verdict:
    """Whether all gains hold."""
    paths = [path for gain in gains.values() for path in gain.paths]
    text = "; ".join(f"against {name} {gain}" for name, gain in gains.items())
    return judged([gain.side for gain in gains.values()], paths, f"{what}: {text}{note}")


def _answered_by_regions(cells: Cells) -> str:
    """Which share of each cell's answers to questions holds a region; empty where a cell does not say."""
    shares = [metric_at(cell, f"{MAIN}.questions_with_region") for cell in cells]
    if None in shares:
        return ""
    told = ", ".join(f"{point(share):.2f}" for share in shares)
    return (
        f"; these cells train on expressions alone, and after rank 8 {told} of the answers (by seed) hold a region: "
        "what is lost is in part the form of an answer"
    )


def _with_goals(e: Evidence, factors: Mapping[str, Any]) -> tuple[Cells, Cells, list[float]]:
    """Embed at rank 8, a baseline over the seeds that both have, and the last points of the baseline's curves."""
    ours, theirs = e.paired("table6", cell_of("embedding", 8), factors)
    for cell in (*ours, *theirs):
        if not cell.get("curve"):
            raise Missing(f"{e.paths(cell)[0]} holds no learning curve")
    return ours, theirs, [point(cell["curve"][-1]["acc@0.5"]) for cell in theirs]


def _share_of_time(ours: Cells, theirs: Cells, goals: Sequence[float]) -> tuple[int, str]:
    """On which side of `TIME` the share of time lies in which cells of ours reach the goals, and the share in words.

    A cell that never reaches its goal takes more than all of its time: that may contradict the claim, never hold it.
    """
    met = [reached(cell, goal) for cell, goal in zip(ours, goals, strict=True)]
    spent = [(p or cell)["seconds"] for p, cell in zip(met, ours, strict=True)]
    found = interval([seconds / cell["seconds"] for seconds, cell in zip(spent, theirs, strict=True)])
    middle, lower, upper = found
    text = f"{middle:.0%} [{lower:.0%}, {upper:.0%}] over {len(met)} seeds"
    never = met.count(None)
    if not never:
        return over(TIME, found), text
    return min(over(TIME, found), 0), f"never in {never} of {len(met)} seeds (more than {text})"
