"""Box algebra in torch, differentiable: what the losses, matching and figures need (as DETR's `box_ops`).

Boxes are [..., 4], xyxy unless the name says cxcywh; any unit. Boxes without area are allowed everywhere: every result
and every gradient is finite.
"""

from __future__ import annotations

import torch
from torch import Tensor

_EPS = 1e-7  # smallest divisor; a box of [0, 1] coordinates with a smaller area counts as having none


def box_cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Centre, width, height [..., 4] to corners [..., 4]."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def box_xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Corners [..., 4] to centre, width, height [..., 4]."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def box_area(boxes: Tensor) -> Tensor:
    """Areas [...] of boxes [..., 4]; corners in the wrong order give 0."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union of boxes that broadcast against each other, [..., 4] -> [...], [...]."""
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    inter = sides[..., 0] * sides[..., 1]
    return inter, box_area(a) + box_area(b) - inter


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU [N] of each box of a [N, 4] with the box of b [N, 4] in the same row; 0 when neither has an area."""
    inter, union = _overlap(a, b)
    return inter / union.clamp(min=_EPS)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU [N, M] of every box of a [N, 4] with every box of b [M, 4]."""
    return pairwise_iou(a[:, None], b[None])


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU [N] in [-1, 1] of boxes in the same row of a, b [N, 4] (Rezatofighi et al. 2019; paper, eq. 3).

    IoU minus the share of the smallest enclosing box that neither box covers, so that boxes which do not touch still
    have a gradient. Where the enclosing box has no area (both boxes are one point or lie on one line), the share is 0.
    """
    inter, union = _overlap(a, b)
    sides = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0)
    enclosing = sides[..., 0] * sides[..., 1]
    return inter / union.clamp(min=_EPS) - (enclosing - union) / enclosing.clamp(min=_EPS)
