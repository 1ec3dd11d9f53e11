"""Solutions of notebook 03."""

from __future__ import annotations

import ctypes
import sys
from concurrent.futures import ThreadPoolExecutor
from types import FunctionType

import numpy as np
import torch

from pgpt_lib.losses import dice_loss
from pgpt_lib.regions import generalized_iou


def giou_torch(a, b):
    area_a, area_b = ((x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (a, b))
    sides = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    shared = sides[:, 0] * sides[:, 1]
    union = area_a + area_b - shared
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    return shared / (union + 1e-7) - 1 + union / (hull + 1e-7)


def giou_numpy(a, b):
    a, b = a.double().numpy(), b.double().numpy()

    def area(x1, y1, x2, y2):
        return np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)

    low, high = np.maximum(a, b), np.minimum(a, b)
    shared = area(low[:, 0], low[:, 1], high[:, 2], high[:, 3])
    hull = area(high[:, 0], high[:, 1], low[:, 2], low[:, 3])
    union = area(*a.T) + area(*b.T) - shared
    return shared / union - (hull - union) / hull


def giou_loop(a, b):
    out = []
    for (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) in zip(a.tolist(), b.tolist(), strict=True):
        shared = max(0, min(ax2, bx2) - max(ax1, bx1)) * max(0, min(ay2, by2) - max(ay1, by1))
        union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - shared
        hull = (max(ax2, bx2) - min(ax1, bx1)) * (max(ay2, by2) - min(ay1, by1))
        out.append(shared / union - (hull - union) / hull)
    return out


def parts(a, b):
    area_a, area_b = ((x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (a, b))
    sides = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    return sides.prod(1), area_a + area_b, hull


def giou_union_twice(a, b):
    shared, areas, hull = parts(a, b)
    return shared / areas - (hull - areas) / hull


def giou_iou_twice_only(a, b):
    shared, areas, hull = parts(a, b)
    return shared / areas - (hull - (areas - shared)) / hull


def iou_only(a, b):
    shared, areas, _ = parts(a, b)
    return shared / (areas - shared)


def giou_unclamped(a, b):
    sides = torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])
    _, areas, hull = parts(a, b)
    union = areas - sides[:, 0] * sides[:, 1]
    return (areas - union) / union - (hull - union) / hull


def giou_over_union(a, b):
    shared, areas, hull = parts(a, b)
    return shared / (areas - shared) - (hull - areas + shared) / (areas - shared)


def giou_as_centres(a, b):
    boxes = (torch.cat([x[:, :2] - x[:, 2:] / 2, x[:, :2] + x[:, 2:] / 2], 1) for x in (a, b))
    return giou_torch(*boxes)


def giou_covered_share(a, b):
    shared, areas, hull = parts(a, b)
    return shared / (areas - shared) - (areas - shared) / hull


def giou_in_a_thread(a, b):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(generalized_iou, a, b).result()


def giou_library(a, b):
    """By another name, from a closure: it is noticed all the same."""
    return (lambda borrowed=generalized_iou: borrowed(a, b))()


def dice_torch(logits, target):
    p, t = torch.sigmoid(logits).flatten(1), target.flatten(1)
    return (1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).mean()


def dice_loop(logits, target):
    losses = []
    for x, t in zip(logits, target, strict=True):
        p = 1 / (1 + torch.exp(-x))
        losses.append(1 - 2 * torch.sum(p * t) / (torch.sum(p) + torch.sum(t) + 1e-6))
    return sum(losses) / len(losses)


def dice_einsum(logits, target):
    p, t = 1 / (1 + np.exp(-logits.numpy())), target.numpy()
    shared = np.einsum("rij,rij->r", p, t)
    false = np.einsum("rij->r", p + t) - 2 * shared
    return np.mean(false / (2 * shared + false))


def dice_pooled(logits, target):
    p = logits.sigmoid()
    return 1 - (2 * (p * target).sum() + 1e-6) / (p.sum() + target.sum() + 1e-6)


def dice_score(logits, target):
    return 1 - dice_torch(logits, target)


def dice_no_factor(logits, target):
    p, t = logits.sigmoid().flatten(1), target.flatten(1)
    return (1 - (p * t).sum(1) / (p.sum(1) + t.sum(1))).mean()


def dice_iou(logits, target):
    p, t = logits.sigmoid().flatten(1), target.flatten(1)
    shared = (p * t).sum(1)
    return 1 - (shared / (p.sum(1) + t.sum(1) - shared)).mean()


def dice_vnet(logits, target):
    p, t = logits.sigmoid().flatten(1), target.flatten(1)
    return 1 - (2 * (p * t).sum(1) / (p.pow(2).sum(1) + t.pow(2).sum(1))).mean()


def dice_no_sigmoid(logits, target):
    return 1 - (2 * (logits * target).sum((1, 2)) / (logits.sum((1, 2)) + target.sum((1, 2)))).mean()


def dice_hard(logits, target):
    p = (logits > 0).float()
    return 1 - (2 * (p * target).sum((1, 2)) / (p.sum((1, 2)) + target.sum((1, 2)))).mean()


def dice_unwatched(logits, target):
    sys.setprofile(None)
    return dice_loss(logits, target)


def dice_unwatched_meanwhile(logits, target):
    watching = sys.getprofile()
    sys.setprofile(None)
    loss = dice_loss(logits, target)
    sys.setprofile(watching)
    return loss


def dice_unwatched_from_c(logits, target):
    ctypes.pythonapi.PyEval_SetProfile(None, None)
    return dice_loss(logits, target)


def dice_renamed(logits, target):
    code = dice_loss.__code__.replace(co_name="mine", co_qualname="mine")
    return FunctionType(code, dice_loss.__globals__, argdefs=dice_loss.__defaults__)(logits, target)


def bce_softplus(logits, target):
    zero = torch.zeros_like(logits)
    return (torch.logaddexp(zero, logits) - logits * target).mean()


def bce_classic(logits, target):
    """The form of most libraries: max(x, 0) - x t + log(1 + exp(-|x|))."""
    return (logits.clamp(min=0) - logits * target + torch.log1p(torch.exp(-logits.abs()))).mean()


def bce_logsigmoid(logits, target):
    inside = torch.nn.functional.logsigmoid
    return -(target * inside(logits) + (1 - target) * inside(-logits)).mean()


def bce_numpy(logits, target):
    x, t = logits.double().numpy(), target.double().numpy()
    return np.mean(np.logaddexp(0, x) - x * t)


def bce_naive(logits, target):
    p = torch.sigmoid(logits)
    return -(target * torch.log(p) + (1 - target) * torch.log(1 - p)).mean()


def bce_clipped(logits, target):
    p = torch.sigmoid(logits).clamp(1e-6, 1 - 1e-6)
    return -(target * torch.log(p) + (1 - target) * torch.log(1 - p)).mean()


def bce_ones_only(logits, target):
    return -(target * torch.nn.functional.logsigmoid(logits)).mean()


RIGHT = {
    "check_bce": [bce_softplus, bce_classic, bce_logsigmoid, bce_numpy],
    "check_giou": [giou_torch, giou_numpy, giou_loop],
    "check_dice": [dice_torch, dice_loop, dice_einsum],
}
WRONG = {
    "check_bce": [
        (bce_naive, "meets a probability of 0"),
        (bce_clipped, "cut probabilities off"),
        (lambda x, t: bce_softplus(x, t) * x.numel(), "take their mean"),
        (bce_ones_only, "log(1 - p) is missing"),
        (lambda x, t: -bce_softplus(x, t), "wrong sign"),
        (lambda x, t: bce_softplus(torch.sigmoid(x), t), "sigmoid twice"),
        (lambda x, t: bce_softplus(x, t.round()), "rounded the targets"),
        (torch.nn.functional.binary_cross_entropy_with_logits, "which is the answer already"),
        (lambda x, t: torch.nn.BCEWithLogitsLoss()(x, t), "which is the answer already"),
    ],
    "check_giou": [
        (giou_union_twice, "counts the overlap twice"),
        (giou_iou_twice_only, "counts the overlap twice"),
        (iou_only, "plain IoU"),
        (lambda a, b: 1 - giou_torch(a, b), "this is the loss"),
        (giou_unclamped, "cut them off at 0"),
        (giou_over_union, "share of the enclosing box"),
        (giou_as_centres, "they are corners"),
        (giou_covered_share, "not covered"),
        (giou_library, "calls generalized_iou"),
        (giou_in_a_thread, "calls generalized_iou"),
        (lambda a, b: giou_torch(a, b).mean(), "a single number, where each has its own"),
        (lambda a, b: a[5, 9], "raised IndexError"),
    ],
    "check_dice": [
        (dice_pooled, "mask by mask"),
        (dice_score, "1 minus it"),
        (dice_no_factor, "factor 2"),
        (dice_iou, "IoU loss"),
        (dice_vnet, "V-Net"),
        (dice_no_sigmoid, "a sigmoid is missing"),
        (dice_hard, "no gradient"),
        (dice_unwatched, "changes the profiler"),
        (dice_unwatched_meanwhile, "changes the profiler"),
        (dice_unwatched_from_c, "changes the profiler"),
        (dice_renamed, "calls dice_loss"),
        (lambda x, t: len(x) * dice_torch(x, t), "take their mean"),
    ],
}
