"""Judges everything that a folder holds which `data refshapes` wrote, with nothing but its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..grefcoco import read_expressions
from ..refcoco import SPLIT_BY, RefCOCO, naming, read_json
from .answers import answer_error, caption_error
from .checker import Tally, expression_error, location_error, turns_error
from .meaning import Seen, see

Pictures = dict[str, tuple[list[dict], list[Seen]]]


def check_folder(root: str | Path) -> dict[str, Any]:
    """Judge every expression, caption, question and dialogue.

    Returns:
        checked, right, wrong, and under "kinds" the same with the first wrong ones: for each data set, "several" and
        "none" of grefcoco, captions (left to right, top to bottom, left to right with sizes), each type of question,
        and each task of `dialogues.json`.

    Raises:
        InputError: a file is missing or damaged, or was not written by `data refshapes`.
    """
    root, tally = Path(root), Tally()
    images: Pictures = {}
    for dataset in SPLIT_BY:
        refs = RefCOCO(root, dataset, None).refs
        images = _images(root / dataset / "instances.json")
        for ref in refs:
            annotations, objects = images[ref.image_id]
            for sentence in ref.sentences:
                error = expression_error(sentence.text, _places([ref.ann_id], annotations), objects)
                if dataset == "refcoco+":
                    error = error or location_error(sentence.text)
                tally.add(dataset, error, f"ref {ref.ref_id}", sentence.text)
    _check_grefcoco(root / "grefcoco", tally)
    captions: dict[str, int] = {}
    for entry in _entries(root / "captions.json", "annotations", ("image_id", "caption"), images):
        image = str(entry["image_id"])
        axis = "xyx"[captions.get(image, 0) % 3]
        captions[image] = captions.get(image, 0) + 1
        text = entry["caption"]
        tally.add("captions", caption_error(text, images[image][1], axis), f"image {image}", text)
    fields = ("image_id", "question", "answer", "question_type")
    for entry in _entries(root / "questions.json", "questions", fields, images):
        error = answer_error(entry["question"], entry["answer"], images[str(entry["image_id"])][1])
        tally.add(f"question: {entry['question_type']}", error, f"image {entry['image_id']}", entry["question"])
    for entry in _entries(root / "dialogues.json", "dialogues", ("image_id", "task", "turns", "id"), images):
        annotations, objects = images[str(entry["image_id"])]
        with naming(root / "dialogues.json"):
            user, assistant = entry["turns"]
            asked, found = (_places(turn["ann_ids"], annotations) for turn in (user, assistant))
            error = turns_error(user["text"], asked, assistant["text"], found, objects)
        tally.add(entry["task"], error, f"dialogue {entry['id']}", user["text"])
    return tally.result()


def _check_grefcoco(folder: Path, tally: Tally) -> None:
    """Judge the expressions of several objects and of none."""
    images = _images(folder / "instances.json")
    for expression in read_expressions(folder):
        with naming(folder / "grefs(unc).json"):
            annotations, objects = images[str(expression.image_id)]
            meant = _places(expression.ann_ids, annotations)
        kind = "several" if meant else "none"
        error = expression_error(expression.text, meant, objects)
        if error is None and len(meant) == 1:
            error = "it means one object"
        tally.add(kind, error, f"ref {expression.ref_id}", expression.text)


def _places(ann_ids: Sequence[int], annotations: Sequence[Mapping[str, Any]]) -> list[int]:
    """Where annotations stand among those of a picture.

    Raises:
        InputError: one is not there.
    """
    there = [annotation["id"] for annotation in annotations]
    for number in ann_ids:
        if number not in there:
            raise InputError(f"annotation {number} is none of its picture's")
    return [there.index(number) for number in ann_ids]


def _images(path: Path) -> Pictures:
    """Annotations of each image with their category's name, and the same as objects."""
    content = read_json(path)
    try:
        categories = {category["id"]: category["name"] for category in content["categories"]}
        sizes = {str(image["id"]): (image["width"], image["height"]) for image in content["images"]}
        grouped: dict[str, list[dict]] = {image: [] for image in sizes}
        for annotation in content["annotations"]:
            named = {**annotation, "category": categories[annotation["category_id"]]}
            grouped[str(annotation["image_id"])].append(named)
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is not what `data refshapes` writes: {error!r}") from None
    return {image: (found, see(found, *sizes[image])) for image, found in grouped.items()}


def _entries(path: Path, key: str, fields: tuple[str, ...], images: Mapping[str, Any]) -> Iterator[dict]:
    """The entries of a file, each with its fields and a known image."""
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise InputError(f"{path} has no list {key!r}; write the folder anew with `data refshapes`")
    for number, entry in enumerate(content[key]):
        if not isinstance(entry, dict) or any(f not in entry for f in fields) or str(entry["image_id"]) not in images:
            raise InputError(f"{path}: entry {number} lacks one of {', '.join(fields)}, or its image is unknown")
        yield entry
