"""What scores add up from, image by image: with it models are compared on the same images (`sweeps.results.contrast`).

Every score here is a quotient of two sums over images, as in `metrics.bootstrap`. A result keeps both addends of each
image as text, numbers in a row, so that its file stays small.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from ..metrics import THRESHOLD
from ..text_metrics import exact_match
from .dialogue import VARIANTS, is_right
from .grounding import sentence_record, set_record
from .predictions import Prediction
from .words import captions_cider

Addends = tuple[Sequence[float], Sequence[float]]  # of the numerator and of the denominator, one a prediction
Columns = dict[str, dict[str, str]]
DIGITS = 4  # after the decimal point; IoU and CIDEr need no more


def by_scene(predictions: Sequence[Prediction]) -> Columns:
    """The addends of each image to the scores of `scores.score` that are compared over images.

    Returns:
        by a score's path, as `acc@0.5`, `several.set_f1` or `region_question.mask`, where its task was asked: `images`
        (a digest of the images' keys in order), `sums` and `of`, both a number for each image; the sums of both have
        the score for their quotient.
    """
    found: Columns = {}
    by_task: dict[str, list[Prediction]] = {}
    for p in predictions:
        by_task.setdefault("rec" if p.sample.task == "res" else p.sample.task, []).append(p)
    for task, members in by_task.items():
        for path, (sums, of) in _addends(task, members).items():
            found[path] = _column(members, sums, of)
        if task in ("region_caption", "region_question"):
            for variant in VARIANTS:
                given = [p for p in members if p.sample.extra.get("variant") == variant]
                if given:
                    found[f"{task}.{variant}"] = _column(given, [is_right(p) for p in given], [1] * len(given))
    return found


def _addends(task: str, members: Sequence[Prediction]) -> Mapping[str, Addends]:
    """A task's scores by path; none for a task that is not compared over images, or by variants alone."""
    ones = [1] * len(members)
    if task == "rec":
        records = [sentence_record(p) for p in members]
        found: dict[str, Addends] = {
            "acc@0.5": ([r.box_iou > THRESHOLD for r in records], ones),
            "miou_box": ([r.box_iou for r in records], ones),
        }
        if any(r.mask_given for r in records):
            inter, union = zip(*(r.mask or (0, 0) for r in records), strict=True)
            iou = [i / max(u, 1) for i, u in zip(inter, union, strict=True)]
            found["ciou"] = inter, union
            found["miou_mask"] = iou, [r.mask is not None for r in records]
        return found
    if task == "question":
        return {"questions.all.accuracy": ([exact_match(p.text, p.truth.text) for p in members], ones)}
    if task == "caption":
        return {"caption.cider": (captions_cider(members), ones)}
    if task == "several":
        sets = [set_record(p) for p in members]
        return {"several.set_f1": ([2 * r.matched for r in sets], [r.predicted + r.true for r in sets])}
    return {}


def _column(members: Sequence[Prediction], sums: Sequence[float], of: Sequence[float]) -> dict[str, str]:
    """Both addends, added up over the predictions of each image; images in the order in which they first come."""
    images = {key: i for i, key in enumerate(dict.fromkeys(p.sample.image_id for p in members))}
    group = [images[p.sample.image_id] for p in members]
    digest = hashlib.sha256("\n".join(images).encode()).hexdigest()[:16]
    return {"images": digest, **{name: _row(np.bincount(group, each)) for name, each in (("sums", sums), ("of", of))}}


def _row(values: np.ndarray) -> str:
    return " ".join(f"{value:.{DIGITS}f}".rstrip("0").rstrip(".") for value in values)
