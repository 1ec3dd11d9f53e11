"""What is said of written scenes, as the entries of the annotation files that `export` writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ..grefcoco import NO_TARGET
from . import questions
from .levels import SHAPES
from .scene import Scene, stream
from .tasks import Exchange, make_exchange, scene_regions
from .world import SPLITS, rec_samples, scene_of, sentence_id

GENERALISED = ("several", "none")
DIALOGUES = ("reasoning", "region_caption", "region_question", "spot_caption")
"""The tasks whose turns hold regions, for which the files of RefCOCO, gRefCOCO and COCO have no place."""


@dataclass(frozen=True)
class Numbers:
    """Where scenes stand in `instances.json`: the pictures' numbers, and those of their first annotations.

    A picture's annotations are numbered in a row, in the order of the scene's objects.
    """

    images: Mapping[str, int]
    first: Mapping[str, int]

    @classmethod
    def of(cls, scenes: Sequence[Scene]) -> Numbers:
        """The numbers of all scenes of a folder, in its order."""
        images: dict[str, int] = {}
        first: dict[str, int] = {}
        used = 0
        for number, scene in enumerate(scenes, 1):
            images[scene.image_id], first[scene.image_id] = number, used + 1
            used += len(scene.things)
        return cls(images, first)

    def annotations(self, scene: Scene, objects: Sequence[int]) -> list[int]:
        """The annotations of some of a scene's objects."""
        return [self.first[scene.image_id] + i for i in objects]


def refs(dataset: str, seed: int, level: str, scenes: Mapping[str, int], numbers: Numbers) -> list[dict]:
    """REFER's list of objects with their sentences, of one style; `scenes` are how many each split has."""
    found: list[dict] = []
    for split in SPLITS[dataset]:
        for source in ("testA", "testB") if split == "test" else (split,):
            for sample in rec_samples(dataset, source, scenes[source], seed, level, kinds=split == source):
                meant = _meant(scene_of(sample.image_id), [sample.extra["object"]], numbers)
                only = {key: value[0] for key, value in meant.items()}
                number, words = sample.extra["sent_id"], sample.extra["expression"]
                found.append(_ref(number, sample.image_id, split, words, only, numbers))
    return found


def grefs(scenes: Sequence[Scene], numbers: Numbers) -> list[dict]:
    """gRefCOCO's list of expressions of several objects, from left to right, and of none."""
    found: list[dict] = []
    for scene, split, task, made in _exchanges(scenes, GENERALISED):
        level, _, seed, index = scene.image_id.split("-")
        number = sentence_id("grefcoco", level, split, int(seed), int(index), GENERALISED.index(task))
        objects = made.extra.get("objects", [])
        meant = _meant(scene, objects, numbers) | {"no_target": not objects}
        found.append(_ref(cast(int, number), scene.image_id, split, made.extra["expression"], meant, numbers))
    return found


def texts(scenes: Sequence[Scene], numbers: Numbers) -> tuple[list[dict], list[dict]]:
    """Captions as COCO stores them, and one question of each type a scene."""
    captions: list[dict] = []
    asked: list[dict] = []
    for scene in scenes:
        image = numbers.images[scene.image_id]
        for text in (
            questions.caption_text(scene),
            questions.caption_text(scene, axis=1),
            questions.caption_text(scene, sizes=True),
        ):
            captions.append({"id": len(captions) + 1, "image_id": image, "caption": text})
        for kind in (*questions.SCORED, *questions.OTHER):
            question = questions.ask(scene, stream("question", kind, *scene.image_id.split("-")), kind)
            if question is not None:
                entry = {
                    "question_id": len(asked) + 1,
                    "image_id": image,
                    "question": question[1],
                    "answer": question[2],
                }
                asked.append({**entry, "question_type": kind})
    return captions, asked


def dialogues(scenes: Sequence[Scene], numbers: Numbers) -> list[dict]:
    """Questions and answers of the tasks with regions; each `<vis>` of a turn is the next of its annotations."""
    found: list[dict] = []
    for scene, split, task, made in _exchanges(scenes, DIALOGUES):
        regions = scene_regions(scene)
        turns = []
        for turn in (made.user, made.assistant):
            ann_ids = numbers.annotations(scene, [regions.index(region) for region in turn.regions])
            turns.append({"role": turn.role, "text": turn.text, "ann_ids": ann_ids})
        entry = {"id": f"{scene.image_id}/{task}", "image_id": numbers.images[scene.image_id]}
        found.append({**entry, "split": split, "task": task, "turns": turns})
    return found


def _ref(number: int, image_id: str, split: str, words: str, meant: Mapping[str, Any], numbers: Numbers) -> dict:
    """REFER's entry of one expression."""
    return {
        "ref_id": number,  # an object has one expression of a style
        **meant,
        "image_id": numbers.images[image_id],
        "split": split,
        "file_name": f"{image_id}.png",
        "sent_ids": [number],
        "sentences": [{"sent_id": number, "sent": words, "raw": words, "tokens": words.split()}],
    }


def _meant(scene: Scene, objects: Sequence[int], numbers: Numbers) -> dict[str, Any]:
    """The annotations and categories of a scene's objects, as gRefCOCO writes them."""
    return {
        "ann_id": numbers.annotations(scene, objects) or [NO_TARGET],
        "category_id": [SHAPES.index(scene.things[i].shape) + 1 for i in objects] or [NO_TARGET],
    }


def _exchanges(scenes: Sequence[Scene], tasks: Sequence[str]) -> Iterator[tuple[Scene, str, str, Exchange]]:
    """(scene, its split, task, exchange) for every scene and task that it allows.

    Of the splits that are not trained on they are those of `world.task_samples`; train is asked in its own phrasings.
    """
    for scene in scenes:
        level, split, seed, index = scene.image_id.split("-")
        for task in tasks:
            made = make_exchange(task, scene, stream("task", task, level, split, seed, index), split != "train")
            if made is not None:
                yield scene, split, task, made
