"""Checks of notebook 10: tests that would have caught the released code's faults, and the line in Table 7.

Here a solution is itself a test: it is given an implementation and says whether that is right. It must let right ones
pass, however they are written, and turn down each wrong one.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .base import Case, CheckFailed, Function, Mistake, examine, guarded, passed


def check_giou_test(solution: Function, seed: int = 0) -> None:
    """`solution(giou)` -> True where `giou(a, b)` computes generalised IoU, False where it does not.

    `giou` takes boxes a, b [N, 4] as (x1, y1, x2, y2), floats with x1 < x2 and y1 < y2, and returns [N]. The released
    code reads the corners as centre and size. Notebook 03's check is such a test, and forbidden.
    """

    def giou(a: Tensor, b: Tensor) -> Tensor:
        return iou(a, b) - 1 + _union(a, b) / _area(torch.minimum(a, b)[:, :2], torch.maximum(a, b)[:, 2:])

    def iou(a: Tensor, b: Tensor) -> Tensor:
        return _shared(a, b) / _union(a, b)

    def unclamped(a: Tensor, b: Tensor) -> Tensor:
        low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
        shared = (high - low).prod(1)
        union = _area(a[:, :2], a[:, 2:]) + _area(b[:, :2], b[:, 2:]) - shared
        return shared / union - 1 + union / _area(torch.minimum(a, b)[:, :2], torch.maximum(a, b)[:, 2:])

    def loops(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([giou(x[None], y[None]) for x, y in zip(a, b, strict=True)])

    _judge(
        "a test of GIoU",
        solution,
        right={"a plain GIoU": giou, "one in double precision": lambda a, b: giou(a.double(), b.double()),
               "one box at a time": loops, "one that is 1e-7 off by rounding": lambda a, b: giou(a, b) - 1e-7},
        wrong={
            "the released code's, which reads corners as centre and size": lambda a, b: giou(_corners(a), _corners(b)),
            "one that reads corners as corner and size": lambda a, b: giou(_sized(a), _sized(b)),
            "plain IoU": iou,
            "the loss, 1 - GIoU": lambda a, b: 1 - giou(a, b),
            "one whose overlap may be a product of two negative sides": unclamped,
            "one that is always 1": lambda a, b: torch.ones(len(a)),
            "DIoU, which punishes the distance of the centres": lambda a, b: iou(a, b) - _distance(a, b),
        },
        forbidden=["pgpt_lib.boxes.generalized_iou", "pgpt_lib.losses.giou_loss", "pgpt_lib.checks.losses.check_giou"],
        seed=seed,
        refuses="is what you expect of your pairs right, and compared with a tolerance?",
    )  # fmt: skip


def check_code_test(solution: Function, seed: int = 0) -> None:
    """`solution(code)` -> True where every cell's code [g * g, C] differs from all others, False where two agree.

    Codes that differ by less than 1e-4 in every channel agree. Notebook 02's check looks for more than that; it is
    forbidden all the same.
    """
    rng = torch.Generator().manual_seed(seed)
    grid = int(torch.randint(5, 9, (), generator=rng))
    size = 4 * int(torch.randint(6, 12, (), generator=rng))
    axis = torch.linspace(0, 1, grid)
    waves = torch.cat([(k * np.pi * axis[:, None]).cos() for k in range(1, size // 2 + 1)], dim=1)
    x = waves[None].expand(grid, grid, -1).reshape(grid * grid, -1)
    y = waves[:, None].expand(grid, grid, -1).reshape(grid * grid, -1)
    scattered = torch.randn(grid * grid, size, generator=rng)
    twin, late = scattered.clone(), scattered.clone()
    twin[grid * grid - 1] = twin[0]
    late[1] = late[0] + 1e-6
    half = torch.cat([x, y * (x[:, :1] > x[:, :1].median())], dim=1)  # one half of the columns does not know its row
    near = torch.stack([torch.linspace(0, 1, grid * grid)] * 2, dim=1)  # all differ, by little

    def fed(code: Tensor) -> Function:
        return lambda: code.clone()

    right = {"waves along both axes": torch.cat([x, y], dim=1), "random codes": scattered, "a plain numbering": near,
             "one-hot codes": torch.eye(grid * grid)}  # fmt: skip
    wrong = {
        "a code with the rows left out": torch.cat([x, x], dim=1),
        "a code whose half does not know its row, as in the released decoder": half,
        "a code that is the same everywhere": torch.ones(grid * grid, size),
        "a code in which the first and the last cell agree": twin,
        "a code in which two cells differ by a rounding error": late,
        "a code of x plus y, which is the same along diagonals": _diagonal(grid, size),
    }
    _judge(
        "a test of position codes",
        solution,
        right={name: fed(code) for name, code in right.items()},
        wrong={name: fed(code) for name, code in wrong.items()},
        forbidden=["pgpt_lib.checks.grids.check_position_code"],
        seed=seed,
        refuses="do you leave out the diagonal, where each cell meets itself?",
        call=lambda given: solution(given()),
    )


def check_dice_test(solution: Function, seed: int = 0) -> None:
    """`solution(loss)` -> True where the DICE loss of a batch is the mean over its masks, False where it is not.

    `loss` takes logits [R, h, w] and masks [R, h, w] of zeros and ones, and returns one number.
    """

    def each(logits: Tensor, target: Tensor, eps: float = 1e-6) -> Tensor:
        p, t = logits.sigmoid().flatten(1), target.flatten(1)
        return 1 - (2 * (p * t).sum(1) + eps) / (p.sum(1) + t.sum(1) + eps)

    def pooled(logits: Tensor, target: Tensor) -> Tensor:
        return each(logits.reshape(1, 1, -1), target.reshape(1, 1, -1)).mean()

    def loops(logits: Tensor, target: Tensor) -> float:
        rows = [each(a[None], b[None]).item() for a, b in zip(logits, target, strict=True)]
        return sum(rows) / len(rows)

    def by_area(logits: Tensor, target: Tensor) -> Tensor:
        areas = target.flatten(1).sum(1) + 1
        return (each(logits, target) * areas).sum() / areas.sum()

    _judge(
        "a test of DICE",
        solution,
        right={"the mean over masks": lambda a, b: each(a, b).mean(), "a loop over masks": loops,
               "the mean with a larger constant": lambda a, b: each(a, b, 1e-3).mean()},
        wrong={
            "the released code's, which pools the batch": pooled,
            "the sum over masks": lambda a, b: each(a, b).sum(),
            "the first mask's loss": lambda a, b: each(a, b)[0],
            "the worst mask's loss": lambda a, b: each(a, b).max(),
            "a mean that weighs masks by their area": by_area,
            "the median over masks": lambda a, b: each(a, b).median(),
            "a loss that is always 0": lambda a, b: torch.zeros(()),
        },
        forbidden=["pgpt_lib.losses.dice_loss", "pgpt_lib.checks.losses.check_dice"],
        seed=seed,
        refuses="is what you expect of your masks right, and compared with a tolerance?",
    )  # fmt: skip


def check_token_line(solution: Function, seed: int = 0) -> None:
    """`solution(tokens, seconds)` -> (start, per_token) of seconds = start + per_token x tokens, by least squares.

    The library fits no line. NumPy and SciPy do, and may: the exercise is what the line means.
    """
    rng = np.random.default_rng(seed)

    def draw(start: float, each: float) -> tuple[list[float], list[float]]:
        tokens = [1.0, 2.0, 25.0, 34.0, 385.0]
        return tokens, [start + each * n * float(rng.uniform(0.95, 1.05)) for n in tokens]

    cases = [Case("a start of its own", draw(0.4, 0.01)), Case("a start of nearly nothing", draw(0.02, 0.12))]

    def fit(tokens: Any, seconds: Any) -> tuple[float, float]:
        slope, start = np.polyfit(tokens, seconds, 1)
        return float(start), float(slope)

    def through_zero(tokens: Any, seconds: Any) -> tuple[float, float]:
        return 0.0, float(np.dot(tokens, seconds) / np.dot(tokens, tokens))

    def ends(tokens: Any, seconds: Any) -> tuple[float, float]:
        slope = (seconds[-1] - seconds[0]) / (tokens[-1] - tokens[0])
        return seconds[0] - slope * tokens[0], slope

    def relative(tokens: Any, seconds: Any) -> tuple[float, float]:
        slope, start = np.polyfit(tokens, seconds, 1, w=1 / np.asarray(seconds))
        return float(start), float(slope)

    examine(
        "seconds a token",
        solution,
        fit,
        cases,
        [
            Mistake("your results are in the wrong order: first the start, then the seconds a token",
                    lambda t, s: fit(t, s)[::-1]),
            Mistake("your line is forced through zero: the start is unknown too", through_zero),
            Mistake("you divide seconds by tokens and take the mean: a start would be counted as tokens",
                    lambda t, s: (0.0, float(np.mean(np.divide(s, t))))),
            Mistake("your line goes through the first and the last point alone", ends),
            Mistake("you have exchanged tokens and seconds", lambda t, s: fit(s, t)),
            Mistake("you weigh points by their seconds; all count alike here", relative),
            Mistake("that is tokens a second: turn it over", lambda t, s: (fit(t, s)[0], 1 / fit(t, s)[1])),
        ],
        tolerance=1e-6,
    )  # fmt: skip


def _judge(
    name: str,
    solution: Function,
    right: Mapping[str, Function],
    wrong: Mapping[str, Function],
    forbidden: tuple[str, ...] | list[str],
    seed: int,
    refuses: str,
    call: Function | None = None,
) -> None:
    """Give a test every implementation and compare its verdicts with the truth.

    Each is given twice, in an order that the seed draws and without its name, so that only what it computes tells right
    ones from wrong ones. `refuses` is asked of a test that turns all of them down.

    Raises:
        CheckFailed: it turns down a right one, lets a wrong one pass, changes its mind, or returns no verdict.
    """
    order = 2 * list({**right, **wrong}.items())
    random.Random(seed).shuffle(order)
    verdicts: dict[str, bool] = {}
    for what, given in order:
        found = guarded(partial(call or solution, _nameless(given)), what, forbidden)
        if found is None:
            raise CheckFailed(f"your test returned None for {what}: is the return statement missing?")
        if not isinstance(found, (bool, np.bool_)) and not (isinstance(found, Tensor) and found.dtype == torch.bool):
            raise CheckFailed(f"your test returned {type(found).__name__} for {what}: say True or False")
        if isinstance(found, Tensor) and found.numel() != 1:
            raise CheckFailed(f"your test returned {tuple(found.shape)} verdicts for {what}: say one, as with `.all()`")
        if verdicts.setdefault(what, bool(found)) != bool(found):
            raise CheckFailed(f"your test calls {what} right one time and wrong the other")
    if all(verdicts.values()):
        raise CheckFailed("your test lets everything pass")
    if not any(verdicts.values()):
        raise CheckFailed(f"your test turns everything down: {refuses}")
    if all(verdicts[what] != (what in right) for what in verdicts):
        raise CheckFailed("your verdicts are the wrong way round: True is for right ones")
    for what in right:
        if not verdicts[what]:
            raise CheckFailed(f"your test turns down {what}, which is right")
    for what in wrong:
        if verdicts[what]:
            raise CheckFailed(f"your test lets pass {what}")
    passed(name)


def _nameless(function: Function) -> Function:
    def given(*inputs: Any) -> Any:
        return function(*inputs)

    return given


def _area(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp(min=0).prod(1)


def _shared(a: Tensor, b: Tensor) -> Tensor:
    return _area(torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:]))


def _union(a: Tensor, b: Tensor) -> Tensor:
    return _area(a[:, :2], a[:, 2:]) + _area(b[:, :2], b[:, 2:]) - _shared(a, b)


def _corners(box: Tensor) -> Tensor:
    """Numbers taken for centre and size, as corners."""
    centre, size = box[:, :2], box[:, 2:]
    return torch.cat([centre - size / 2, centre + size / 2], dim=1)


def _sized(box: Tensor) -> Tensor:
    """Numbers taken for corner and size, as corners."""
    return torch.cat([box[:, :2], box[:, :2] + box[:, 2:]], dim=1)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of the centres over the squared diagonal of the enclosing box."""
    middles = (a[:, :2] + a[:, 2:] - b[:, :2] - b[:, 2:]) / 2
    hull = torch.maximum(a, b)[:, 2:] - torch.minimum(a, b)[:, :2]
    return middles.square().sum(1) / hull.square().sum(1)


def _diagonal(grid: int, size: int) -> Tensor:
    y, x = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    return ((x + y).reshape(-1, 1) * torch.linspace(0.1, 1, size)).cos()
