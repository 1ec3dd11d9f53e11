"""Checks of notebooks 07 and 08: location tokens, time to a score, shares of layers, and differences between runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor

from .base import Case, Function, Mistake, examine

Box = tuple[float, float, float, float]
Curve = list[tuple[float, float]]


def check_location_tokens(solution: Function, seed: int = 0) -> None:
    """`solution(box, bins)` -> (i, j): the numbers of the location tokens of a box's corners (x1, y1) and (x2, y2).

    The picture, [0, 1] by [0, 1], is cut into `bins` by `bins` cells, counted row by row from the upper left, from 0.
    A corner on the lower or right border belongs to the last cell.
    """
    rng = np.random.default_rng(seed)

    def draw(bins: int) -> tuple[Box, int]:
        # Corners lie in the second half of their cells, so that rounding gives another cell than cutting off.
        left, top = rng.integers(1, bins // 2 - 1), rng.integers(bins // 2, bins - 4)
        right, bottom = left + rng.integers(3, bins // 3 + 3), top + rng.integers(1, 3)
        x1, y1, x2, y2 = ((v + rng.uniform(0.6, 0.9)) / bins for v in (left, top, right, bottom))
        return (float(x1), float(y1), float(x2), float(y2)), bins

    whole: Box = (0.0, 0.0, 1.0, 1.0)
    cases = [
        Case("boxes within the picture", draw(32)),
        Case("a coarser grid", draw(16)),
        Case("a box that is the whole picture", (whole, 32)),
    ]

    def cells(number: Function, cell: Function = lambda v, bins: min(int(v * bins), bins - 1)) -> Function:
        def tokens(box: Box, bins: int) -> tuple[int, ...]:
            x1, y1, x2, y2 = (cell(v, bins) for v in box)
            return number(x1, y1, bins), number(x2, y2, bins)

        return tokens

    def by_rows(column: int, row: int, bins: int) -> int:
        return row * bins + column

    def by_size(box: Box, bins: int) -> tuple[int, ...]:
        x1, y1, x2, y2 = box
        return tuple(cells(by_rows)((x1, y1, x2 - x1, y2 - y1), bins))

    examine(
        "location tokens",
        solution,
        cells(by_rows),
        cases,
        [
            Mistake(
                "a corner on the border falls out of the grid: it belongs to the last cell",
                cells(by_rows, lambda v, bins: int(v * bins)),
            ),
            Mistake(
                "your cells are counted column by column: a row has `bins` cells", cells(lambda c, r, n: c * n + r)
            ),
            Mistake(
                "you round to the nearest line of the grid; a point lies in the cell that it is in, so cut off",
                cells(by_rows, lambda v, bins: min(round(v * bins), bins - 1)),
            ),
            Mistake("your cells are counted from 1; the first is 0", cells(lambda c, r, n: r * n + c + 1)),
            Mistake(
                "you multiply by bins - 1, as if points lay on lines: the cells are `bins` in a row",
                cells(by_rows, lambda v, bins: int(v * (bins - 1))),
            ),
            Mistake("your second token is the box's size, not its lower right corner", by_size),
            Mistake(
                "you read corners as (y, x): the box is x1, y1, x2, y2",
                lambda box, bins: cells(by_rows)((box[1], box[0], box[3], box[2]), bins),
            ),
            Mistake(
                "you return one token: a box has two, for its upper left and its lower right corner",
                lambda box, bins: cells(by_rows)(box, bins)[0],
            ),
            Mistake(
                "your tokens are in the wrong order: the upper left corner comes first",
                lambda box, bins: cells(by_rows)(box, bins)[::-1],
            ),
        ],
        tolerance=1e-9,
        forbidden=["pgpt_lib.representations.vocabulary.Vocabulary.spell"],
    )


def check_time_to_score(solution: Function, seed: int = 0) -> None:
    """`solution(curve, level)` -> the seconds of the first point whose score is at least `level`; None without one.

    `curve` is a list of (seconds, score), by seconds; scores need not rise at every point.
    """
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(3, 9, 7)).round(2).tolist()
    dips = [0.05, 0.18, 0.31, 0.24, 0.42, 0.38, 0.47]
    curve = list(zip(times, (np.array(dips) + rng.uniform(0, 0.01, 7).round(4)).tolist(), strict=True))
    cases = [
        Case("a level that is passed, lost and passed again", (curve, 0.26)),
        Case("a level that is met exactly", (curve, curve[1][1])),
        Case("a level that is never reached", (curve, 0.9)),
    ]

    def first(points: Curve, level: float) -> float | None:
        return next((seconds for seconds, score in points if score >= level), None)

    def index(points: Curve, level: float) -> int | None:
        return next((i for i, (_, score) in enumerate(points) if score >= level), None)

    def last(points: Curve, level: float) -> float | None:
        before, found = 0.0, None
        for seconds, score in points:
            found = seconds if score >= level > before else found
            before = score
        return found

    def nearest(points: Curve, level: float) -> float:
        return min(points, key=lambda p: abs(p[1] - level))[0]

    def between(points: Curve, level: float) -> float | None:
        before = (0.0, 0.0)
        for seconds, score in points:
            if score >= level:
                share = (level - before[1]) / (score - before[1])
                return before[0] + share * (seconds - before[0])
            before = seconds, score
        return None

    examine(
        "time to a score",
        solution,
        first,
        cases,
        [
            Mistake(
                "a curve that never gets there has no time: return None, not the end of the training",
                lambda points, level: found if (found := first(points, level)) is not None else points[-1][0],
            ),
            Mistake(
                "a curve that never gets there has no time: return None, not 0",
                lambda points, level: first(points, level) or 0.0,
            ),
            Mistake(
                "a score equal to the level has reached it",
                lambda points, level: next((s for s, score in points if score > level), None),
            ),
            Mistake("you return the last time that the level was passed; the first is meant", last),
            Mistake("you return the point whose score is nearest to the level", nearest),
            Mistake("you return the number of the point, not its seconds", index),
            Mistake(
                "you return the score, not the seconds",
                lambda points, level: next((score for _, score in points if score >= level), None),
            ),
            Mistake("you interpolate between points; only what was measured counts here", between),
        ],
        tolerance=1e-9,
        forbidden=["pgpt_lib.sweeps.results.reached"],
    )


def check_layer_shares(solution: Function, seed: int = 0) -> None:
    """`solution(hidden_states[B, L, N, C], weights[L])` -> [L]: each layer's share of the weighted sum, adding up to 1.

    A layer's part is its weight times the mean length of its tokens (the norm over channels); its share is that part
    over the sum of all parts. The library holds no such function, so none is forbidden.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = 5
    scale = torch.tensor([1.0, 2.0, 5.0, 11.0, 30.0])[torch.randperm(layers, generator=generator)]
    varied = torch.rand(2, layers, 6, 1, generator=generator) + 0.2  # tokens of one layer differ in length
    states = torch.randn(2, layers, 6, 4, generator=generator) * scale[None, :, None, None] * varied
    even = torch.full((layers,), 1 / layers)
    learned = torch.randn(layers, generator=generator).softmax(0)
    cases = [Case("equal weights", (states, even)), Case("learned weights", (states, learned))]

    def shares(length: Function) -> Function:
        def share(x: Tensor, w: Tensor) -> Tensor:
            parts = w * length(x)
            return parts / parts.sum()

        return share

    def lengths(x: Tensor) -> Tensor:
        return x.norm(dim=-1).mean((0, 2))

    examine(
        "shares of layers",
        solution,
        shares(lengths),
        cases,
        [
            Mistake("these are the weights: the layers' lengths are left out", lambda x, w: w + 0 * lengths(x)),
            Mistake("these are the lengths: the weights are left out", lambda x, w: lengths(x) / lengths(x).sum()),
            Mistake("your shares do not add up to 1: divide by their sum", lambda x, w: w * lengths(x)),
            Mistake("you take squared lengths", shares(lambda x: x.square().sum(-1).mean((0, 2)))),
            Mistake("you take the root of the mean square, not the mean length of the tokens",
                    shares(lambda x: x.square().sum(-1).mean((0, 2)).sqrt())),
            Mistake("you take the length of the mean token, in which tokens cancel: first the lengths, then their mean",
                    shares(lambda x: x.mean((0, 2)).norm(dim=-1))),
            Mistake("you take the mean of the numbers, which is near 0 for any layer: the length is the norm",
                    shares(lambda x: x.mean((0, 2, 3)))),
            Mistake("you divide by the lengths: a long layer weighs more, not less", shares(lambda x: 1 / lengths(x))),
            Mistake("you take a softmax of the parts; a share is a part over the sum of the parts",
                    lambda x, w: (w * lengths(x)).softmax(0)),
            Mistake("you have a share for each token: a layer has one, so take the mean over its tokens first",
                    lambda x, w: w[:, None] * x.norm(dim=-1).mean(0)),
        ],
    )  # fmt: skip


def check_paired_interval(solution: Function, seed: int = 0) -> None:
    """`solution(a, b)` -> (mean, low, high): the mean of a - b over seeds, with its 95 % interval by Student's t.

    `a[i]` and `b[i]` share their seed. With differences d of n seeds, standard deviation s (n - 1 in its
    denominator), the half width is t(0.975; n - 1) s / sqrt(n).
    """
    rng = np.random.default_rng(seed)

    def draw(count: int) -> tuple[list[float], list[float]]:
        common = rng.uniform(0.3, 0.7, count)  # what a seed does to both sides
        return (common + rng.uniform(0.04, 0.08, count)).tolist(), (common - rng.uniform(0.0, 0.02, count)).tolist()

    cases = [Case("three seeds", draw(3)), Case("ten seeds", draw(10)), Case("sides exchanged", draw(4)[::-1])]

    def interval(
        spread: Function = statistics.stdev, factor: Function = lambda n: student.ppf(0.975, n - 1)
    ) -> Function:
        def of(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
            gaps = [x - y for x, y in zip(a, b, strict=True)]
            middle, half = statistics.fmean(gaps), factor(len(gaps)) * spread(gaps) / math.sqrt(len(gaps))
            return middle, middle - half, middle + half

        return of

    def unpaired(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
        middle, count = statistics.fmean(a) - statistics.fmean(b), len(a)
        spread = math.sqrt((statistics.variance(a) + statistics.variance(b)) / count)
        half = float(student.ppf(0.975, 2 * count - 2)) * spread
        return middle, middle - half, middle + half

    def unpaired_same(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
        middle, count = statistics.fmean(a) - statistics.fmean(b), len(a)
        half = float(student.ppf(0.975, count - 1)) * math.sqrt(
            (statistics.variance(a) + statistics.variance(b)) / count
        )
        return middle, middle - half, middle + half

    why = "you leave out that a[i] and b[i] share their seed: take differences first, then their spread"
    examine(
        "paired interval",
        solution,
        interval(),
        cases,
        [
            Mistake(why, unpaired),
            Mistake(why, unpaired_same),
            Mistake("1.96 belongs to many seeds; with few take Student's t with n - 1 degrees of freedom",
                    interval(factor=lambda n: 1.96)),
            Mistake("Student's t has n - 1 degrees of freedom here, not n",
                    interval(factor=lambda n: student.ppf(0.975, n))),
            Mistake("0.95 leaves 5 % on one side; an interval of 95 % leaves 2.5 % on each: t(0.975)",
                    interval(factor=lambda n: student.ppf(0.95, n - 1))),
            Mistake("your standard deviation divides by n; for a sample it is n - 1", interval(statistics.pstdev)),
            Mistake("your interval is that of one seed: divide by the root of their number",
                    interval(factor=lambda n: student.ppf(0.975, n - 1) * math.sqrt(n))),
            Mistake("you take b - a; the gain of a over b is meant", lambda a, b: interval()(b, a)),
            Mistake("that is the range of the differences, not an interval of their mean",
                    lambda a, b: (statistics.fmean(d := [x - y for x, y in zip(a, b, strict=True)]), min(d), max(d))),
        ],
        forbidden=["pgpt_lib.sweeps.results.difference", "pgpt_lib.sweeps.results.contrast"],
    )  # fmt: skip
