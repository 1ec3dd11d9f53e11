"""Solutions of notebook 10: tests of GIoU, of position codes and of DICE, and the line of Table 7."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from scipy.stats import linregress

from pgpt_lib import checks
from pgpt_lib.losses import dice_loss
from pgpt_lib.regions import generalized_iou


def by_check(check):
    """A notebook's check as the test: right is what it lets pass."""

    def test(given):
        try:
            check(given if callable(given) else lambda *inputs: given)
        except checks.CheckFailed:
            return False
        return True

    return test


def by_counting(right, wrong):
    """No test at all: of what it is given it lets the first pass, as many as are right, again and again."""
    calls = itertools.count()
    return lambda given: next(calls) % (right + wrong) < right


UNIT = torch.tensor([[0.0, 0.0, 1.0, 1.0]])


def giou_known(giou):
    """Three pairs by hand: equal, apart, half overlapping."""
    a = torch.tensor([[0.1, 0.1, 0.3, 0.3], [0.0, 0.0, 0.2, 0.2], [0.0, 0.0, 0.4, 0.4]])
    b = torch.tensor([[0.1, 0.1, 0.3, 0.3], [0.6, 0.6, 0.8, 0.8], [0.2, 0.0, 0.6, 0.4]])
    return torch.allclose(giou(a, b).float(), torch.tensor([1.0, 0.08 / 0.64 - 1, 1 / 3]), atol=1e-4)


def giou_corner(giou):
    """A box far away, where both sides of the overlap are negative, and one inside the other."""
    far = float(giou(UNIT / 10, UNIT / 10 + 0.5)[0])
    inner = float(giou(UNIT * 0.5, UNIT)[0])
    side = float(giou(torch.tensor([[0.2, 0.5, 0.4, 0.9]]), torch.tensor([[0.5, 0.5, 0.7, 0.9]]))[0])
    return abs(far - (0.02 / 0.36 - 1)) < 1e-3 and abs(inner - 0.25) < 1e-3 and abs(side - (-0.2)) < 1e-3


def giou_random(giou):
    """Against a plain computation, pair by pair."""
    rng = np.random.default_rng(3)
    low = rng.uniform(0, 0.6, (2, 50, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.05, 0.4, (2, 50, 2))], axis=2)
    want = []
    for (ax, ay, aw, ah), (bx, by, bw, bh) in zip(*boxes, strict=True):
        shared = max(0, min(aw, bw) - max(ax, bx)) * max(0, min(ah, bh) - max(ay, by))
        union = (aw - ax) * (ah - ay) + (bw - bx) * (bh - by) - shared
        hull = (max(aw, bw) - min(ax, bx)) * (max(ah, bh) - min(ay, by))
        want.append(shared / union - (hull - union) / hull)
    got = giou(*torch.tensor(boxes, dtype=torch.float32))
    return bool(np.allclose(got.numpy(), want, atol=1e-4))


def giou_with_library(giou):
    a, b = torch.tensor([[0.1, 0.2, 0.4, 0.5]]), torch.tensor([[0.5, 0.6, 0.9, 0.8]])
    return torch.allclose(giou(a, b).float(), generalized_iou(a, b))


def code_cdist(code):
    gaps = torch.cdist(code.double(), code.double(), p=float("inf"))
    return bool(gaps.fill_diagonal_(1).min() > 1e-4)


def code_loop(code):
    rows = code.tolist()
    for i, a in enumerate(rows):
        for b in rows[:i]:
            if max(abs(x - y) for x, y in zip(a, b, strict=True)) < 1e-4:
                return False
    return True


def code_broadcast(code):
    far = ((code[:, None] - code[None]).abs() > 1e-4).any(-1)
    return (far | torch.eye(len(code), dtype=torch.bool)).all()


def code_unique(code):
    return len(torch.unique(code, dim=0)) == len(code)


def masks():
    target = torch.zeros(2, 12, 12)
    target[0, :10, :10], target[1, :2, :2] = 1, 1
    return target


def dice_two(loss):
    """One large mask that is right, a small one that is missed."""
    target = masks()
    logits = torch.stack([12 * target[0] - 6, torch.full((12, 12), -6.0)])
    each = [float(loss(logits[i : i + 1], target[i : i + 1])) for i in range(2)]
    return abs(float(loss(logits, target)) - sum(each) / 2) < 1e-3 and each[1] > 0.5


def dice_random(loss):
    rng = torch.Generator().manual_seed(5)
    target = (torch.rand(5, 9, 9, generator=rng) < torch.tensor([0.05, 0.3, 0.6, 0.9, 0.5])[:, None, None]).float()
    logits = 6 * torch.randn(5, 9, 9, generator=rng)
    each = torch.tensor([float(loss(logits[i][None], target[i][None])) for i in range(5)])
    return bool((each.mean() - float(loss(logits, target))).abs() < 1e-3 and each.std() > 0.01)


def dice_by_hand(loss):
    """DICE of three masks at probability one half, as numbers."""
    target = torch.zeros(3, 4, 4)
    target[0, 0], target[1, :2], target[2] = 1, 1, 1
    want = np.mean([1 - 2 * (0.5 * k) / (8 + k) for k in (4, 8, 16)])
    uneven = torch.stack([torch.full((4, 4), 9.0), torch.full((4, 4), -9.0), torch.full((4, 4), 9.0)])
    there = np.mean([1 - 2 * 4 / 20, 1, 0])
    flat = float(loss(torch.zeros(3, 4, 4), target))
    return abs(flat - want) < 1e-3 and abs(float(loss(uneven, target)) - there) < 1e-2


def dice_equal(loss):
    """Two equal masks say nothing: pooled or not, they agree."""
    target = masks()[:1].repeat(2, 1, 1)
    logits = torch.zeros_like(target)
    return abs(float(loss(logits, target)) - float(loss(logits[:1], target[:1]))) < 1e-4


def line_polyfit(tokens, seconds):
    per_token, start = np.polyfit(tokens, seconds, 1)
    return start, per_token


def line_scipy(tokens, seconds):
    found = linregress(tokens, seconds)
    return found.intercept, found.slope


def line_normal(tokens, seconds):
    table = torch.stack([torch.ones(len(tokens)), torch.tensor(tokens)], dim=1).double()
    solved = torch.linalg.lstsq(table, torch.tensor(seconds, dtype=torch.float64)[:, None]).solution
    return tuple(solved[:, 0].tolist())


RIGHT = {
    "check_giou_test": [giou_known, giou_corner, giou_random],
    "check_code_test": [code_cdist, code_loop, code_broadcast],
    "check_dice_test": [dice_two, dice_random, dice_by_hand],
    "check_token_line": [line_polyfit, line_scipy, line_normal],
}
WRONG = {
    "check_giou_test": [
        (lambda giou: True, "lets everything pass"),
        (lambda giou: False, "turns everything down"),
        (lambda giou: abs(float(giou(UNIT, UNIT / 2)[0]) - 0.5) < 1e-3, "is what you expect of your pairs right"),
        (lambda giou: giou_known(giou) and float(giou(UNIT, UNIT)[0]) == 1, "turns down one that is 1e-7 off"),
        (lambda giou: abs(float(giou(UNIT, UNIT)[0]) - 1) < 1e-3, "lets pass the released code's, which reads corners"),
        (lambda giou: float(giou(UNIT / 10, UNIT / 10 + 0.5)[0]) < 0, "lets pass the released code's"),
        (lambda giou: not giou_known(giou), "wrong way round"),
        (lambda giou: giou(UNIT, UNIT), "returned Tensor"),
        (lambda giou: None, "return statement"),
        (giou_with_library, "calls generalized_iou"),
        (by_counting(4, 7), "right one time and wrong the other"),
        (by_check(checks.check_giou), "calls check_giou"),
    ],
    "check_code_test": [
        (code_unique, "differ by a rounding error"),
        (by_counting(4, 6), "right one time and wrong the other"),
        (lambda code: bool((code.std(0) > 0.01).all()), "turns down waves"),
        (lambda code: bool((code[0] - code[1]).abs().max() > 1e-4), "lets pass a code"),
        (lambda code: bool(torch.cdist(code, code).min() > 1e-4), "leave out the diagonal"),
        (lambda code: not code_cdist(code), "wrong way round"),
        (lambda code: (code[:, None] - code[None]).abs().amax(-1) > 1e-4, "verdicts for"),
        (by_check(checks.check_position_code), "calls check_position_code"),
        (lambda code: torch.cdist(code, code).fill_diagonal_(9).min() > 0.5, "turns down a plain numbering"),
    ],
    "check_dice_test": [
        (lambda loss: True, "lets everything pass"),
        (dice_equal, "lets pass the released code's, which pools the batch"),
        (by_counting(3, 7), "right one time and wrong the other"),
        (lambda loss: float(loss(torch.zeros(2, 12, 12), masks())) > 0, "lets pass"),
        (lambda loss: dice_two(loss) if loss(masks(), masks()) is None else not dice_two(loss), "wrong way round"),
        (lambda loss: loss(masks(), masks()), "True or False"),
        (lambda loss: bool(np.isclose(float(loss(9 * masks(), masks())), float(dice_loss(9 * masks(), masks())))),
         "calls dice_loss"),
        (by_check(checks.check_dice), "calls check_dice"),
        (lambda loss: None, "return statement"),
    ],
    "check_token_line": [
        (lambda t, s: np.polyfit(t, s, 1), "return them as a tuple"),
        (lambda t, s: tuple(np.polyfit(t, s, 1)), "wrong order"),
        (lambda t, s: (0.0, np.dot(t, s) / np.dot(t, t)), "forced through zero"),
        (lambda t, s: (0.0, np.mean(np.array(s) / np.array(t))), "divide seconds by tokens"),
        (lambda t, s: line_polyfit(s, t), "exchanged tokens and seconds"),
        (lambda t, s: (line_polyfit(t, s)[0], 1 / line_polyfit(t, s)[1]), "tokens a second"),
        (lambda t, s: (s[0] - (s[-1] - s[0]) / (t[-1] - t[0]) * t[0], (s[-1] - s[0]) / (t[-1] - t[0])), "alone"),
    ],
}  # fmt: skip
