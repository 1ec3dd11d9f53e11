"""What RefShapes asks and answers: each task makes turns about a scene, with regions in their places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

from ...errors import InputError
from ...regions import Region, mask_to_rle
from ..phrasings import held_out_phrasing, training_phrasings
from ..sample import NO_REGION, VIS, Turn
from . import questions
from .phrases import Phrase, absent, describe, fits, name, refer
from .render import masks
from .scene import Scene

STYLES = ("refcoco", "refcoco+", "refcocog")
# How often a kind of question in words is asked while tuning: most often what pointing does not practise as well.
QUESTION_KINDS = {
    "colour": 2, "shape": 2, "place": 1, "size": 3, "count": 6, "existence": 2.5,
    "fact": 1, "naming": 1, "fact shape": 0.7, "digits": 0.7,
}  # fmt: skip


@dataclass(frozen=True)
class Exchange:
    """A question and its answer, with what an evaluation needs to know of them."""

    user: Turn
    assistant: Turn
    extra: dict = field(default_factory=dict)


@lru_cache(maxsize=20_000)
def scene_regions(scene: Scene) -> tuple[Region, ...]:
    """Each object's box, mask and depth (0 is the nearest, 1 the farthest), back to front."""
    size = scene.level.image_size
    last = max(1, len(scene.things) - 1)
    boxes = [(x1 / size, y1 / size, x2 / size, y2 / size) for x1, y1, x2, y2 in (thing.box for thing in scene.things)]
    bitmaps = masks(scene)
    return tuple(
        Region(box=box, mask=mask_to_rle(bitmap), depth=1 - thing.layer / last)
        for thing, box, bitmap in zip(scene.things, boxes, bitmaps, strict=True)
    )


def _phrasing(task: str, rng, held_out: bool) -> str:
    return held_out_phrasing(task) if held_out else rng.choice(training_phrasings(task))


def _exchange(
    user: str, answer: str, asked: tuple[Region, ...] = (), found: tuple[Region, ...] = (), **extra: Any
) -> Exchange:
    return Exchange(Turn("user", user, asked), Turn("assistant", answer, found), extra)


def refer_to(scene: Scene, index: int, style: str, rng, held_out: bool) -> Exchange | None:
    """One object found by an expression of a style; None where no expression of the style means it alone."""
    phrase = describe(scene, index, rng, style)
    if phrase is None:
        return None
    text = _phrasing("rec", rng, held_out).format(x=phrase.words())
    return _exchange(text, VIS, found=(scene_regions(scene)[index],), expression=phrase.words(), object=index)


def rec(scene: Scene, rng, held_out: bool) -> Exchange | None:
    style = rng.choices(STYLES, (5, 3, 2))[0]
    return refer_to(scene, rng.randrange(len(scene.things)), style, rng, held_out)


def several(scene: Scene, rng, held_out: bool) -> Exchange | None:
    """All objects of a kind, at least two, from left to right."""
    thing = rng.choice(scene.things)
    phrase = rng.choice(
        (Phrase(shape=thing.shape), Phrase(colour=thing.colour), Phrase(shape=thing.shape, colour=thing.colour))
    )
    found = [i for i, t in enumerate(scene.things) if fits(t, phrase)]
    if len(found) < 2:
        return None
    found.sort(key=lambda i: (scene.things[i].centre[0], i))
    text = _phrasing("several", rng, held_out).format(x=phrase.words(plural=True))
    regions = tuple(scene_regions(scene)[i] for i in found)
    return _exchange(
        text, " ".join([VIS] * len(found)), found=regions, expression=phrase.words(plural=True), objects=found
    )


def none(scene: Scene, rng, held_out: bool) -> Exchange | None:
    """An expression that fits nothing in the picture."""
    phrase = absent(scene, rng)
    if phrase is None:
        return None
    task = "several" if rng.random() < 0.3 else "rec"
    words = phrase.words(plural=task == "several")
    return _exchange(_phrasing(task, rng, held_out).format(x=words), NO_REGION, expression=words)


def caption(scene: Scene, rng, held_out: bool) -> Exchange:
    references = list(
        dict.fromkeys(
            (
                questions.caption_text(scene),
                questions.caption_text(scene, axis=1),
                questions.caption_text(scene, sizes=True),
            )
        )
    )
    return _exchange(_phrasing("caption", rng, held_out), questions.caption_text(scene), references=references)


def spot_caption(scene: Scene, rng, held_out: bool) -> Exchange:
    """A caption whose phrases carry their regions."""
    order = sorted(range(len(scene.things)), key=lambda i: (scene.things[i].centre[0], i))
    parts = [f"<p> {name(scene.things[i], size=False)} </p> {VIS}" for i in order]
    text = f"{' , '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    regions = tuple(scene_regions(scene)[i] for i in order)
    phrases = [name(scene.things[i], size=False) for i in order]
    return _exchange(_phrasing("spot_caption", rng, held_out), text, found=regions, phrases=phrases)


def _about_region(scene: Scene, rng, held_out: bool, task: str, answer: Callable) -> Exchange | None:
    """A question about a given region, and beside it the region of an object with another answer."""
    index = rng.randrange(len(scene.things))
    right = answer(scene.things[index])
    others = [i for i, thing in enumerate(scene.things) if answer(thing) != right]
    extra: dict[str, Any] = {"object": index}
    if others:
        wrong = rng.choice(others)
        extra |= {"wrong": scene_regions(scene)[wrong], "wrong_answer": answer(scene.things[wrong])}
    return _exchange(_phrasing(task, rng, held_out), right, asked=(scene_regions(scene)[index],), **extra)


def region_caption(scene: Scene, rng, held_out: bool) -> Exchange | None:
    return _about_region(scene, rng, held_out, "region_caption", name)


def region_question(scene: Scene, rng, held_out: bool) -> Exchange | None:
    word = rng.choice(("colour", "shape", "size"))
    return _about_region(scene, rng, held_out, f"region_{word}", lambda thing: getattr(thing, word))


def question(scene: Scene, rng, held_out: bool, kind: str | None = None) -> Exchange | None:
    """A question in words with an answer in words."""
    asked = questions.ask(scene, rng, kind or rng.choices(tuple(QUESTION_KINDS), tuple(QUESTION_KINDS.values()))[0])
    return None if asked is None else _exchange(asked[1], asked[2], type=asked[0])


def reasoning(scene: Scene, rng, held_out: bool) -> Exchange | None:
    """An object found by its use or a property of its shape, never by its name."""
    index = rng.randrange(len(scene.things))
    phrase = Phrase(shape=scene.things[index].shape, fact=rng.randrange(2))
    if refer(scene, phrase) != [index]:
        return None
    text = _phrasing("rec", rng, held_out).format(x=phrase.words())
    return _exchange(text, VIS, found=(scene_regions(scene)[index],), expression=phrase.words(), object=index)


TASKS: dict[str, Callable[..., Exchange | None]] = {
    "rec": rec,
    "several": several,
    "none": none,
    "caption": caption,
    "spot_caption": spot_caption,
    "region_caption": region_caption,
    "region_question": region_question,
    "question": question,
    "fact": partial(question, kind="fact"),  # questions that need a fact about use, alone
    "reasoning": reasoning,
}


def make_exchange(task: str, scene: Scene, rng, held_out: bool = False, tries: int = 4) -> Exchange | None:
    """One exchange of a task; None where the scene allows none.

    Raises:
        InputError: there is no such task.
    """
    if task not in TASKS:
        raise InputError(f"unknown task {task!r}; there are {', '.join(TASKS)}")
    for _ in range(tries):
        made = TASKS[task](scene, rng, held_out)
        if made is not None:
            return made
    return None
