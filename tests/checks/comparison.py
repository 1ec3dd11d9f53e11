"""Solutions of notebooks 07 and 08: location tokens, time to a score, shares of layers, paired differences."""

from __future__ import annotations

import math
import statistics

import numpy as np
import torch
from scipy import stats

from pgpt_lib.config import Coordinates
from pgpt_lib.regions import Region
from pgpt_lib.representations import get_representation
from pgpt_lib.sweeps.results import difference, reached


def tokens_plain(box, bins):
    x1, y1, x2, y2 = (min(int(v * bins), bins - 1) for v in box)
    return y1 * bins + x1, y2 * bins + x2


def tokens_numpy(box, bins):
    cells = np.floor(np.array(box).reshape(2, 2) * bins).clip(max=bins - 1)
    return tuple(cells @ [1, bins])


def tokens_search(box, bins):
    """Looks the cells up among their left borders."""
    column, row = (
        torch.bucketize(torch.tensor(box).double(), torch.arange(1, bins).double() / bins, right=True).view(2, 2).T
    )
    return tuple((row * bins + column).unbind())


def tokens_library(box, bins):
    written = get_representation("vocabulary", Coordinates(bins=bins), 10_000).write(Region(box), (100, 100))
    return tuple(int(part.split(">")[0]) for part in written.split("<loc_")[1:])


def tokens_falls_out(box, bins):
    x1, y1, x2, y2 = (int(v * bins) for v in box)
    return y1 * bins + x1, y2 * bins + x2


def tokens_rounded(box, bins):
    x1, y1, x2, y2 = (min(round(v * bins), bins - 1) for v in box)
    return y1 * bins + x1, y2 * bins + x2


def tokens_columns(box, bins):
    x1, y1, x2, y2 = box
    return tokens_plain((y1, x1, y2, x2), bins)


def time_loop(curve, level):
    for seconds, score in curve:
        if score >= level:
            return seconds
    return None


def time_numpy(curve, level):
    seconds, scores = np.array(curve).T
    there = scores >= level
    return seconds[there.argmax()] if there.any() else None


def time_smallest(curve, level):
    return min((seconds for seconds, score in curve if score >= level), default=None)


def time_library(curve, level):
    point = reached({"curve": [{"seconds": s, "acc@0.5": a} for s, a in curve]}, level)
    return point["seconds"] if point else None


def shares_norm(states, weights):
    parts = weights * states.norm(dim=-1).mean(dim=(0, 2))
    return parts / parts.sum()


def shares_loop(states, weights):
    parts = [w * states[:, i].pow(2).sum(-1).sqrt().mean() for i, w in enumerate(weights)]
    return [part / sum(parts) for part in parts]


def shares_numpy(states, weights):
    lengths = np.linalg.norm(states.numpy(), axis=3).swapaxes(0, 1).reshape(len(weights), -1).mean(1)
    return np.multiply(weights.numpy(), lengths) / np.dot(weights.numpy(), lengths)


def paired_statistics(a, b):
    gaps = [x - y for x, y in zip(a, b, strict=True)]
    half = stats.t.ppf(0.975, len(gaps) - 1) * statistics.stdev(gaps) / len(gaps) ** 0.5
    return statistics.mean(gaps), statistics.mean(gaps) - half, statistics.mean(gaps) + half


def paired_numpy(a, b):
    gaps = np.subtract(a, b)
    low, high = stats.t.interval(0.95, len(gaps) - 1, loc=gaps.mean(), scale=stats.sem(gaps))
    return gaps.mean(), low, high


def paired_test(a, b):
    """scipy's paired test knows the interval."""
    low, high = stats.ttest_rel(a, b).confidence_interval(0.95)
    return (low + high) / 2, low, high


def paired_loose(a, b):
    middle = np.mean(a) - np.mean(b)
    half = stats.t.ppf(0.975, 2 * len(a) - 2) * math.sqrt((np.var(a, ddof=1) + np.var(b, ddof=1)) / len(a))
    return middle, middle - half, middle + half


def paired_with(factor, ddof=1):
    def interval(a, b):
        gaps = np.subtract(a, b)
        half = factor(len(gaps)) * gaps.std(ddof=ddof) / math.sqrt(len(gaps))
        return gaps.mean(), gaps.mean() - half, gaps.mean() + half

    return interval


def paired_library(a, b):
    sides = [[{"cell": {"seed": i}, "metrics": {"m": {"x": v}}} for i, v in enumerate(side)] for side in (a, b)]
    return tuple(difference(*sides, "m.x"))


RIGHT = {
    "check_location_tokens": [tokens_plain, tokens_numpy, tokens_search],
    "check_time_to_score": [time_loop, time_numpy, time_smallest],
    "check_layer_shares": [shares_norm, shares_loop, shares_numpy],
    "check_paired_interval": [paired_statistics, paired_numpy, paired_test],
}
WRONG = {
    "check_location_tokens": [
        (tokens_falls_out, "falls out of the grid"),
        (tokens_rounded, "cut off"),
        (lambda b, n: tuple(i % n * n + i // n for i in tokens_plain(b, n)), "column by column"),
        (lambda b, n: tuple(i + 1 for i in tokens_plain(b, n)), "counted from 1"),
        (lambda b, n: tokens_plain(b, n)[::-1], "wrong order"),
        (lambda b, n: tokens_plain((*b[:2], b[2] - b[0], b[3] - b[1]), n), "the box's size"),
        (lambda b, n: tokens_plain(b, n)[0], "you return one token"),
        (tokens_library, "calls spell"),
    ],
    "check_time_to_score": [
        (lambda c, level: next((s for s, a in c if a > level), None), "equal to the level"),
        (lambda c, level: next((s for s, a in c if a >= level), c[-1][0]), "not the end of the training"),
        (lambda c, level: next((s for s, a in c if a >= level), 0), "not 0"),
        (lambda c, level: next((i for i, (_, a) in enumerate(c) if a >= level), None), "the number of the point"),
        (lambda c, level: next((a for _, a in c if a >= level), None), "the score, not the seconds"),
        (lambda c, level: min(c, key=lambda p: abs(p[1] - level))[0], "nearest to the level"),
        (time_library, "calls reached"),
    ],
    "check_layer_shares": [
        (lambda x, w: w, "the layers' lengths are left out"),
        (lambda x, w: shares_norm(x, torch.ones_like(w)), "the weights are left out"),
        (lambda x, w: w * x.norm(dim=-1).mean((0, 2)), "do not add up to 1"),
        (lambda x, w: shares_norm(x, w * x.mean((0, 2)).norm(dim=-1) / x.norm(dim=-1).mean((0, 2))), "mean token"),
        (lambda x, w: shares_norm(x, w / x.norm(dim=-1).mean((0, 2)) ** 2), "weighs more, not less"),
        (lambda x, w: (w * x.norm(dim=-1).mean((0, 2))).softmax(0), "a softmax of the parts"),
        (lambda x, w: w[:, None] * x.norm(dim=-1).mean(0), "a share for each token"),
    ],
    "check_paired_interval": [
        (paired_loose, "share their seed"),
        (paired_with(lambda n: 1.96), "1.96 belongs"),
        (paired_with(lambda n: stats.t.ppf(0.975, n)), "n - 1 degrees of freedom"),
        (paired_with(lambda n: stats.t.ppf(0.95, n - 1)), "2.5 % on each"),
        (paired_with(lambda n: stats.t.ppf(0.975, n - 1), ddof=0), "divides by n"),
        (paired_with(lambda n: stats.t.ppf(0.975, n - 1) * n**0.5), "of one seed"),
        (lambda a, b: paired_numpy(b, a), "b - a"),
        (paired_library, "calls difference"),
    ],
}
