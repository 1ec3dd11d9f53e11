"""Files of captions and of answers against a data set's annotations (Table 5): no model, no picture.

Captions come in COCO's results format, `[{"image_id": 391895, "caption": "a man ..."}]`, and are scored on Karpathy's
splits; answers in VQA's, `[{"question_id": 262148000, "answer": "red"}]`. See docs/results.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .data.karpathy import SPLITS, read_captioned
from .data.vqa import read_questions
from .errors import InputError
from .metrics import rate
from .scoring import read_predictions
from .text_metrics import cider
from .vqa_metric import vqa_accuracy


def score_captions(path: str | Path, root: str | Path, dataset: str, split: str) -> dict[str, Any]:
    """CIDEr of a file of captions on one of Karpathy's splits.

    Args:
        path: a file in COCO's results format; `image_id` is COCO's number, or Flickr's, as in the picture's name.
        root: the folder that holds `karpathy`.
        dataset: coco or flickr30k.
        split: train, val or test.

    Returns:
        `n`, `missing` (pictures without a caption: they score 0), `cider` as [value, low, high]; the literature prints
        100 times that. Document frequencies come from the references of the whole split.

    Raises:
        InputError: an entry without its keys, of a picture that the split lacks, or the second of a picture.
    """
    if split not in SPLITS:
        raise InputError(f"no split {split!r}; Karpathy's are {', '.join(SPLITS)}")
    truths = [entry for entry in read_captioned(root, dataset) if entry.split in SPLITS[split]]
    known = {entry.number for entry in truths}
    given = _answers(path, "image_id", "caption", known, f"{dataset} {split}")
    _, each = cider([given.get(e.number, "") for e in truths], [e.captions for e in truths])
    missing = sum(entry.number not in given for entry in truths)
    return {"n": len(truths), "missing": missing, "cider": rate([e.key for e in truths], each)}


def score_answers(path: str | Path, root: str | Path, dataset: str, split: str) -> dict[str, Any]:
    """VQA accuracy of a file of answers.

    Args:
        path: a file in VQA's results format.
        root: the folder that holds the data set's folder.
        dataset: vqav2 or okvqa.
        split: train or val (OK-VQA's test is its val).

    Returns:
        `n`, `missing` (questions without an answer: they score 0), `vqa` and `by_type` (each kind of answer that the
        file names: yes/no, number, other), as [value, low, high] over pictures.

    Raises:
        InputError: an entry without its keys, to a question that the split lacks, or the second to a question.
    """
    questions = read_questions(root, dataset, split)
    given = _answers(path, "question_id", "answer", {q.question_id for q in questions}, f"{dataset} {split}")
    scores = {
        q.question_id: vqa_accuracy(given[q.question_id], q.answers) if q.question_id in given else 0.0
        for q in questions
    }

    def over(some: Sequence[Any]) -> Any:
        return rate([str(q.image_id) for q in some], [scores[q.question_id] for q in some])

    kinds = sorted({q.answer_type for q in questions if q.answer_type})
    by_type = {kind: over([q for q in questions if q.answer_type == kind]) for kind in kinds}
    missing = sum(q.question_id not in given for q in questions)
    return {"n": len(questions), "missing": missing, "vqa": over(questions), "by_type": by_type}


def _answers(path: str | Path, id_key: str, text_key: str, known: set[int], where: str) -> dict[int, str]:
    """The texts of a results file by number, checked."""
    found: dict[int, str] = {}
    for place, entry in enumerate(read_predictions(path)):
        label = f"{path}: result {place}"
        if not isinstance(entry, dict) or id_key not in entry or not isinstance(entry.get(text_key), str):
            raise InputError(f"{label} is {str(entry)[:60]}, expected {{{id_key!r}: number, {text_key!r}: text}}")
        number = _number(entry[id_key])
        if number is None:
            raise InputError(f"{label}: {id_key} {entry[id_key]!r} is no number")
        if number not in known:
            raise InputError(f"{label}: {id_key} {number} is unknown in {where}")
        if number in found:
            raise InputError(f"{label}: {id_key} {number} has a result already")
        found[number] = entry[text_key]
    return found


def _number(value: Any) -> int | None:
    """An id as a number; Flickr30k's pictures are often given by name."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = value.removesuffix(".jpg") if isinstance(value, str) else ""
    return int(text) if text.isdigit() else None
