"""RefShapes as data sets: a stream for training, and samples for every evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from ...errors import InputError
from ..sample import Sample, Turn
from . import questions
from .levels import LEVELS, ROUND
from .render import render
from .scene import Scene, make_scene, stream
from .tasks import STYLES, Exchange, make_exchange, question, refer_to, scene_regions

WRITTEN = {"train": range(7), "val": (7,), "testA": (8,), "testB": (9,)}
"""Of ten scenes that are written to a folder, which are of a split; RefCOCOg's test there is testA and testB."""
SPLITS = {
    "refcoco": ("train", "val", "testA", "testB"),
    "refcoco+": ("train", "val", "testA", "testB"),
    "refcocog": ("train", "val", "test"),
}
NUMBERED = (*SPLITS, "grefcoco")  # the data sets of a written folder whose sentences `sentence_id` numbers


@lru_cache(maxsize=20_000)
def scene_of(image_id: str) -> Scene:
    """The scene that an image id names.

    Raises:
        InputError: the id is none of RefShapes.
    """
    level, _, rest = image_id.partition("-")
    parts = rest.rsplit("-", 2)
    if level not in LEVELS or len(parts) != 3 or not (parts[1].isdigit() and parts[2].isdigit()):
        raise InputError(f"{image_id!r} names no RefShapes picture; ids look like cpu-val-0-17")
    return make_scene(level, parts[0], int(parts[1]), int(parts[2]))


class RefShapesImages:
    """Pictures by image id, rendered when asked for."""

    def load_image(self, image_id: str) -> np.ndarray:
        """The picture, uint8, (height, width, 3), RGB."""
        return render(scene_of(image_id))


def image_id(level: str, split: str, seed: int, index: int) -> str:
    """The key of a scene's picture.

    Raises:
        InputError: a seed below 0: its sign would read as a part of the split, so the key would name another scene.
    """
    if seed < 0:
        raise InputError(f"seed is {seed}; the seed of RefShapes scenes must be at least 0")
    return f"{level}-{split}-{seed}-{index}"


def written_place(split: str, index: int) -> int | None:
    """Which picture of a written folder a scene is, counted from 0 over all splits; None of a split not written."""
    places = WRITTEN.get(split)
    return None if places is None else 10 * (index // len(places)) + places[index % len(places)]


def sentence_id(dataset: str, level: str, split: str, seed: int, index: int, thing: int) -> int | None:
    """The number that a written folder gives to an expression; None of a split that is not written.

    Its decimal digits are seed, level, style, seven of the picture and two of the object (in grefcoco 0 for several and
    1 for none), so that it depends on nothing else, and a folder of another seed, level or style does not know it.
    """
    place = written_place(split, index)
    if place is None:
        return None
    world = (10 * seed + list(LEVELS).index(level)) * 10 + NUMBERED.index(dataset)
    return (world * 10**7 + place) * 100 + thing


class RefShapesStream:
    """Dialogues for training: a fixed set of scenes in an order drawn anew each epoch, new questions each time."""

    def __init__(self, level: str, scenes: int, seed: int, tasks: Mapping[str, float], turns: int) -> None:
        self.images = RefShapesImages()
        self.level, self.scenes, self.seed, self.turns = level, scenes, seed, turns
        self.epoch_length = scenes  # a dialogue each
        self.tasks, self.weights = tuple(tasks), tuple(tasks.values())

    def image_ids(self) -> Sequence[str]:
        """Every image that `batch` can ask for."""
        return [image_id(self.level, "train", self.seed, i) for i in range(self.scenes)]

    def prepare(self, first: int, last: int) -> None:
        """Make the scenes of the dialogues from `first` to before `last`, so that no batch has to.

        Nothing is made where the stream has more scenes than are remembered: they would push each other out.
        """
        if self.scenes > (scene_of.cache_info().maxsize or 0):
            return
        places = range(first, min(last, first + 2 * self.scenes))  # which hold a whole epoch, if there is one
        for index in {int(self._order(epoch)[place]) for epoch, place in (divmod(i, self.scenes) for i in places)}:
            scene_regions(scene_of(image_id(self.level, "train", self.seed, index)))

    def batch(self, step: int, size: int) -> list[Sample]:
        """The dialogues of one step: a pure function of the step."""
        return [self._dialogue(*divmod(step * size + row, self.scenes)) for row in range(size)]

    def _dialogue(self, epoch: int, place: int) -> Sample:
        """About the scene at a place of the epoch's order, or the next one, where it allows none of the tasks."""
        order = self._order(epoch)
        for further in range(self.scenes):
            index = int(order[(place + further) % self.scenes])
            key = image_id(self.level, "train", self.seed, index)
            scene = scene_of(key)
            turns = self._turns(scene, stream("dialogue", "train", self.level, self.seed, epoch, index))
            if turns:
                size = scene.level.image_size
                return Sample(f"{key}-{epoch}", key, (size, size), tuple(turns), "dialogue")
        raise InputError(f"none of {self.scenes} scenes allows a question of the tasks {', '.join(self.tasks)}")

    def _turns(self, scene: Scene, rng) -> list[Turn]:
        """Questions and answers about a scene, at most `turns` of each."""
        turns: list[Turn] = []
        for _ in range(3 * self.turns):
            exchange = make_exchange(rng.choices(self.tasks, self.weights)[0], scene, rng)
            if exchange is not None:
                turns += [exchange.user, exchange.assistant]
            if len(turns) == 2 * self.turns:
                break
        return turns

    def _order(self, epoch: int) -> np.ndarray:
        return _permutation(self.seed, epoch, self.scenes)


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    order = list(range(count))
    stream("order", seed, epoch, count).shuffle(order)
    return np.array(order)


def _sample(sample_id: str, key: str, exchange: Exchange, task: str) -> Sample:
    """A sample of one exchange; `extra["others"]` are the other objects' regions, where it is about one object."""
    scene = scene_of(key)
    size, extra = scene.level.image_size, dict(exchange.extra)
    if "object" in extra:
        extra["others"] = tuple(r for i, r in enumerate(scene_regions(scene)) if i != extra["object"])
    return Sample(sample_id, key, (size, size), (exchange.user, exchange.assistant), task, extra)


def rec_samples(
    dataset: str, split: str, scenes: int, seed: int, level: str = "cpu", kinds: bool = True
) -> list[Sample]:
    """Referring expressions of one style: every object of every scene that the style can single out.

    Args:
        dataset: "refcoco", "refcoco+" or "refcocog": the style of the expressions.
        split: train, val, testA (round targets), testB (angular targets); for refcocog train, val, test.
        kinds: keep to the kinds of target that testA and testB are made of.

    `extra["sent_id"]` is the expression's number in a folder that `export.write_refshapes` wrote (`sentence_id`).

    Raises:
        InputError: an unknown data set or split.
    """
    if dataset not in SPLITS:
        raise InputError(f"unknown data set {dataset!r}; there are {', '.join(SPLITS)}")
    if split not in SPLITS[dataset] and kinds:
        raise InputError(f"{dataset} has no split {split!r}; it has {', '.join(SPLITS[dataset])}")
    samples = []
    for index in range(scenes):
        key = image_id(level, split, seed, index)
        scene = scene_of(key)
        rng = stream("expression", dataset, level, split, seed, index)
        for i, thing in enumerate(scene.things):
            if kinds and split in ("testA", "testB") and (thing.shape in ROUND) != (split == "testA"):
                continue
            exchange = refer_to(scene, i, dataset, rng, held_out=True)
            if exchange is not None:
                sample = _sample(f"{key}/{dataset}/{i}", key, exchange, "rec")
                number = sentence_id(dataset, level, split, seed, index, i)
                if number is not None:
                    sample.extra["sent_id"] = number
                samples.append(sample)
    return samples


def task_samples(task: str, split: str, scenes: int, seed: int, level: str = "cpu") -> list[Sample]:
    """One sample of a task a scene, in the phrasing that training does not use; scenes that allow none are left out."""
    samples = []
    for index in range(scenes):
        key = image_id(level, split, seed, index)
        exchange = make_exchange(task, scene_of(key), stream("task", task, level, split, seed, index), held_out=True)
        if exchange is not None:
            samples.append(_sample(f"{key}/{task}", key, exchange, task))
    return samples


def question_samples(
    split: str, scenes: int, seed: int, level: str = "cpu", kinds: Sequence[str] = tuple(questions.SCORED)
) -> list[Sample]:
    """One question of each kind a scene, one to a prompt; `extra["type"]` is the kind."""
    samples = []
    for index in range(scenes):
        key = image_id(level, split, seed, index)
        for kind in kinds:
            exchange = question(scene_of(key), stream("question", kind, level, split, seed, index), True, kind)
            if exchange is not None:
                samples.append(_sample(f"{key}/{kind}", key, exchange, "question"))
    return samples


__all__ = [
    "SPLITS",
    "STYLES",
    "RefShapesImages",
    "RefShapesStream",
    "image_id",
    "question_samples",
    "rec_samples",
    "scene_of",
    "task_samples",
]
