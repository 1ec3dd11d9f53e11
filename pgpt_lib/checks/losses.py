"""Checks of notebook 03: the losses of boxes and masks."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Case, Function, Mistake, examine


def check_giou(solution: Function, seed: int = 0) -> None:
    """`solution(a[N, 4], b[N, 4])` -> the generalised IoU [N] of boxes (x1, y1, x2, y2) in the same row."""
    generator = torch.Generator().manual_seed(seed)

    def boxes(left: float, right: float) -> Tensor:
        """Six boxes in [left, right] horizontally, anywhere vertically, at least 0.1 high and wide."""
        size = 0.1 + torch.rand(6, 2, generator=generator) * torch.tensor([right - left - 0.1, 0.5])
        room = torch.tensor([right - left, 1.0]) - size
        low = torch.tensor([left, 0.0]) + torch.rand(6, 2, generator=generator) * room
        return torch.cat([low, low + size], 1)

    outer = torch.tensor([[0.1, 0.2, 0.8, 0.9]]).expand(6, 4)
    inner = 0.3 + 0.1 * torch.rand(6, 4, generator=generator) + torch.tensor([0.0, 0.0, 0.2, 0.2])
    wide = torch.tensor([[0.1, 0.4, 0.9, 0.6]]) + 0.05 * torch.rand(6, 4, generator=generator)
    cases = [
        Case("overlapping boxes", (wide, wide[:, [1, 0, 3, 2]])),
        Case("nested boxes", (outer, inner)),
        Case("boxes that do not touch", (boxes(0.0, 0.4), boxes(0.5, 1.0))),
        Case("boxes apart in both directions", (boxes(0.0, 0.4), boxes(0.5, 1.0) + torch.tensor([0.0, 1.5, 0.0, 1.5]))),
        Case("boxes in pixels", (100 * wide, 100 * wide[:, [1, 0, 3, 2]] + 3)),
    ]

    def terms(a: Tensor, b: Tensor, cut: bool = True) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Overlap, union, enclosing area, and both areas added."""
        sides = torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])
        overlap = (sides.clamp(min=0) if cut else sides).prod(1)
        both = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1)
        hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
        return overlap, both - overlap, hull, both

    def of(formula: Function, cut: bool = True) -> Function:
        return lambda a, b: formula(*terms(a, b, cut))

    def right(overlap: Tensor, union: Tensor, hull: Tensor, both: Tensor) -> Tensor:
        return overlap / union - (hull - union) / hull

    def corners(boxes: Tensor) -> Tensor:
        return torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)

    examine(
        "generalised IoU",
        solution,
        of(right),
        cases,
        [
            Mistake(
                "your union counts the overlap twice: subtract it once", of(lambda o, u, h, s: o / s - (h - s) / h)
            ),
            Mistake(
                "your union counts the overlap twice: subtract it once", of(lambda o, u, h, s: o / s - (h - u) / h)
            ),
            Mistake(
                "this is plain IoU: the term of the enclosing box is missing, which gives boxes apart a gradient",
                of(lambda o, u, h, s: o / u),
            ),
            Mistake("this is the loss, 1 - GIoU; the exercise asks for GIoU itself", of(lambda *t: 1 - right(*t))),
            Mistake(
                "the sides of your overlap can be negative: cut them off at 0, or two negative sides make an area",
                of(right, cut=False),
            ),
            Mistake(
                "your boxes are read as centre and size, but they are corners: x1, y1, x2, y2",
                lambda a, b: of(right)(corners(a), corners(b)),
            ),
            Mistake(
                "you divide the uncovered area by the union; it is a share of the enclosing box",
                of(lambda o, u, h, s: o / u - (h - u) / u),
            ),
            Mistake(
                "you subtract the covered share of the enclosing box; subtract the share that is not covered",
                of(lambda o, u, h, s: o / u - u / h),
            ),
            Mistake(
                "you add the enclosing term; it is a penalty, subtract it", of(lambda o, u, h, s: o / u + (h - u) / h)
            ),
            Mistake(
                "you subtract the uncovered area itself; divide it by the enclosing box's area",
                of(lambda o, u, h, s: o / u - (h - u)),
            ),
        ],
        tolerance=1e-3,
        forbidden=["pgpt_lib.boxes.generalized_iou", "pgpt_lib.losses.giou_loss"],
    )


def check_dice(solution: Function, seed: int = 0) -> None:
    """`solution(logits[R, h, w], target[R, h, w])` -> the DICE loss, a mean over masks.

    With p = sigmoid(logits), DICE of a mask is 2 sum(p t) / (sum p + sum t); a small constant against division by zero
    is welcome.
    """
    generator = torch.Generator().manual_seed(seed)
    target = torch.zeros(3, 48, 48)
    corners = torch.randint(1, 6, (3, 2), generator=generator).tolist()
    for mask, (y, x), side in zip(target, corners, (40, 24, 14), strict=True):
        mask[y : y + side, x : x + side] = 1
    noise = torch.rand(target.shape, generator=generator)
    unsure = torch.logit((0.8 * target + 0.02) * noise + 0.15 * target + 0.001)
    missed = 16 * target - 8
    missed[2] = -8.0
    missed[2, 30:40, 30:40] = 8.0

    def each(formula: Function) -> Function:
        """A formula of each mask's overlap, probability and target, then the mean over masks."""

        def loss(logits: Tensor, t: Tensor) -> Tensor:
            p, t = logits.sigmoid().flatten(1), t.flatten(1)
            return formula((p * t).sum(1), p.sum(1), t.sum(1)).mean()

        return loss

    def dice(overlap: Tensor, p: Tensor, t: Tensor) -> Tensor:
        return 1 - 2 * overlap / (p + t)

    def pooled(logits: Tensor, t: Tensor) -> Tensor:
        return each(dice)(logits.flatten()[None], t.flatten()[None])

    def squared(logits: Tensor, t: Tensor) -> Tensor:
        p, t = logits.sigmoid().flatten(1), t.flatten(1)
        return (1 - 2 * (p * t).sum(1) / ((p * p).sum(1) + (t * t).sum(1))).mean()

    def no_sigmoid(x: Tensor, t: Tensor) -> Tensor:
        return dice((x * t).sum((1, 2)), x.sum((1, 2)), t.sum((1, 2))).mean()

    cases = [
        Case("a large mask that is right and a small one that is missed", (missed, target)),
        Case("logits near 0", (unsure, target)),
        Case("a single mask", (unsure[2:], target[2:])),
    ]
    mistakes = [
        Mistake("you pool all masks into one sum, so a large one hides a small one: divide mask by mask", pooled),
        Mistake("this is the DICE score; the loss is 1 minus it", each(lambda o, p, t: 2 * o / (p + t))),
        Mistake("the factor 2 is missing: a perfect mask must lose nothing", each(lambda o, p, t: 1 - o / (p + t))),
        Mistake(
            "this is the IoU loss: DICE divides twice the overlap by the sum of both areas",
            each(lambda o, p, t: 1 - o / (p + t - o)),
        ),
        Mistake("you squared the terms below the line: that is V-Net's variant, here plain sums are asked", squared),
        Mistake(
            "you add the masks' losses; take their mean, or a batch of many regions weighs more",
            lambda x, t: len(x) * each(dice)(x, t),
        ),
        Mistake(
            "you cut probabilities to 0 or 1 first: that has no gradient",
            lambda x, t: no_sigmoid((x > 0).float(), t),
        ),
        Mistake("you took logits for probabilities: a sigmoid is missing", no_sigmoid),
    ]
    forbidden = ["pgpt_lib.losses.dice_loss"]
    examine("DICE loss", solution, each(dice), cases, mistakes, tolerance=0.01, forbidden=forbidden)


def check_bce(solution: Function, seed: int = 0) -> None:
    """`solution(logits[R, h, w], target[R, h, w])` -> binary cross-entropy, a mean over all pixels.

    Targets may lie between 0 and 1 (a cell that is covered in part), and logits may be in the hundreds: the loss stays
    finite, and a confident mistake costs its logit.
    """
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 6, 7, generator=generator)
    hard = (torch.rand(logits.shape, generator=generator) < 0.3).float()
    soft = torch.rand(logits.shape, generator=generator)
    cases = [
        Case("zeros and ones", (logits, hard)),
        Case("cells that are covered in part", (logits, soft)),
        Case("logits in the hundreds", (150 * logits, hard)),
    ]

    def mean(formula: Function) -> Function:
        return lambda x, t: formula(x, t).mean()

    def right(x: Tensor, t: Tensor) -> Tensor:
        return torch.logaddexp(torch.zeros_like(x), x) - x * t

    def from_probability(p: Function, floor: float = 0.0) -> Function:
        def loss(x: Tensor, t: Tensor) -> Tensor:
            q = p(x).clamp(floor, 1 - floor) if floor else p(x)
            return -(t * q.log() + (1 - t) * (1 - q).log())

        return mean(loss)

    examine(
        "binary cross-entropy",
        solution,
        mean(right),
        cases,
        [
            Mistake(
                "your logarithm meets a probability of 0: compute with logits, where log sigmoid(x) = -softplus(-x)",
                from_probability(torch.sigmoid),
            ),
            *(
                Mistake(
                    "you cut probabilities off to save the logarithm: a confident mistake must cost its logit, and "
                    "where it is cut off there is no gradient",
                    from_probability(torch.sigmoid, floor),
                )
                for floor in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
            ),
            Mistake("you add the pixels up: take their mean", lambda x, t: right(x, t).sum()),
            Mistake(
                "only pixels of the object count in your loss: (1 - t) log(1 - p) is missing",
                mean(lambda x, t: t * torch.logaddexp(torch.zeros_like(x), -x)),
            ),
            Mistake(
                "only pixels of the background count in your loss: t log p is missing",
                mean(lambda x, t: (1 - t) * torch.logaddexp(torch.zeros_like(x), x)),
            ),
            Mistake("your loss has the wrong sign: it is minus the logarithm", mean(lambda x, t: -right(x, t))),
            Mistake("you took the sigmoid twice", mean(lambda x, t: right(x.sigmoid(), t))),
            Mistake(
                "your logarithm is to base 2: the natural one is meant", mean(lambda x, t: right(x, t) / 0.6931472)
            ),
            Mistake("you rounded the targets to 0 and 1", mean(lambda x, t: right(x, (t > 0.5).float()))),
        ],
        forbidden=[
            "pgpt_lib.losses.bce_loss",
            "torch.nn.functional.binary_cross_entropy_with_logits",
            "torch.nn.functional.binary_cross_entropy",
        ],
    )
