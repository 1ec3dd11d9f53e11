"""Scores of dialogues that mix words and regions: spot captions, and regions given in the question.

Figure 3 of the paper shows these kinds of dialogue. A region in the question is tried as a box, as a mask, and as the
*wrong* region, whose own answer is then the right one: a model that guesses from the picture alone would not notice.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..data.sample import VIS, Sample, Turn
from ..errors import InputError
from ..metrics import Interval, bootstrap, match_boxes
from ..regions import Region
from ..text_metrics import exact_match
from .grounding import pixel_boxes
from .predictions import Prediction
from .words import images_of, share

VARIANTS = ("box", "mask", "wrong")
_MARKED = re.compile(r"<p>(.*?)</p>((?:\s*<vis>)*)", re.DOTALL)


def phrases_of(text: str, regions: Sequence[Region]) -> list[tuple[str, Region]]:
    """The phrases of a grounded caption with their regions: "<p> a star </p> <vis>" names one.

    A phrase with several regions is listed once for each, one without any is left out.
    """
    found: list[tuple[str, Region]] = []
    for match in _MARKED.finditer(text):
        start = text.count(VIS, 0, match.start(2))
        words = " ".join(match[1].lower().split())
        found += [(words, region) for region in regions[start : start + match[2].count(VIS)]]
    return found


def spot_caption_scores(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Phrase precision, recall and F1: a phrase counts when a true phrase of the same words has a box with IoU > 0.5.

    True phrases are used at most once. `phrase_*` asks for the words alone.
    """
    counts = np.array([_phrase_counts(p) for p in predictions], float).reshape(-1, 4).T
    matched, worded, given, true = counts
    sums = {"precision": (matched, given), "recall": (matched, true), "f1": (2 * matched, given + true)}
    sums |= {"phrase_f1": (2 * worded, given + true)}
    return {**bootstrap(images_of(predictions), sums), "n": len(predictions)} if predictions else {}


def _phrase_counts(prediction: Prediction) -> tuple[int, int, int, int]:
    """Phrases right with their regions, right in words, given, true."""
    size = prediction.sample.size
    given = phrases_of(prediction.text, prediction.regions)
    true = phrases_of(prediction.truth.text, prediction.truth.regions)
    matched = worded = 0
    for words in {w for w, _ in given} & {w for w, _ in true}:
        # Equal words compete for the same truths, different words never do.
        same_given, same_true = ([region for w, region in side if w == words] for side in (given, true))
        matched += len(match_boxes(pixel_boxes(same_given, size), pixel_boxes(same_true, size)))
        worded += min(len(same_given), len(same_true))
    return matched, worded, len(given), len(true)


def region_variants(sample: Sample) -> dict[str, Sample]:
    """A question about a given region, asked with its box alone, its mask alone, and about the wrong region.

    The wrong region is `extra["wrong"]`, and `extra["wrong_answer"]` its own answer, which becomes the truth.
    Variants that the sample has no parts for are left out.

    Raises:
        InputError: the question has not exactly one region.
    """
    *before, question, answer = sample.turns
    if len(question.regions) != 1:
        raise InputError(f"sample {sample.sample_id}: {question.text!r} has {len(question.regions)} regions, not one")
    region, wrong = question.regions[0], sample.extra.get("wrong")
    asked: dict[str, tuple[Region, str]] = {}
    if region.box is not None:
        asked["box"] = replace(region, mask=None, depth=None), answer.text
    if region.mask is not None:
        asked["mask"] = replace(region, box=None, depth=None), answer.text
    if wrong is not None:
        asked["wrong"] = wrong, sample.extra["wrong_answer"]
    return {
        name: replace(
            sample,
            sample_id=f"{sample.sample_id}/{name}",
            turns=(*before, replace(question, regions=(given,)), Turn("assistant", truth)),
            extra={**sample.extra, "variant": name},
        )
        for name, (given, truth) in asked.items()
    }


def with_variants(samples: Iterable[Sample]) -> list[Sample]:
    """All variants of all samples, one after the other."""
    return [variant for sample in samples for variant in region_variants(sample).values()]


def region_scores(predictions: Sequence[Prediction]) -> Mapping[str, Interval | int | None]:
    """Accuracy of whole answers to questions about a given region, by what was given: "box", "mask", "wrong".

    For "wrong" the wrong region's own answer is right. `extra["answers"]`, where there is one, lists all right answers.
    `words_box` and its like are the mean share of the right answer's words: a caption of three words with two of them
    right counts for nothing above, and 2/3 here.
    """
    scores: dict[str, Interval | int | None] = {}
    for variant in VARIANTS:
        members = [p for p in predictions if p.sample.extra.get("variant") == variant]
        if members:
            scores[variant] = share([float(is_right(p)) for p in members], members)
            scores[f"words_{variant}"] = share([_words_right(p) for p in members], members)
            scores[f"n_{variant}"] = len(members)
    return scores


def is_right(prediction: Prediction) -> bool:
    """Whether the answer to a question about a given region is one of the right ones, word for word."""
    return any(exact_match(prediction.text, answer) for answer in _right_answers(prediction))


def _words_right(prediction: Prediction) -> float:
    """The words shared with the nearest right answer, over those of the longer of the two."""
    said = Counter(prediction.text.split())
    answers = [Counter(answer.split()) for answer in _right_answers(prediction)]
    return max((said & answer).total() / max(said.total(), answer.total(), 1) for answer in answers)


def _right_answers(prediction: Prediction) -> Sequence[str]:
    key = "wrong_answers" if prediction.sample.extra.get("variant") == "wrong" else "answers"
    return prediction.sample.extra.get(key) or [prediction.truth.text]
