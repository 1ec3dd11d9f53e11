"""Where answers fail: regions that cannot be read, and the three ways of missing a referring expression's object.

A score alone would hide whether a representation is hard to write, hard to point with, or only coarse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..metrics import THRESHOLD, Interval, iou_matrix
from .grounding import pixel_box, pixel_boxes
from .predictions import Prediction
from .words import share

KINDS = ("format", "wrong_object", "imprecise")


def parse_failure_rate(predictions: Sequence[Prediction]) -> Interval | None:
    """Share of answers in which at least one region was written that cannot be read; None without answers."""
    return share([float(p.parse_failures > 0) for p in predictions], predictions)


def failure_kinds(predictions: Sequence[Prediction]) -> dict[str, int]:
    """How many referring expressions were missed in which way; with those that were not they add up to all.

    `format`: no box could be read. `wrong_object`: the box overlaps another object of the scene more than the true one;
    if it overlaps none, the nearest centre decides. `imprecise`: the right object, but IoU not above 0.5.

    Args:
        predictions: those whose `extra["others"]` lists the scene's other objects are counted.

    Returns:
        A count for each of `KINDS`; empty where no scene's other objects are known.
    """
    known = [p for p in predictions if "others" in p.sample.extra]
    if not known:
        return {}
    kinds = [failure_kind(p) for p in known]
    return {kind: kinds.count(kind) for kind in KINDS}


def kept_answers(predictions: Sequence[Prediction], count: int) -> list[dict[str, Any]]:
    """The first answers to referring expressions, for people to look at, as JSON.

    Args:
        predictions: with `extra["others"]`, see `failure_kinds`.
        count: how many at most.

    Returns:
        for each `image` (its key), `question`, `written` (as the model wrote it), `true` and `read` (boxes x1, y1, x2,
        y2 in shares of the picture, four decimals; `read` null where none could be read) and `failure` (one of `KINDS`,
        null for a success).
    """
    return [
        {
            "image": p.sample.image_id,
            "question": p.sample.turns[-2].text,
            "written": p.written,
            "true": _rounded(p.truth.regions[0].box),
            "read": _rounded(p.first.box if p.first is not None else None),
            "failure": failure_kind(p),
        }
        for p in predictions[:count]
    ]


def _rounded(box: Sequence[float] | None) -> list[float] | None:
    return None if box is None else [round(float(value), 4) for value in box]


def failure_kind(prediction: Prediction) -> str | None:
    """One of `KINDS`, None for a success; `extra["others"]` lists the scene's other objects."""
    size, given = prediction.sample.size, prediction.first
    if given is None or given.box is None:
        return "format"
    box = pixel_box(given, size)
    objects = pixel_boxes([prediction.truth.regions[0], *prediction.sample.extra["others"]], size)
    iou = iou_matrix(box, objects)[0]
    if iou[0] > THRESHOLD:
        return None
    distance = np.linalg.norm((objects[:, :2] + objects[:, 2:] - box[:2] - box[2:]) / 2, axis=1)
    best = np.lexsort((distance, -iou))[0]  # by IoU, then by distance; the true object comes first among equals
    return "imprecise" if best == 0 else "wrong_object"
