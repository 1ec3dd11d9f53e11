"""The rules that rest on sweeps: each compares cells that differ in what is claimed, over the seeds that both have.

What counts is the whole 95 % interval of the difference; `evidence.judged` says whether a claim that does not hold is
contradicted or undecided. With a metric that a cell lacks, or fewer than three seeds, a rule raises `Missing`.

A baseline below `findings.FLOOR` is idle: it has learnt next to nothing in its budget. Its own gains and times are no
evidence, and a lead over it is only a lead over chance, which `why` says.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..sweeps.findings import FLOOR, is_idle
from ..sweeps.reading import untuned
from ..sweeps.results import interval, reached
from ..sweeps.results import metric as metric_at
from .evidence import MAIN, Evidence, Gain, Missing, Verdict, judged, over, point

BASELINES = ("numerical", "vocabulary")
SHARE, TIME, CLOSE = 0.04, 0.25, 0.9
PARTS = (0.5, 0.25, 0.1)  # of the scenes; the first is what "less data" has to mean at least
FIXED = ("last", "second_last", "mean")  # strategies of layer fusion that learn nothing
TASKS = {"REC": "acc@0.5", "RES": "ciou", "captions": "caption.cider", "questions": "questions.all.accuracy"}
Cells = Sequence[Mapping[str, Any]]


def easier_training(e: Evidence) -> Verdict:
    """Embed over both discrete representations at rank 8, with equal samples and in equal time."""
    gains = {f"{b}, equal samples": _table6(e, ("embedding", 8), (b, 8)) for b in BASELINES}
    timed = {n: {**_cell(n, 8), "budget": "time"} for n in ("embedding", *BASELINES)}
    gains |= {f"{b}, equal time": e.gain("table6", timed["embedding"], timed[b], "acc@0.5") for b in BASELINES}
    return _all_hold("embedding leads at rank 8", gains, note=_next_to_nothing(e, 8))


def four_percent(e: Evidence) -> Verdict:
    """Embed at rank 8 over the baselines fully tuned, where the trained share is as small as claimed."""
    cell = e.cells("table6", **_cell("embedding", 8))[0]
    path, counts = e.paths(cell)[0], cell.get("parameters")
    if not counts:
        raise Missing(f"{path} does not say how many parameters were trained")
    share = counts["trainable"] / counts["llm"]
    if share > SHARE:
        raise Missing(
            f"rank 8 and the heads are {share:.0%} of this small language model, so 4 % cannot be tried", path
        )
    gains = {b: _table6(e, ("embedding", 8), (b, "full")) for b in BASELINES}
    return _all_hold(f"{share:.1%} trained, against full tuning", gains, note=_next_to_nothing(e, "full"))


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
        name = f"{baseline}, {_how(rank)}"
        for budget, more in (("samples", ""), ("fourfold", ", four times the steps")):
            factors = {**_cell(baseline, rank), "budget": budget}
            if more and not e.sweep("table6").cells(**factors):
                continue
            ours, theirs, goals = _with_goals(e, factors)
            paths += e.paths(*ours, *theirs)
            if not is_idle(goals):
                sides[name], share = _share_of_time(ours, theirs, goals)
                texts.append(f"{name}{more}: {share}")
                break
        else:
            idle.append(name)
    lacking = [name for name in idle if name.endswith(_how("full"))]
    none = len(lacking) == len(BASELINES)
    if none or (lacking and min(sides.values()) == 1):
        held = "" if none else f"; the claim holds against {'; '.join(texts)}"
        ends = f"{' and '.join(lacking)} end{'s' * (len(lacking) == 1)} below acc@0.5 {FLOOR}"
        raise Missing(f"{ends}: there is no training to compare times with{held}", *dict.fromkeys(paths))
    left = f"; left out, ending below acc@0.5 {FLOOR}: {'; '.join(idle)}" if idle else ""
    why = f"share of its time in which the embedding at rank 8 reaches the final score of {'; '.join(texts)}{left}"
    return judged(sides.values(), paths, why)


def full_tuning_needed(e: Evidence) -> Verdict:
    """The baselines gain from full tuning; left out are those that are idle with it and without.

    Beside it stands what four times the steps give a baseline without it.
    """
    gains = {b: _table6(e, (b, "full"), (b, 8)) for b in BASELINES}
    scores = {b: [_scores(e, b, rank) for rank in (8, "full")] for b in BASELINES}
    idle = [b for b, both in scores.items() if all(map(is_idle, both))]
    told = "; ".join(f"{b} ({' and '.join(map(_mean, scores[b]))})" for b in idle)
    told = f"below acc@0.5 {FLOOR} at rank 8 and fully tuned: {told}"
    if len(idle) == len(BASELINES):
        raise Missing(f"{told}: there is no gain to judge", *(path for gain in gains.values() for path in gain.paths))
    longer = {b: e.sweep("table6").cells(**_cell(b, 8), budget="fourfold") for b in BASELINES if b not in idle}
    reached_by = [f"{b} {_mean([e.score(c, 'acc@0.5') for c in found])}" for b, found in longer.items() if found]
    note = f"; four times the steps at rank 8 reach: {', '.join(reached_by)}" if reached_by else ""
    note += f"; left out, {told}" if idle else ""
    return _all_hold("full tuning minus rank 8", gains, idle, note, before="")


def lora_suffices(e: Evidence) -> Verdict:
    """Embed at rank 8 has more than 0.9 of its fully tuned score (the paper's own cells: 0.92)."""
    gain = e.gain("table6", _cell("embedding", 8), _cell("embedding", "full"), "acc@0.5", share=CLOSE)
    return judged([gain.side], gain.paths, f"acc@0.5 at rank 8 minus {CLOSE} of that of full tuning: {gain}")


def lora_keeps(e: Evidence) -> Verdict:
    """Embed at rank 8 answers questions in words better than fully tuned, and keeps 0.9 of what it answered untuned.

    The first alone would also hold where both forget nearly all.
    """
    low_rank, full, key = _cell("embedding", 8), _cell("embedding", "full"), TASKS["questions"]
    lead, kept = e.gain("table6", low_rank, full, key), e.kept("table6", low_rank, key, share=CLOSE)
    cells = e.cells("table6", **low_rank)
    stages = (
        ("before tuning", untuned(cells)),
        ("after rank 8", cells),
        ("after full tuning", e.cells("table6", **full)),
    )
    text = ", ".join(f"{_mean([e.score(cell, key) for cell in found])} {stage}" for stage, found in stages)
    why = f"questions answered: {text}; rank 8 minus full tuning {lead}; rank 8 minus {CLOSE} of before {kept}"
    return judged([lead.side, kept.side], (*lead.paths, *kept.paths), why)


def less_data(e: Evidence) -> Verdict:
    """Embed on half of the scenes leads both baselines on all of them; told beside it: what stays of its own score."""
    found = {f"{part:.0%}": _with_part(e, part) for part in PARTS}
    suffices = [part for part, gains in found.items() if all(gain.holds for gain in gains.values())]
    half = next(iter(found))
    text = "; ".join(f"against {name} {gain}" for name, gain in found[half].items())
    enough = f"of {', '.join(found)} of the scenes {', '.join(suffices) or 'none'} suffice{'s' * (len(suffices) < 2)}"
    own = _own(e, PARTS[0])
    why = f"at rank 8 with {half} of the scenes: {text}; {enough}; {half} minus {CLOSE} of its own score with all {own}"
    paths = [path for gains in found.values() for gain in gains.values() for path in gain.paths]
    return judged([gain.side for gain in found[half].values()], (*paths, *own.paths), f"{why}{_next_to_nothing(e, 8)}")


def box_loss(e: Evidence) -> Verdict:
    """L1 + GIoU over L1 alone, and over L1 counted twice, in mean box IoU."""
    others = {"L1": "l1", "L1 counted twice": "l1_twice"}
    return _all_hold("miou_box with GIoU", {k: _losses(e, "l1+giou", terms, "miou_box") for k, terms in others.items()})


def mask_loss(e: Evidence) -> Verdict:
    """BCE + DICE over BCE alone, and over BCE counted twice, in mean mask IoU."""
    others = {"BCE": "bce", "BCE counted twice": "bce_twice"}
    gains = {k: _losses(e, "bce+dice", terms, "miou_mask") for k, terms in others.items()}
    own = {k: _mean([e.score(c, "miou_mask") for c in e.cells("losses", terms=t)]) for k, t in others.items()}
    return _all_hold("miou_mask with DICE", gains, note=f"; alone: {', '.join(f'{k} {v}' for k, v in own.items())}")


def layer_fusion(e: Evidence) -> Verdict:
    """Learned fusion over each fixed strategy, each aligned with the same budget, in each task."""
    gains = {task: {other: _fusion(e, "learned", other, key) for other in FIXED} for task, key in TASKS.items()}
    leads = [task for task, found in gains.items() if all(gain.holds for gain in found.values())]
    least = {task: min(found.items(), key=lambda item: item[1].found.low) for task, found in gains.items()}
    text = "; ".join(f"{task} {gain} against {other}" for task, (other, gain) in least.items())
    paths = [path for found in gains.values() for gain in found.values() for path in gain.paths]
    why = f"learned fusion leads every fixed choice in {', '.join(leads) or 'no task'}; nearest to it come: {text}"
    return judged([gain.side for found in gains.values() for gain in found.values()], paths, why)


def layers_by_task(e: Evidence) -> Verdict:
    """The mean, which holds the lower layers, over the last layer in RES; the last layer over the mean in captions."""
    detail, words = _fusion(e, "mean", "last", TASKS["RES"]), _fusion(e, "last", "mean", TASKS["captions"])
    why = f"cIoU of the mean minus that of the last layer: {detail}; CIDEr of the last layer minus the mean's: {words}"
    return judged([detail.side, words.side], (*detail.paths, *words.paths), why)


def _cell(representation: str, rank: Any) -> dict[str, Any]:
    """Factors of a cell of Table 6's own comparison: equal samples, all scenes, a tuned rate, the plan's defaults."""
    return {"representation": representation, "rank": rank}


def _how(rank: Any) -> str:
    return "full tuning" if rank == "full" else f"rank {rank}"


def _table6(e: Evidence, better: tuple[str, Any], worse: tuple[str, Any]) -> Gain:
    return e.gain("table6", _cell(*better), _cell(*worse), "acc@0.5")


def _with_part(e: Evidence, part: float) -> dict[str, Gain]:
    ours = {**_cell("embedding", 8), "fraction": part}
    return {f"{b} with all": e.gain("table6", ours, _cell(b, 8), "acc@0.5") for b in BASELINES}


def _own(e: Evidence, part: float) -> Gain:
    """What Embed has on a part of the scenes over 0.9 of what it has on all."""
    ours = {**_cell("embedding", 8), "fraction": part}
    return e.gain("table6", ours, _cell("embedding", 8), "acc@0.5", share=CLOSE)


def _losses(e: Evidence, better: str, worse: str, key: str) -> Gain:
    return e.gain("losses", {"terms": better}, {"terms": worse}, key)


def _fusion(e: Evidence, better: str, worse: str, key: str) -> Gain:
    return e.gain("fusion", {"strategy": better}, {"strategy": worse}, key)


def _all_hold(
    what: str, gains: Mapping[str, Gain], idle: Collection[str] = (), note: str = "", before: str = "against "
) -> Verdict:
    """Whether all gains hold, those left out whose name is among the `idle`; `before` stands before each name."""
    counts = {name: gain for name, gain in gains.items() if name not in idle}
    paths = [path for gain in gains.values() for path in gain.paths]
    text = "; ".join(f"{before}{name} {gain}" for name, gain in counts.items())
    return judged([gain.side for gain in counts.values()], paths, f"{what}: {text}{note}")


def _scores(e: Evidence, baseline: str, rank: Any) -> list[float]:
    return [point(e.score(cell, "acc@0.5")) for cell in e.cells("table6", **_cell(baseline, rank))]


def _next_to_nothing(e: Evidence, rank: Any) -> str:
    """The end of a sentence about leads at a rank that names the idle baselines and their scores; empty without any."""
    told = []
    for baseline in BASELINES:
        if is_idle(scores := _scores(e, baseline, rank)):
            found = [metric_at(c, f"{MAIN}.shuffled.acc@0.5") for c in e.cells("table6", **_cell(baseline, rank))]
            chance = "" if None in found else f", {_mean(found)} with the expressions exchanged"
            told.append(f"{baseline}, {_how(rank)} (acc@0.5 {_mean(scores)}{chance})")
    if not told:
        return ""
    return f"; {' and '.join(told)} learnt next to nothing in this budget: a lead over that is only a lead over chance"


def _with_goals(e: Evidence, factors: Mapping[str, Any]) -> tuple[Cells, Cells, list[float]]:
    """Embed at rank 8, a baseline over the seeds that both have, and the last points of the baseline's curves."""
    ours, theirs = e.paired("table6", _cell("embedding", 8), factors)
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


def _mean(scores: Sequence[Any]) -> str:
    return f"{statistics.fmean(map(point, scores)):.3f}"
