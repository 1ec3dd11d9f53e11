"""Metrics of referring expressions, each with a 95 % interval, from plain records: no model, no picture, no torch.

Every metric is a quotient of two sums over sentences, so one bootstrap over images serves all: sentences of one image
stand or fall together, and resampling images instead of sentences keeps the interval honest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

THRESHOLD = 0.5  # a box is right when its IoU is above this, strictly
MASK_THRESHOLDS = (0.5, 0.7, 0.9)
RESAMPLES = 1000
_BLOCK = 100  # draws made at once

Interval = list[float]  # [value, low, high]


@dataclass(frozen=True)
class SentenceRecord:
    """What a model did with one sentence.

    Attributes:
        image_id: the sentence's image; the bootstrap's unit.
        box_iou: IoU of the predicted box with the true one; 0 when none was given.
        emitted: whether a region was given.
        missing: whether there is no prediction at all (then nothing was emitted).
        mask: pixels in the intersection and the union of predicted and true mask; without a predicted mask
            (0, true area). None when the truth has no mask.
        mask_given: whether a mask was predicted.
    """

    image_id: str
    box_iou: float
    emitted: bool = True
    missing: bool = False
    mask: tuple[int, int] | None = None
    mask_given: bool = False


@dataclass(frozen=True)
class SetRecord:
    """What a model did with an expression of several targets: counts of boxes, pixels of the merged masks."""

    image_id: str
    matched: int
    predicted: int
    true: int
    mask: tuple[int, int] | None = None


def summarise(records: Sequence[SentenceRecord]) -> dict[str, int | Interval | None]:
    """The scores of a split: counts, and each metric as [value, low, high] or None where it does not apply.

    `acc@0.5`: share of sentences with box IoU above 0.5. `miou_box`: mean box IoU. `ciou`: intersections over unions,
    both summed over sentences. `miou_mask`: mean mask IoU. `p@k`: share of sentences with mask IoU above k.
    `emission_rate`: share of sentences with a region. The mask metrics are over the sentences whose truth has a mask,
    and None when no mask was predicted at all, or there is none to compare with.
    """
    images = [r.image_id for r in records]
    ones = np.ones(len(records))
    box = np.array([r.box_iou for r in records], np.float64)
    sums = {
        "acc@0.5": (box > THRESHOLD, ones),
        "miou_box": (box, ones),
        "emission_rate": (np.array([r.emitted for r in records]), ones),
    }
    masked = np.array([r.mask is not None for r in records], np.float64)
    if any(r.mask_given for r in records) and masked.any():
        pixels = np.array([r.mask or (0, 0) for r in records], np.float64)
        iou = pixels[:, 0] / np.maximum(pixels[:, 1], 1)
        sums |= {"ciou": (pixels[:, 0], pixels[:, 1]), "miou_mask": (iou, masked)}
        sums |= {f"p@{k}": (iou > k, masked) for k in MASK_THRESHOLDS}
    intervals = bootstrap(images, sums)
    keys = ("acc@0.5", "miou_box", "ciou", "miou_mask", *(f"p@{k}" for k in MASK_THRESHOLDS), "emission_rate")
    counts = {"n": len(records), "missing": sum(r.missing for r in records)}
    return {**counts, **{key: intervals.get(key) for key in keys}}


def summarise_sets(records: Sequence[SetRecord]) -> dict[str, int | Interval | None]:
    """Scores of expressions of several targets.

    `set_precision`: matched over predicted boxes; `set_recall`: matched over true boxes; `set_f1`: of both;
    `merged_iou`: mean over expressions of the IoU of all predicted with all true masks, None without masks.
    """
    matched, predicted, true = np.array([(r.matched, r.predicted, r.true) for r in records], float).reshape(-1, 3).T
    sums = {
        "set_precision": (matched, predicted),
        "set_recall": (matched, true),
        "set_f1": (2 * matched, predicted + true),
    }
    masked = np.array([r.mask is not None for r in records], np.float64)
    if masked.any():
        pixels = np.array([r.mask or (0, 0) for r in records], np.float64)
        sums["merged_iou"] = (pixels[:, 0] / np.maximum(pixels[:, 1], 1), masked)
    intervals = bootstrap([r.image_id for r in records], sums)
    return {"n": len(records), **{k: intervals.get(k) for k in ("set_precision", "set_recall", "set_f1", "merged_iou")}}


def rate(images: Sequence[str], hits: Iterable[float]) -> Interval | None:
    """The mean of `hits` (right or wrong, or a score), one an entry of `images`, with its interval over images."""
    values = np.asarray(list(hits), np.float64)
    return bootstrap(images, {"rate": (values, np.ones(len(values)))})["rate"]


def bootstrap(
    images: Sequence[str],
    sums: Mapping[str, tuple[np.ndarray, np.ndarray]],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval | None]:
    """Quotients of sums with their 95 % percentile intervals, images drawn with replacement.

    Args:
        images: N keys; entries of one key are drawn together. With one image only the interval has no width. Only
            which entries share a key matters, and the order in which keys first come: not how they are spelt.
        sums: name to (numerators [N], denominators [N]).
        resamples: how many draws.
        seed: of the draws, which are the same for every metric.

    Returns:
        name to [value, low, high], the value always inside; None where the denominators sum to 0.
    """
    keys, first, sorted_group = np.unique(np.asarray(images, dtype=str), return_index=True, return_inverse=True)
    group = np.argsort(np.argsort(first))[sorted_group]
    names = list(sums)
    columns = [np.asarray(column, np.float64) for name in names for column in sums[name]]
    totals = np.stack([np.bincount(group, column, len(keys)) for column in columns], axis=1)  # [images, 2 * names]
    rng = np.random.default_rng(seed)
    blocks = [min(_BLOCK, resamples - start) for start in range(0, resamples, _BLOCK)]  # bounds the memory
    drawn = np.concatenate([_draws(rng, size, len(keys)) @ totals for size in blocks])  # [resamples, 2 * names]
    result: dict[str, Interval | None] = {}
    for i, name in enumerate(names):
        numerator, denominator = (float(column.sum()) for column in columns[2 * i : 2 * i + 2])
        if denominator == 0:
            result[name] = None
            continue
        value = numerator / denominator
        usable = drawn[:, 2 * i + 1] > 0  # a draw may hold no image with a denominator
        quotients = drawn[usable, 2 * i] / drawn[usable, 2 * i + 1] if usable.any() else np.array([value])
        low, high = np.percentile(quotients, [2.5, 97.5])
        result[name] = [value, min(float(low), value), max(float(high), value)]
    return result


def _draws(rng: np.random.Generator, draws: int, images: int) -> np.ndarray:
    """How often each draw takes each image: float64 [draws, images], rows summing to `images`."""
    if not images:
        return np.zeros((draws, 0))
    chosen = rng.integers(images, size=(draws, images)) + images * np.arange(draws)[:, None]
    return np.bincount(chosen.ravel(), minlength=draws * images).reshape(draws, images).astype(np.float64)


def iou_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU [N, M] of boxes a [N, 4] and b [M, 4], xyxy in one frame, any unit; a box without area has IoU 0."""
    a, b = np.asarray(a, np.float64).reshape(-1, 1, 4), np.asarray(b, np.float64).reshape(1, -1, 4)
    sides = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    inter = sides.prod(-1)
    areas = [np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(-1) for boxes in (a, b)]
    union = areas[0] + areas[1] - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def iou_xywh(a: Sequence[float], b: Sequence[float]) -> float:
    """IoU of two COCO boxes [x, y, width, height]; 0 where one has no area or a negative side."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if min(width, height, a[2], a[3], b[2], b[3]) <= 0:
        return 0.0
    return width * height / (a[2] * a[3] + b[2] * b[3] - width * height)


def match_boxes(predicted: np.ndarray, true: np.ndarray, threshold: float = THRESHOLD) -> list[tuple[int, int]]:
    """One-to-one pairs (row of predicted [N, 4], row of true [M, 4]) with IoU above `threshold`, xyxy.

    As many pairs as possible, and among those sets of pairs one of the greatest summed IoU.
    """
    from scipy.optimize import linear_sum_assignment  # a quarter of a second to import, needed for sets only

    iou = iou_matrix(predicted, true)
    # A pair is worth 1 and a little: less than another pair altogether, so that their number comes first.
    worth = np.where(iou > threshold, 1 + iou / (1 + min(iou.shape)), 0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if iou[r, c] > threshold]
