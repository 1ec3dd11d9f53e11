"""A rule for each claim: a small function of the evidence that gives a verdict or raises `Missing`.

A comparison holds only where the whole 95 % interval lies on the claimed side; `evidence.judged` says whether one that
does not hold is contradicted or undecided. Counts of tokens and of functions have no interval and count as they are. A
decode time is a median, and in place of the interval stand its quartiles, where the report holds them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..evaluation.series import FUNCTIONS
from ..report import paper_table
from . import fusion_rules, sweep_rules
from .evidence import MAIN, NOT_MEASURABLE, Evidence, Missing, Verdict, counted, high, judged, low, over, point

ROWS = ("Numerical", "Vocab", "Token Embed")  # what the rows of tables 4 and 7 begin with, as in the paper
CLOSE = 0.9
HIT = 0.5  # score from which a function counts as shown, and IoU from which a region counts as found
ASKED = ("caption", "question")  # tasks of the paper in which any region is wrong
TOKENS = 30  # that a mask takes more than, by the paper
HEADS, SPEED = "02_vis_heads", "09_speed"


def precise(e: Evidence) -> Verdict:
    """A box through the best learned head against the finest bins."""
    heads, bins = e.metric(HEADS, "box_iou"), e.metric(HEADS, "bin_iou")
    head, (*fewer, finest) = max(heads.values(), key=point), sorted(bins, key=int)
    told = ", ".join(f"{point(bins[count]):.4f} through {count}" for count in fewer)
    return judged(
        [over(head, bins[finest], touching=True)],
        [HEADS],
        f"a box keeps IoU {point(head):.4f} through the best head and {point(bins[finest]):.4f} through {finest} bins"
        f"{f' ({told})' if told else ''}; a learned head errs too",
    )


def fast_decoding(e: Evidence) -> Verdict:
    """Table 7: the embedding is the fastest in each column, rows of the same kind compared.

    Where times have quartiles, its upper one against the lower ones of the others.
    """
    kinds: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, row in e.table("table7").items():
        start = next((s for s in ROWS if name.startswith(s)), None)
        if start:
            kinds.setdefault(name.removeprefix(start).strip(", "), {})[start] = row
    times = [
        [rows[s][column] for s in ROWS]
        for rows in kinds.values() if set(rows) == set(ROWS)
        for column in rows[ROWS[2]] if all(rows[s].get(column) is not None for s in ROWS)
    ]  # fmt: skip
    if not times:
        raise Missing(f"our table7 lacks rows of {', '.join(ROWS)} with a column in common")
    ratios = [min(map(low, others)) / high(embedding) for *others, embedding in times]
    why = (
        f"the faster of the discrete ones takes {min(ratios):.1f} to {max(ratios):.1f} times as long in {len(times)} "
        "comparisons"
    )
    return judged([over(other, embedding) for *others, embedding in times for other in others], ["table7"], why)


def end_to_end(e: Evidence) -> Verdict:
    """Table 1 by measurement, where every function was asked for: each score is above one half."""
    scores = {name: e.metric(MAIN, *path) for name, path in FUNCTIONS.items()}
    text = ", ".join(
        f"{name} {point(score):.3f} [{low(score):.3f}, {high(score):.3f}]" for name, score in scores.items()
    )
    return judged([over(score, HIT) for score in scores.values()], [MAIN], f"scores, to be above one half: {text}")


def redundant_tokens(e: Evidence) -> Verdict:
    """A mask in numbers or location tokens takes more than 30 tokens to come back as well as from the learned head.

    Of each notation counts the fewest tokens that reach the head's IoU; where none that was tried does, it takes more
    than the most that were.
    """
    head = max(point(iou) for _, iou in e.metric(SPEED, "mask_by_tokens", "embedding"))
    reached: list[float] = []
    beyond: list[float] = []
    text = []
    for name in ("numerical", "vocabulary"):
        tried = [(float(tokens), point(iou)) for tokens, iou in e.metric(SPEED, "mask_by_tokens", name)]
        enough = [pair for pair in tried if pair[1] >= head]
        tokens, iou = min(enough) if enough else max(tried)
        (reached if enough else beyond).append(tokens)
        text.append(f"{name} {'' if enough else 'more than '}{tokens:.0f} (IoU {iou:.3f})")
    why = (
        f"tokens to bring a mask back with at least the learned head's IoU of {head:.3f}: {', '.join(text)}; "
        "a head with worse masks is matched by fewer"
    )
    if min(reached, default=math.inf) > TOKENS >= min(beyond, default=math.inf):
        raise Missing(f"too few tokens were tried to say more: {why}")
    return counted(min(reached + beyond) > TOKENS, [SPEED], why)


def contours(e: Evidence) -> Verdict:
    """Masks, those with holes among them, come back from no contour in text with 0.9 of their area."""
    found = e.metric(SPEED, "round_trip_iou")
    kept = {
        row: point(iou) for row, iou in found.items() if row.endswith(", mask") and not row.startswith("Perception")
    }
    if not kept:
        raise Missing(f"{SPEED} has sent no mask through text", SPEED)
    text = ", ".join(f"{row.removesuffix(', mask')} {iou:.3f}" for row, iou in kept.items())
    why = f"mean IoU of masks that come back from their contours, each hole having one of its own: {text}"
    return counted(max(kept.values()) < CLOSE, [SPEED], why)


def one_token(e: Evidence) -> Verdict:
    """Table 4: one token for a box and for a mask, from which unseen ones come back with a mean IoU above one half.

    The bar asks that a region comes back at all. How precisely is judged by `precise` and `mask_embedding`.
    """
    row = e.table("table4").get(ROWS[2], {})
    kinds = {kind: (row.get(kind), row.get(f"{kind} IoU")) for kind in ("box", "mask")}
    if any(None in found for found in kinds.values()):
        raise Missing(f"our table4 lacks tokens or IoU of {ROWS[2]}", "table4")
    told = [f"a {k} takes {point(n):.0f} and comes back with IoU {point(iou):.3f}" for k, (n, iou) in kinds.items()]
    holds = all(point(count) == 1 and point(iou) > HIT for count, iou in kinds.values())
    bar = f"the bar is a mean IoU above {HIT}: how precisely they come back is judged by precise and mask-embedding"
    return counted(holds, ["table4"], f"tokens counted: {'; '.join(told)}; {bar}")


def mask_embedding(e: Evidence) -> Verdict:
    """The best mask auto-encoder reaches 0.9 of what its training targets, shares of the grid's cells, score."""
    best, target = max(e.metric(HEADS, "mask_iou").values(), key=point), e.metric(HEADS, "mask_grid_bound")
    why = f"unseen masks come back with IoU {point(best):.3f}; the training target itself scores {point(target):.3f}"
    row = e.report["tables"].get("table4", {}).get("ours", {}).get(ROWS[2], {})
    if row.get("mask IoU") is not None:
        why += f"; the head that notebook 09 measures keeps {point(row['mask IoU']):.3f}"
    return judged([over(best, target, share=CLOSE, touching=True)], [HEADS], why)


def reads_regions(e: Evidence) -> Verdict:
    """Captions of a given region follow that region, not another."""
    scores = e.metric(MAIN, "region_caption")
    if any(scores.get(k) is None for k in ("box", "mask", "wrong")):
        raise Missing(f"{MAIN} lacks region_caption: box, mask, wrong")
    given = {kind: scores[kind] for kind in ("box", "mask")}
    text = ", ".join(f"{point(value):.3f} from a {kind}" for kind, value in given.items())
    # `wrong` counts answers that are right for the region given though the picture suggests another.
    why = f"captions right: {text}, {point(scores['wrong']):.3f} where a region other than the expected one was given"
    return judged([over(v, 0.5) for v in (*given.values(), scores["wrong"])], [MAIN], why)


def decides_when(e: Evidence) -> Verdict:
    """A region nearly always where one is asked for, nearly never in captions and answers that need none.

    Expressions of nothing ask for a region that is not there. The paper has none: their rate is told, not judged.
    """
    emitted, false = e.metric(MAIN, "emission_rate"), e.metric(MAIN, "false_vis")
    rates = {task: rate for task in ASKED if (rate := false.get(task)) is not None}
    if not rates:
        raise Missing(f"{MAIN} has no false_vis rate of {' or '.join(ASKED)}")
    text = ", ".join(f"{task} {point(rate):.3f}" for task, rate in rates.items())
    if false.get("none") is not None:
        text += f"; of expressions of nothing, which the paper has not: {point(false['none']):.3f}"
    sides = [over(emitted, 0.95, touching=True), *(over(0.05, rate, touching=True) for rate in rates.values())]
    return judged(sides, [MAIN], f"a region where asked for in {point(emitted):.3f}; where none is asked for: {text}")


def detects(e: Evidence) -> Verdict:
    """REC is above one half, and above what any object of the scene would score."""
    own, other = e.metric(MAIN, "acc@0.5"), e.metric(MAIN, "shuffled", "acc@0.5")
    why = f"acc@0.5 {point(own):.3f}, and {point(other):.3f} with the expressions exchanged"
    return judged([over(own, 0.5), over(own, other)], [MAIN], why)


def segments(e: Evidence) -> Verdict:
    """RES exceeds the predicted boxes filled."""
    own, filled = e.metric(MAIN, "ciou"), e.metric(MAIN, "filled_ciou", "predicted_box")
    why = f"ciou {point(own):.3f}, and {point(filled):.3f} of the predicted boxes filled"
    return judged([over(own, filled)], [MAIN], why)


def other_signals(e: Evidence) -> Verdict:
    """Depth is better than the best constant."""
    error, constant = e.metric(MAIN, "depth", "mae"), e.metric(MAIN, "depth", "constant_mae")
    why = f"depth errs by {point(error):.4f}, the best constant by {point(constant):.4f}"
    return judged([over(constant, error)], [MAIN], why)


def competitive(e: Evidence) -> Verdict:
    """REC on the real RefCOCO within 1 point of Shikra-7B's, or above."""
    return _competes(e, "acc@0.5", "table2", "Shikra-7B")


def competitive_masks(e: Evidence) -> Verdict:
    """RES on the real RefCOCO within 1 point of LISA's, or above.

    LISA is the strongest other row of table 3, the one other language model there, and the one that section 4.3 calls
    the paper's model on par with; that SAM stands beside it makes the claim no easier.
    """
    return _competes(e, "ciou", "table3", "LISA")


def _competes(e: Evidence, key: str, table: str, peer: str) -> Verdict:
    """A score on the real RefCOCO within 1 point of what a table of the paper gives another model, or above."""
    if "refcoco/val" not in e.report["metrics"]:
        raise Missing("needs RefCOCO's photographs and a 7B model; the report has no refcoco/val")
    own = e.metric("refcoco/val", key)
    theirs = float(paper_table(table)["rows"][peer]["refcoco/val"])
    why = f"{key} on RefCOCO val {100 * point(own):.1f} %, {peer} as published {theirs:.1f} %"
    return judged([over(own, (theirs - 1) / 100, touching=True)], ["refcoco/val", table], why)


def decode_shares(e: Evidence) -> Verdict:
    """Notebook 09 predicts the times of a 7B model: that may explain the shares, and tests nothing."""
    predicted: dict[str, list[float]] = {}
    for name, share in e.metric(SPEED, "mask_share_predicted").items():
        other, _, cache = name.split(", ")
        predicted.setdefault(f"of {other}, {'with' if cache == 'cache True' else 'without'} a cache", []).append(share)
    text = "; ".join(f"{min(found):.1%} to {max(found):.1%} {name}" for name, found in predicted.items())
    return Verdict(NOT_MEASURABLE, (SPEED,), f"no 7B model decodes here; predicted, by card: {text}")


def _never(why: str, _: Evidence) -> Verdict:
    raise Missing(why)


RULES: dict[str, Callable[[Evidence], Verdict]] = {
    "precise": precise,
    "easier-training": sweep_rules.easier_training,
    "four-percent": sweep_rules.four_percent,
    "quarter-time": sweep_rules.quarter_time,
    "fast-decoding": fast_decoding,
    "improves": partial(_never, "a comparison of 7B models on real photographs, none of which is trained here"),
    "end-to-end": end_to_end,
    "full-tuning-needed": sweep_rules.full_tuning_needed,
    "costly-predecessors": partial(_never, "a figure of other people's training runs, which are not repeated here"),
    "two-stage-limits": partial(_never, "about systems with a vision expert, none of which is run here"),
    "redundant-tokens": redundant_tokens,
    "contours": contours,
    "one-token": one_token,
    "mask-embedding": mask_embedding,
    "reads-regions": reads_regions,
    "decides-when": decides_when,
    "box-loss": sweep_rules.box_loss,
    "mask-loss": sweep_rules.mask_loss,
    "detects": detects,
    "segments": segments,
    "other-signals": other_signals,
    "competitive": competitive,
    "competitive-masks": competitive_masks,
    "lora-keeps-knowledge": sweep_rules.lora_keeps,
    "larger-model": partial(_never, "the bundled language model has one width; 13B and 7B do not run here"),
    "less-data": sweep_rules.less_data,
    "layer-fusion": fusion_rules.layer_fusion,
    "layers-by-task": fusion_rules.layers_by_task,
    "decode-shares": decode_shares,
    "lora-suffices": sweep_rules.lora_suffices,
}
