"""A file of predictions against a data set's annotations: no model, no picture.

A prediction is `{"sent_id" or "ref_id" or "ann_id": number, "bbox": [x, y, width, height] in pixels or null,
"segmentation": RLE, null or absent}`; a file is a JSON list of them. See docs/results.md.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .data.refcoco import RefCOCO, read_json
from .errors import InputError
from .metrics import Interval, SentenceRecord, iou_xywh, summarise
from .regions import check_bbox, mask_area, mask_overlap, to_rle

logger = logging.getLogger(__name__)

ID_KEYS = ("sent_id", "ref_id", "ann_id")
SCORED = ("rec", "res")  # tasks of `evaluate` whose answers are sentences' regions
Scores = dict[str, "int | Interval | None"]


@dataclass(frozen=True)
class Truth:
    """A sentence and the object it means, `bbox` [x, y, width, height] in pixels and `segmentation` as annotated."""

    sent_id: int
    ref_id: int
    ann_id: int
    image_id: str
    size: tuple[int, int]
    bbox: tuple[float, float, float, float]
    segmentation: Any


@dataclass(frozen=True)
class Prediction:
    """A checked entry of a predictions file; `label` names it in messages."""

    label: str
    ids: dict[str, int]
    bbox: tuple[float, float, float, float] | None
    segmentation: Any


def truths_of(dataset: RefCOCO) -> list[Truth]:
    """Every sentence of a data set's split."""
    truths = []
    for ref in dataset.refs:
        annotation, size = dataset.annotations[ref.ann_id], dataset.sizes[ref.image_id]
        for sentence in ref.sentences:
            ids = (sentence.sent_id, ref.ref_id, ref.ann_id)
            truths.append(Truth(*ids, ref.image_id, size, annotation.bbox, annotation.segmentation))
    return truths


def read_predictions(path: str | Path) -> list[Any]:
    """The entries of a predictions file, not yet checked one by one.

    Raises:
        InputError: a missing or truncated file, or no JSON list.
    """
    content = read_json(Path(path))
    if not isinstance(content, list):
        raise InputError(f"{path}: expected a list of predictions, found {type(content).__name__}")
    return content


def score_file(path: str | Path, root: str | Path, dataset: str, split: str) -> Scores:
    """`score_predictions` of a file against a split in the REFER layout; errors name the file.

    Answers of other tasks, which `evaluate` saves in the same file, are left out and counted on standard error.
    """
    truths = truths_of(RefCOCO(root, dataset, split))
    predictions = read_predictions(path)
    others = [entry["task"] for entry in predictions if _is_of_another_task(entry)]
    if others:
        counts = ", ".join(f"{name} {count}" for name, count in Counter(others).items())
        logger.warning("%s: not scored: %d answers of other tasks (%s)", path, len(others), counts)
        predictions = [entry for entry in predictions if not _is_of_another_task(entry)]
    try:
        return score_predictions(predictions, truths)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def score_predictions(predictions: Sequence[Any], truths: Sequence[Truth]) -> Scores:
    """Score predictions sentence by sentence.

    A `ref_id` or `ann_id` stands for all of its sentences. Boxes are scored as given, neither clipped nor rounded. A
    null box says that no region was given: it scores 0. A sentence without a prediction scores 0 and is counted in
    `missing`. Either adds its true area to the union of `ciou`.

    Returns:
        `metrics.summarise`'s keys.

    Raises:
        InputError: an unknown or repeated id, a box that is not four finite numbers, a mask of another size than its
            image; the message names the id.
    """
    given = [_check(i, entry) for i, entry in enumerate(predictions)]
    of_sentence = _assign(given, truths)
    with_masks = any(prediction.segmentation is not None for prediction in given)
    true_masks: dict[int, dict[str, Any] | None] = {}
    overlaps: dict[tuple[int, str | None], tuple[int, int]] = {}  # the sentences of an object share its prediction
    records = []
    for truth in truths:
        prediction = of_sentence.get(truth.sent_id)
        bbox = prediction.bbox if prediction else None
        segmentation = prediction.segmentation if prediction else None
        mask = None
        if with_masks and truth.ann_id not in true_masks:
            true_masks[truth.ann_id] = _true_mask(truth)
        true_mask = true_masks.get(truth.ann_id)
        if true_mask is not None:
            key = (truth.ann_id, prediction.label if prediction else None)
            if key not in overlaps:
                overlaps[key] = _overlap(prediction, true_mask)
            mask = overlaps[key]
        records.append(
            SentenceRecord(
                image_id=truth.image_id,
                box_iou=0.0 if bbox is None else iou_xywh(bbox, truth.bbox),
                emitted=bbox is not None,
                missing=prediction is None,
                mask=mask,
                mask_given=segmentation is not None,
            )
        )
    return summarise(records)


def _is_of_another_task(entry: Any) -> bool:
    """Whether `evaluate` saved an entry that is no sentence's region: it names a sample and its task, no number."""
    if not isinstance(entry, Mapping) or any(entry.get(key) is not None for key in ID_KEYS):
        return False
    return "sample_id" in entry and isinstance(entry.get("task"), str) and entry["task"] not in SCORED


def _check(index: int, entry: Any) -> Prediction:
    """One entry of a predictions file, checked."""
    if not isinstance(entry, Mapping):
        raise InputError(f"prediction {index} is {str(entry)[:60]}, expected an object with an id and a bbox")
    ids = {key: entry[key] for key in ID_KEYS if entry.get(key) is not None}
    label = f"prediction {index}" + "".join(f", {key} {value}" for key, value in ids.items())
    if not ids or not all(isinstance(value, int) and not isinstance(value, bool) for value in ids.values()):
        raise InputError(f"{label}: expected a whole number as sent_id, ref_id or ann_id")
    if "bbox" not in entry:
        raise InputError(f"{label} has no bbox; null says that no region was given")
    segmentation = entry.get("segmentation")
    if entry["bbox"] is None:
        if segmentation is not None:
            logger.warning("%s: bbox is null, so its segmentation is not scored", label)
        return Prediction(label, ids, None, None)
    try:
        return Prediction(label, ids, check_bbox(entry["bbox"]), segmentation)
    except InputError as error:
        raise InputError(f"{label}: {error}") from None


def _assign(predictions: Sequence[Prediction], truths: Sequence[Truth]) -> dict[int, Prediction]:
    """The prediction of each sentence, by `sent_id`."""
    sentences: dict[tuple[str, int], set[int]] = {}
    for truth in truths:
        for key in ID_KEYS:
            sentences.setdefault((key, getattr(truth, key)), set()).add(truth.sent_id)
    of_sentence: dict[int, Prediction] = {}
    for prediction in predictions:
        for key, value in prediction.ids.items():
            if (key, value) not in sentences:
                raise InputError(f"{prediction.label}: {key} {value} is unknown in this data set and split")
        meant = set.intersection(*(sentences[item] for item in prediction.ids.items()))
        if not meant:
            raise InputError(f"{prediction.label}: its ids belong to different sentences")
        for sent_id in sorted(meant):
            if sent_id in of_sentence:
                other = of_sentence[sent_id].label
                raise InputError(f"{prediction.label}: sentence {sent_id} already has a prediction ({other})")
            of_sentence[sent_id] = prediction
    return of_sentence


def _true_mask(truth: Truth) -> dict[str, Any] | None:
    try:
        return None if truth.segmentation is None else to_rle(truth.segmentation, *truth.size)
    except InputError as error:
        raise InputError(f"annotation {truth.ann_id}: {error}") from None


def _overlap(prediction: Prediction | None, true_mask: dict[str, Any]) -> tuple[int, int]:
    """Pixels in the intersection and the union of the predicted and the true mask."""
    if prediction is None or prediction.segmentation is None:
        return 0, mask_area(true_mask)
    try:
        return mask_overlap(to_rle(prediction.segmentation, *true_mask["size"]), true_mask)
    except InputError as error:
        raise InputError(f"{prediction.label}: segmentation: {error}") from None
