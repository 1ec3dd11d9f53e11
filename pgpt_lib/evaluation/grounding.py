"""Scores of regions: one (REC and RES), several, none, at what depth; and what the expression is worth.

Section 4.2 of the paper: REC by Acc@0.5 of boxes, RES by cumulative IoU of masks. The first `<vis>` counts, a missing
one scores 0. Everything is at the original image's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..metrics import Interval, SentenceRecord, SetRecord, iou_matrix, match_boxes, summarise, summarise_sets
from ..regions import Region, mask_area, mask_overlap, mask_to_rle, mask_union
from ..text_metrics import exact_match
from .predictions import Prediction
from .words import share


def rec_scores(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """The keys of `score` for predictions whose truth is one region."""
    return summarise([sentence_record(p) for p in predictions])


def sentence_record(prediction: Prediction) -> SentenceRecord:
    """What REC and RES metrics need to know of one prediction."""
    given, true = prediction.first, prediction.truth.regions[0]
    overlap = None
    if true.mask is not None:
        predicted = given.mask if given is not None else None
        overlap = mask_overlap(predicted, true.mask) if predicted is not None else (0, mask_area(true.mask))
    return SentenceRecord(
        image_id=prediction.sample.image_id,
        box_iou=box_iou(given, true, prediction.sample.size),
        emitted=given is not None,
        mask=overlap,
        mask_given=given is not None and given.mask is not None,
    )


def pixel_box(region: Region, size: tuple[int, int]) -> np.ndarray:
    """The region's box as xyxy [4] in pixels of an image of `size` (height, width); no area where it has no box."""
    return np.array(region.box or (0.0,) * 4) * np.tile(size[::-1], 2)


def pixel_boxes(regions: Sequence[Region], size: tuple[int, int]) -> np.ndarray:
    """`pixel_box` of R regions, [R, 4]."""
    return np.array([pixel_box(region, size) for region in regions]).reshape(-1, 4)


def box_iou(given: Region | None, true: Region, size: tuple[int, int]) -> float:
    """IoU of two regions' boxes, 0 when one is missing."""
    if given is None or given.box is None or true.box is None:
        return 0.0
    return float(iou_matrix(pixel_box(given, size), pixel_box(true, size))[0, 0])


def shuffled(predictions: Sequence[Prediction]) -> list[Prediction]:
    """The predictions with expressions exchanged within each image.

    Each object is scored against the answer to another object's expression, so that a model which looks for *some*
    object, and not for the one that is asked for, scores as well as before. No new answers are needed: every question
    was asked alone. Objects that are the only one asked for in their image are left out.
    """
    by_image: dict[str, list[Prediction]] = {}
    for p in predictions:
        by_image.setdefault(p.sample.image_id, []).append(p)
    out = []
    for members in by_image.values():
        for i, p in enumerate(members):
            others = (members[(i + step) % len(members)] for step in range(1, len(members)))
            other = next((q for q in others if q.truth.regions != p.truth.regions), None)
            if other is not None:
                out.append(replace(p, text=other.text, regions=other.regions))
    return out


def filled_ciou(predictions: Sequence[Prediction]) -> dict[str, Interval | None]:
    """cIoU of boxes taken as masks: the true box filled, and the predicted box filled.

    A mask head earns its keep only where its cIoU is above these.
    """
    filled: dict[str, list[Prediction]] = {"true_box": [], "predicted_box": []}
    for p in predictions:
        for name, region in (("true_box", p.truth.regions[0]), ("predicted_box", p.first)):
            masks = () if region is None else (replace(region, mask=fill_box(region, p.sample.size)),)
            filled[name].append(replace(p, regions=masks))
    return {name: rec_scores(members)["ciou"] for name, members in filled.items()}


def fill_box(region: Region, size: tuple[int, int]) -> dict[str, Any]:
    """The mask (RLE) of all pixels whose centres lie in the region's box, in an image of `size` (height, width)."""
    bitmap = np.zeros(size, np.uint8)
    left, top, right, bottom = np.ceil(pixel_box(region, size) - 0.5).astype(int)
    bitmap[top:bottom, left:right] = 1
    return mask_to_rle(bitmap)


def depth_error(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Mean absolute error of the depths given, beside that of the best constant (these truths' own median).

    Only answers with a depth can be compared; `n` of `of` have one.
    """
    true = [(p, p.truth.regions[0].depth) for p in predictions if p.truth.regions[0].depth is not None]
    pairs = [(p, d, p.first.depth) for p, d in true if p.first is not None and p.first.depth is not None]
    if not pairs:
        return {}
    members, truths, given = [p for p, _, _ in pairs], np.array([d for _, d, _ in pairs]), [g for _, _, g in pairs]
    return {
        "mae": share(list(np.abs(np.array(given) - truths)), members),
        "constant_mae": share(list(np.abs(np.median(truths) - truths)), members),
        "n": len(pairs),
        "of": len(true),
    }


def set_scores(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Expressions of several targets: precision, recall and F1 of boxes matched one to one, IoU of the merged masks."""
    return summarise_sets([set_record(p) for p in predictions]) if predictions else {}


def set_record(prediction: Prediction) -> SetRecord:
    """What the scores of several targets need to know of one prediction."""
    size, given, true = prediction.sample.size, prediction.regions, prediction.truth.regions
    pairs = match_boxes(pixel_boxes(given, size), pixel_boxes(true, size))
    masks = [[r.mask for r in regions if r.mask is not None] for regions in (given, true)]
    overlap = None
    if masks[1]:
        whole = mask_union(masks[1])
        overlap = mask_overlap(mask_union(masks[0]), whole) if masks[0] else (0, mask_area(whole))
    return SetRecord(prediction.sample.image_id, len(pairs), len(given), len(true), overlap)


def none_scores(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Expressions of nothing: how often the answer says so, in the true answer's very words."""
    if not predictions:
        return {}
    hits = [float(exact_match(p.text, p.truth.text)) for p in predictions]
    return {"accuracy": share(hits, predictions), "n": len(predictions)}
