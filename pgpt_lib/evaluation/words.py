"""Scores of answers in words: questions by type, captions, and regions given where none was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..metrics import Interval, rate
from ..text_metrics import cider, exact_match, majority_accuracy
from ..vqa_metric import vqa_accuracy
from .predictions import Prediction

NO_REGION_TASKS = ("none", "caption", "question")


def images_of(predictions: Sequence[Prediction]) -> list[str]:
    """The image of each prediction: what the bootstrap resamples."""
    return [p.sample.image_id for p in predictions]


def share(hits: Sequence[float], predictions: Sequence[Prediction]) -> Interval | None:
    """The mean of one number a prediction, as [value, low, high]; None without predictions."""
    return rate(images_of(predictions), hits) if predictions else None


def question_scores(predictions: Sequence[Prediction]) -> dict[str, dict[str, Any]]:
    """Accuracy of whole answers, in total ("all") and by `extra["type"]`.

    Each entry has `accuracy` ([value, low, high]), `n`, and `majority`: what always giving a type's most frequent
    answer would score. The total's `majority` answers each type with its own most frequent answer.
    """
    by_type: dict[str, list[Prediction]] = {}
    for p in predictions:
        by_type.setdefault(p.sample.extra["type"], []).append(p)
    types = {kind: _accuracy(members) for kind, members in by_type.items()}
    if not types:
        return {}
    majority = sum(entry["majority"] * entry["n"] for entry in types.values()) / len(predictions)
    return {"all": {**_accuracy(predictions), "majority": majority}, **types}


def _accuracy(predictions: Sequence[Prediction]) -> dict[str, Any]:
    hits = [float(exact_match(p.text, p.truth.text)) for p in predictions]
    majority = majority_accuracy([p.truth.text for p in predictions])
    return {"accuracy": share(hits, predictions), "n": len(predictions), "majority": majority}


def vqa_score(predictions: Sequence[Prediction]) -> Interval | None:
    """VQA accuracy, over the ten answers in `extra["answers"]` where there are such, else over the one true answer."""
    humans = [p.sample.extra.get("answers") or [p.truth.text] for p in predictions]
    return share([vqa_accuracy(p.text, h) for p, h in zip(predictions, humans, strict=True)], predictions)


def caption_scores(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """CIDEr over `extra["references"]` (the true answer where there are none), document frequencies from these."""
    if not predictions:
        return {}
    return {"cider": share(captions_cider(predictions), predictions), "n": len(predictions)}


def captions_cider(predictions: Sequence[Prediction]) -> list[float]:
    """CIDEr of each caption, see `caption_scores`; at least one."""
    references = [list(p.sample.extra.get("references") or [p.truth.text]) for p in predictions]
    return cider([p.text for p in predictions], references)[1].tolist()


def false_vis_rates(by_task: Mapping[str, Sequence[Prediction]]) -> dict[str, Interval | None]:
    """How often a region is given to captions, questions and expressions of nothing, where any region is wrong."""
    asked = {task: by_task[task] for task in NO_REGION_TASKS if by_task.get(task)}
    return {task: share([float(p.has_vis) for p in members], members) for task, members in asked.items()}
