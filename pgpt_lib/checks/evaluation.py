"""Checks of notebook 06: scores in which a missing answer counts."""

from __future__ import annotations

import numpy as np

from .base import Case, Function, Mistake, examine

Box = tuple[float, float, float, float]


def check_acc_at_half(solution: Function, seed: int = 0) -> None:
    """`solution(ious)` -> Acc@0.5: the share of answers with IoU above 0.5; None is an answer without a region."""
    rng = np.random.default_rng(seed)
    high, low = rng.uniform(0.55, 0.95, 7).tolist(), rng.uniform(0.05, 0.45, 4).tolist()
    mixed = [*high, *low, 0.0, 0.5]
    rng.shuffle(mixed)
    cases = [
        Case("answers with and without a hit", (mixed,)),
        Case("missing answers", ([*mixed, None, None, None],)),
        Case("nothing but missing answers", ([None, None],)),
    ]

    def filled(ious: list[float | None]) -> np.ndarray:
        return np.array([iou or 0.0 for iou in ious])

    def answered(ious: list[float | None]) -> np.ndarray:
        return np.array([iou for iou in ious if iou is not None])

    def share(hits: np.ndarray) -> float:
        return float(hits.sum() / max(len(hits), 1))

    examine(
        "Acc@0.5",
        solution,
        lambda x: share(filled(x) > 0.5),
        cases,
        [
            Mistake(
                "missing answers are left out; they count as wrong, or a silent model would score best",
                lambda x: share(answered(x) > 0.5),
            ),
            Mistake(
                "an IoU of exactly 0.5 is no hit: the rule is above 0.5, strictly", lambda x: share(filled(x) >= 0.5)
            ),
            Mistake("this is the mean IoU: count the hits", lambda x: share(filled(x))),
            Mistake(
                "you return the number of hits: divide by the number of answers", lambda x: (filled(x) > 0.5).sum()
            ),
            Mistake("you return percent; a share lies in [0, 1]", lambda x: 100 * share(filled(x) > 0.5)),
            Mistake(
                "you count a missing answer as a hit", lambda x: share(np.array([i is None or i > 0.5 for i in x]))
            ),
            Mistake("you count the misses", lambda x: share(filled(x) <= 0.5)),
        ],
        forbidden=["pgpt_lib.metrics.summarise"],
    )


def check_free_running_miss(solution: Function, seed: int = 0) -> None:
    """`solution(predictions, truths)` -> (mean IoU, emission rate) of boxes (x1, y1, x2, y2).

    A prediction is None where the model, running freely, emitted no `<vis>`: its IoU is 0. The emission rate is the
    share of answers with a region, right or wrong.
    """
    rng = np.random.default_rng(seed)

    def box(left: float) -> Box:
        x, y, w, h = left + rng.uniform(0, 0.1), rng.uniform(0.1, 0.4), *rng.uniform(0.15, 0.3, 2)
        return float(x), float(y), float(x + w), float(y + h)

    truths = [box(0.1) for _ in range(6)]
    near = [tuple(v + 0.03 for v in truth) for truth in truths]
    cases = [
        Case("every answer with a region", (near, truths)),
        Case("answers without a region", ([near[0], None, near[2], None, near[4], None], truths)),
        Case("regions far from the truth", ([near[0], box(0.6), None, box(0.6), near[4], near[5]], truths)),
    ]

    def iou(a: Box | None, b: Box) -> float:
        if a is None:
            return 0.0
        shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
        return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)

    def pairs(predictions: list[Box | None], truths: list[Box]) -> np.ndarray:
        return np.array([iou(p, t) for p, t in zip(predictions, truths, strict=True)])

    def emitted(predictions: list[Box | None]) -> np.ndarray:
        return np.array([p is not None for p in predictions])

    def whole(predictions: list[Box | None], truths: list[Box]) -> np.ndarray:
        return pairs([p or (0.0, 0.0, 1.0, 1.0) for p in predictions], truths)

    examine(
        "scores with misses",
        solution,
        lambda p, t: (pairs(p, t).mean(), emitted(p).mean()),
        cases,
        [
            Mistake(
                "your mean leaves out answers without a region; each counts with IoU 0",
                lambda p, t: (pairs(p, t)[emitted(p)].mean(), emitted(p).mean()),
            ),
            Mistake(
                "your emission rate counts hits; a region in the wrong place was emitted too",
                lambda p, t: (pairs(p, t).mean(), (pairs(p, t) > 0.5).mean()),
            ),
            Mistake(
                "your emission rate counts hits; a region in the wrong place was emitted too",
                lambda p, t: (pairs(p, t).mean(), (pairs(p, t) > 0).mean()),
            ),
            Mistake(
                "you return the share of misses, not of emitted regions",
                lambda p, t: (pairs(p, t).mean(), 1 - emitted(p).mean()),
            ),
            Mistake(
                "you put the whole image in place of a missing region",
                lambda p, t: (whole(p, t).mean(), emitted(p).mean()),
            ),
            Mistake(
                "you count a missing region as perfect",
                lambda p, t: (np.where(emitted(p), pairs(p, t), 1.0).mean(), emitted(p).mean()),
            ),
            Mistake("your emission rate is 1 whatever was emitted", lambda p, t: (pairs(p, t).mean(), 1.0)),
            Mistake(
                "your results are in the wrong order: mean IoU first",
                lambda p, t: (emitted(p).mean(), pairs(p, t).mean()),
            ),
            Mistake(
                "you return the mean IoU alone: the emission rate is asked for as well, as a second result",
                lambda p, t: pairs(p, t).mean(),
            ),
        ],
        forbidden=["pgpt_lib.metrics.summarise", "pgpt_lib.evaluation.grounding.box_iou"],
    )


def check_ciou(solution: Function, seed: int = 0) -> None:
    """`solution(predicted, true)` -> (cIoU, mean IoU) of masks, lists of bitmaps [h, w]; a prediction may be None.

    cIoU divides all intersections together by all unions together. A missing mask has no intersection, and its union is
    the true mask.
    """
    rng = np.random.default_rng(seed)

    def square(side: int) -> np.ndarray:
        mask = np.zeros((30, 40), bool)
        y, x = int(rng.integers(1, 29 - side)), int(rng.integers(1, 39 - side))
        mask[y : y + side, x : x + side] = True
        return mask

    true = [square(side) for side in (22, 9, 5, 12)]
    moved = [np.roll(mask, (1, 2), (0, 1)) for mask in true]
    cases = [
        Case("every mask given", (moved, true)),
        Case("a small mask missing", ([moved[0], None, moved[2], moved[3]], true)),
        Case("the large mask missing", ([None, *moved[1:]], true)),
    ]

    def areas(
        predicted: list[np.ndarray | None], true: list[np.ndarray], union: Function
    ) -> tuple[np.ndarray, np.ndarray]:
        given = [np.zeros_like(t) if p is None else p for p, t in zip(predicted, true, strict=True)]
        both = [(p & t).sum() for p, t in zip(given, true, strict=True)]
        return np.array(both, float), np.array([union(p, t) for p, t in zip(given, true, strict=True)], float)

    def scores(
        result: Function = lambda i, u, kept: (i.sum() / u.sum(), (i / u).mean()),
        union: Function = lambda p, t: (p | t).sum(),
    ) -> Function:
        def score(predicted: list[np.ndarray | None], true: list[np.ndarray]) -> tuple[float, float]:
            kept = np.array([p is not None for p in predicted])
            return result(*areas(predicted, true, union), kept)

        return score

    examine(
        "cIoU and mean IoU",
        solution,
        scores(),
        cases,
        [
            Mistake(
                "your results are in the wrong order: cIoU first",
                scores(lambda i, u, k: ((i / u).mean(), i.sum() / u.sum())),
            ),
            Mistake(
                "both of your results are the mean IoU: cIoU sums before it divides",
                scores(lambda i, u, k: ((i / u).mean(),) * 2),
            ),
            Mistake(
                "both of your results are cIoU: the mean divides mask by mask",
                scores(lambda i, u, k: (i.sum() / u.sum(),) * 2),
            ),
            Mistake(
                "missing masks are left out: the true mask belongs into the union, and an IoU of 0 into the mean",
                scores(lambda i, u, k: (i[k].sum() / u[k].sum(), (i[k] / u[k]).mean())),
            ),
            Mistake(
                "your cIoU leaves missing masks out: the true mask belongs into the union",
                scores(lambda i, u, k: (i[k].sum() / u[k].sum(), (i / u).mean())),
            ),
            Mistake(
                "your mean leaves missing masks out; each counts with IoU 0",
                scores(lambda i, u, k: (i.sum() / u.sum(), (i[k] / u[k]).mean())),
            ),
            Mistake("your union counts the overlap twice", scores(union=lambda p, t: p.sum() + t.sum())),
            Mistake(
                "this is DICE: IoU divides the overlap by the union",
                scores(lambda i, u, k: (2 * i.sum() / u.sum(), (2 * i / u).mean()), lambda p, t: p.sum() + t.sum()),
            ),
            Mistake("you divide by the true area: that is recall", scores(union=lambda p, t: t.sum())),
            Mistake(
                "you return cIoU alone: the mean IoU is asked for as well, as a second result",
                scores(lambda i, u, k: i.sum() / u.sum()),
            ),
        ],
        forbidden=["pgpt_lib.masks.mask_iou", "pgpt_lib.masks.mask_overlap", "pgpt_lib.metrics.summarise"],
    )
