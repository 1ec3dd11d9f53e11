"""A rule for each claim: a small function of the evidence that gives a verdict or raises `Missing`.

A comparison holds only where the whole 95 % interval lies on the claimed side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ..report import paper_table
from .evidence import MAIN, Evidence, Gain, Missing, Verdict, high, judged, low, point, score

BASELINES = ("numerical", "vocabulary")
ROWS = ("Numerical", "Vocab", "Token Embed")  # what the rows of tables 4 and 7 begin with, as in the paper
EQUAL = {"fraction": 1.0, "budget": "samples", "lr": "tuned"}  # Table 6's own comparison: equal samples
SHARE, TIME, CLOSE = 0.04, 0.25, 0.9
HEADS = "02_vis_heads"


def precise(e: Evidence) -> Verdict:
    """A box through the widest learned head against the finest bins."""
    heads, bins = e.metric(HEADS, "box_iou"), e.metric(HEADS, "bin_iou")
    head, finest = max(heads.values()), max(bins, key=int)
    return judged(
        head >= bins[finest],
        [HEADS],
        f"a box keeps IoU {head:.4f} through the best head and {bins[finest]:.4f} through {finest} bins; "
        "a learned head errs too",
    )


def easier_training(e: Evidence) -> Verdict:
    """Embed over both discrete representations at rank 8."""
    return _all_positive("embedding leads at rank 8", {b: _table6(e, ("embedding", 8), (b, 8)) for b in BASELINES})


def four_percent(e: Evidence) -> Verdict:
    """Embed at rank 8 over the baselines fully tuned, where the trained share is as small as claimed."""
    path, cell = next(iter(e.cells("table6", representation="embedding", rank=8, **EQUAL).values()))
    counts = cell.get("parameters")
    if not counts:
        raise Missing(f"{path} does not say how many parameters were trained")
    share = counts["trainable"] / counts["llm"]
    if share > SHARE:
        raise Missing(
            f"rank 8 and the heads are {share:.0%} of this small language model, so 4 % cannot be tried ({path})"
        )
    gains = {b: _table6(e, ("embedding", 8), (b, "full")) for b in BASELINES}
    return _all_positive(f"{share:.1%} trained, against full tuning", gains)


def quarter_time(e: Evidence) -> Verdict:
    """Seconds until Embed's learning curve meets a baseline's final score, over that baseline's seconds, at rank 8."""
    ours = e.cells("table6", representation="embedding", rank=8, **EQUAL)
    shares, paths = [], []
    for baseline in BASELINES:
        theirs = e.cells("table6", representation=baseline, rank=8, **EQUAL)
        seeds = sorted(ours.keys() & theirs.keys(), key=str)
        if len(seeds) < 2:
            raise Missing(f"sweeps/table6 has fewer than two seeds of both embedding and {baseline} at rank 8")
        for seed in seeds:
            path, cell = ours[seed]
            if not cell.get("curve"):
                raise Missing(f"{path} holds no learning curve")
            goal = point(score(theirs[seed], "acc@0.5"))
            met = [p["seconds"] for p in cell["curve"] if p.get("acc@0.5") is not None and point(p["acc@0.5"]) >= goal]
            shares.append(min(met) / theirs[seed][1]["seconds"] if met else float("inf"))
            paths += [path, theirs[seed][0]]
    worst = max(shares)
    text = f"{worst:.0%} of its time at most" if worst != float("inf") else "not within the training of every seed"
    return judged(worst < TIME, paths, f"at rank 8 the embedding reaches a baseline's final score in {text}")


def fast_decoding(e: Evidence) -> Verdict:
    """Table 7: the embedding is the fastest in each column, rows of the same kind compared."""
    kinds: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, row in e.table("table7").items():
        start = next((s for s in ROWS if name.startswith(s)), None)
        if start:
            kinds.setdefault(name.removeprefix(start).strip(", "), {})[start] = row
    ratios = {
        (kind, column): min(point(rows[s][column]) for s in ROWS[:2]) / point(rows[ROWS[2]][column])
        for kind, rows in kinds.items() if set(rows) == set(ROWS)
        for column in rows[ROWS[2]] if all(rows[s].get(column) is not None for s in ROWS)
    }  # fmt: skip
    if not ratios:
        raise Missing(f"our table7 lacks rows of {', '.join(ROWS)} with a column in common")
    least, most = min(ratios.values()), max(ratios.values())
    why = f"the faster of the discrete ones takes {least:.1f} to {most:.1f} times as long in {len(ratios)} comparisons"
    return judged(least > 1, ["table7"], why)


def end_to_end(e: Evidence) -> Verdict:
    """Table 1 by measurement, where every function was asked for."""
    for task in ("caption", "region_caption", "several", "acc@0.5", "ciou"):
        e.metric(MAIN, task)  # a function that was not asked for is no function that failed
    row = next(iter(e.table("table1").values()))
    lacks = [name for name, shown in row.items() if not shown]
    return judged(
        not lacks, ["table1", MAIN], f"below one half: {', '.join(lacks)}" if lacks else "every function is shown"
    )


def full_tuning_needed(e: Evidence) -> Verdict:
    """Both baselines gain from full tuning."""
    gains = {b: _table6(e, (b, "full"), (b, 8)) for b in BASELINES}
    return _all_positive("full tuning over rank 8", gains)


def redundant_tokens(e: Evidence) -> Verdict:
    """Table 4: a mask in numbers or location tokens takes more than 30 tokens."""
    counts = {s: _tokens(e, s)["mask"] for s in ROWS[:2] if "mask" in _tokens(e, s)}
    if not counts:
        raise Missing("our table4 has no mask of a discrete representation")
    text = ", ".join(f"{name} {count:.0f}" for name, count in counts.items())
    return judged(min(counts.values()) > 30, ["table4"], f"tokens of a mask: {text}")


def one_token(e: Evidence) -> Verdict:
    """Table 4: one token for a box and for a mask."""
    counts = _tokens(e, ROWS[2])
    text = ", ".join(f"{name} {count:.0f}" for name, count in counts.items())
    return judged(set(counts.values()) == {1.0}, ["table4"], f"tokens counted: {text}")


def mask_embedding(e: Evidence) -> Verdict:
    """The best mask auto-encoder reaches 0.9 of what its decoder's grid allows."""
    best, bound = max(e.metric(HEADS, "mask_iou").values()), e.metric(HEADS, "mask_grid_bound")
    why = f"unseen masks come back with IoU {best:.3f}; the grid allows {bound:.3f}"
    return judged(best >= CLOSE * bound, [HEADS], why)


def reads_regions(e: Evidence) -> Verdict:
    """Captions of a given region follow that region, not another."""
    scores = e.metric(MAIN, "region_caption")
    if any(scores.get(k) is None for k in ("box", "mask", "wrong")):
        raise Missing(f"{MAIN} lacks region_caption: box, mask, wrong")
    given = {kind: scores[kind] for kind in ("box", "mask")}
    text = ", ".join(f"{point(value):.3f} from a {kind}" for kind, value in given.items())
    # `wrong` counts answers that are right for the region given though the picture suggests another.
    why = f"captions right: {text}, {point(scores['wrong']):.3f} where a region other than the expected one was given"
    return judged(all(low(v) > 0.5 for v in (*given.values(), scores["wrong"])), [MAIN], why)


def decides_when(e: Evidence) -> Verdict:
    """A region nearly always where one is asked for, nearly never elsewhere."""
    emitted, false = e.metric(MAIN, "emission_rate"), e.metric(MAIN, "false_vis")
    rates = {task: point(rate) for task, rate in false.items() if rate is not None}
    if not rates:
        raise Missing(f"{MAIN} has no false_vis rate")
    text = ", ".join(f"{task} {rate:.3f}" for task, rate in rates.items())
    holds = low(emitted) >= 0.95 and max(rates.values()) <= 0.05
    return judged(holds, [MAIN], f"a region where asked for in {point(emitted):.3f}; where wrong: {text}")


def box_loss(e: Evidence) -> Verdict:
    """L1 + GIoU over L1 alone, in mean box IoU."""
    return _all_positive("miou_box with GIoU", {"L1": _losses(e, "l1+giou", "l1", "miou_box")})


def mask_loss(e: Evidence) -> Verdict:
    """BCE + DICE over BCE alone, in mean mask IoU."""
    return _all_positive("miou_mask with DICE", {"BCE": _losses(e, "bce+dice", "bce", "miou_mask")})


def detects(e: Evidence) -> Verdict:
    """REC is above one half, and above what any object of the scene would score."""
    own, other = e.metric(MAIN, "acc@0.5"), e.metric(MAIN, "shuffled", "acc@0.5")
    why = f"acc@0.5 {point(own):.3f}, and {point(other):.3f} with the expressions exchanged"
    return judged(low(own) > max(0.5, high(other)), [MAIN], why)


def segments(e: Evidence) -> Verdict:
    """RES exceeds the predicted boxes filled."""
    own, filled = e.metric(MAIN, "ciou"), e.metric(MAIN, "filled_ciou", "predicted_box")
    why = f"ciou {point(own):.3f}, and {point(filled):.3f} of the predicted boxes filled"
    return judged(low(own) > high(filled), [MAIN], why)


def other_signals(e: Evidence) -> Verdict:
    """Depth is better than the best constant."""
    error, constant = e.metric(MAIN, "depth", "mae"), e.metric(MAIN, "depth", "constant_mae")
    why = f"depth errs by {point(error):.4f}, the best constant by {point(constant):.4f}"
    return judged(high(error) < low(constant), [MAIN], why)


def competitive(e: Evidence) -> Verdict:
    """REC on the real RefCOCO within 1 point of Shikra-7B's, or above."""
    if "refcoco/val" not in e.report["metrics"]:
        raise Missing("needs RefCOCO's photographs and a 7B model; the report has no refcoco/val")
    own = e.metric("refcoco/val", "acc@0.5")
    theirs = float(paper_table("table2")["rows"]["Shikra-7B"]["refcoco/val"])
    why = f"acc@0.5 on RefCOCO val {100 * point(own):.1f} %, Shikra-7B as published {theirs:.1f} %"
    return judged(100 * high(own) >= theirs - 1, ["refcoco/val", "table2"], why)


def lora_suffices(e: Evidence) -> Verdict:
    """Embed at rank 8 has 0.9 of its fully tuned score (the paper's own cells: 0.92)."""
    cells = [e.cells("table6", representation="embedding", rank=rank, **EQUAL) for rank in (8, "full")]
    seeds = sorted(cells[0].keys() & cells[1].keys(), key=str)
    if len(seeds) < 2:
        raise Missing("sweeps/table6 has fewer than two seeds of embedding at both rank 8 and full tuning")
    small, full = (sum(point(score(side[s], "acc@0.5")) for s in seeds) / len(seeds) for side in cells)
    why = f"acc@0.5 {small:.3f} at rank 8, {full:.3f} fully tuned, over {len(seeds)} seeds"
    return judged(small >= CLOSE * full, [side[s][0] for side in cells for s in seeds], why)


def layer_fusion(e: Evidence) -> Verdict:
    """Learned fusion over each fixed strategy, each aligned with the same budget."""
    kind = {"weights": "two", "start": "aligned"}
    gains = {
        other: e.gain("fusion", {"strategy": "learned", **kind}, {"strategy": other, **kind}, "acc@0.5")
        for other in ("last", "second_last", "mean")
    }
    return _all_positive("acc@0.5 of learned fusion", gains)


def _never(why: str, _: Evidence) -> Verdict:
    raise Missing(why)


def _table6(e: Evidence, better: tuple[str, Any], worse: tuple[str, Any]) -> Gain:
    ours, theirs = ({"representation": name, "rank": rank, **EQUAL} for name, rank in (better, worse))
    return e.gain("table6", ours, theirs, "acc@0.5")


def _losses(e: Evidence, better: str, worse: str, key: str) -> Gain:
    return e.gain("losses", {"terms": better, "head": "two_way"}, {"terms": worse, "head": "two_way"}, key)


def _all_positive(what: str, gains: Mapping[str, Gain]) -> Verdict:
    paths: Sequence[str] = [path for gain in gains.values() for path in gain.paths]
    text = "; ".join(f"against {name} {gain}" for name, gain in gains.items())
    return judged(all(gain.low > 0 for gain in gains.values()), paths, f"{what}: {text}")


def _tokens(e: Evidence, start: str) -> dict[str, float]:
    """Least number of tokens of a box and a mask over our rows of a representation."""
    rows = [row for name, row in e.table("table4").items() if name.startswith(start)]
    kinds = {k: [point(r[k]) for r in rows if r.get(k) is not None] for k in ("box", "mask")}
    if not any(kinds.values()):
        raise Missing(f"our table4 has no row of {start}")
    return {kind: min(values) for kind, values in kinds.items() if values}


RULES: dict[str, Callable[[Evidence], Verdict]] = {
    "precise": precise,
    "easier-training": easier_training,
    "four-percent": four_percent,
    "quarter-time": quarter_time,
    "fast-decoding": fast_decoding,
    "end-to-end": end_to_end,
    "full-tuning-needed": full_tuning_needed,
    "costly-predecessors": partial(_never, "a figure of other people's training runs, which are not repeated here"),
    "two-stage-limits": partial(_never, "about systems with a vision expert, none of which is run here"),
    "redundant-tokens": redundant_tokens,
    "one-token": one_token,
    "mask-embedding": mask_embedding,
    "reads-regions": reads_regions,
    "decides-when": decides_when,
    "box-loss": box_loss,
    "mask-loss": mask_loss,
    "detects": detects,
    "segments": segments,
    "other-signals": other_signals,
    "competitive": competitive,
    "lora-suffices": lora_suffices,
    "layer-fusion": layer_fusion,
}
