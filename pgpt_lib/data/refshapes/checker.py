"""Proof that RefShapes says what it means: a checker that shares no word, parser or rule with the generator.

`judge` reads a text and says which annotations it means. `check_scenes` judges scenes in memory, of which the generator
supplies texts and annotations as plain data; `folder_check` judges everything that a written folder holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ...regions import Region
from ..refcoco import SPLIT_BY
from ..sample import VIS, Sample, Turn
from .answers import answer_error, caption_error
from .meaning import Seen, Unclear, Verdict, find, parse, see

EXAMPLES = 5  # wrong items shown of each kind
# How an object is asked for; what is left of "all" or "the" is the noun phrase.
REQUEST = re.compile(r"(?:(?:please )?(?:locate|find|show|point to)|where can you see|where is) (all|the) (.+) [.?]")
ABOUT_REGION = re.compile(
    rf"(?:(?:please )?describe|(?:what|(?:please )?name the)(?: (colour|shape|size))?(?: is| of))"
    rf"(?: the thing (?:in|at)| it in)? {VIS} [.?]"
)
POINTING = re.compile(r"(?:please )?describe (?:the picture|what you see) and point \.|what do you see and where \?")
NAMED = re.compile(rf"<p> (.+?) </p> {VIS}")
IN_SPACE = ("leftmost", "rightmost", "highest", "lowest")
Annotations = Sequence[Mapping[str, Any]]


def judge(text: str, annotations: Annotations, width: int, height: int) -> Verdict:
    """Which annotations a referring expression means, bare or in a request such as "find the red ring ."

    Args:
        annotations: plain dicts; `meaning` shows one.
        width: of the picture in pixels, as `height`.

    Raises:
        InputError: an annotation lacks a field, or its box lies outside the picture.
    """
    return _judge(text, see(annotations, width, height))


def _judge(text: str, objects: Sequence[Seen]) -> Verdict:
    asked = REQUEST.fullmatch(text)
    try:
        description = parse(asked.group(2) if asked else text)
        if asked and (asked.group(1) == "all") != description.plural:
            raise Unclear(f"{asked.group(1)!r} and the noun's number disagree")
        found = find(description, objects)
    except Unclear as reason:
        return Verdict(None, f"unclear: {reason}")
    return Verdict(found, f"{len(found) or 'no'} object{'s' * (len(found) != 1)} fit{'s' * (len(found) == 1)}")


def _phrase(text: str) -> str:
    """The noun phrase of a request; any other text is one itself."""
    asked = REQUEST.fullmatch(text)
    return asked.group(2) if asked else text


def expression_error(text: str, claimed: Sequence[int], objects: Sequence[Seen]) -> str | None:
    """What is wrong with the claim that a text means these objects; None if nothing is.

    One object takes a singular; several take a plural and stand from left to right; none takes either.
    """
    verdict = _judge(text, objects)
    if verdict.referents is None:
        return verdict.reason
    if sorted(claimed) != sorted(verdict.referents):
        return f"it means {verdict.referents}, not {list(claimed)}"
    if any(objects[a].x > objects[b].x for a, b in zip(claimed, claimed[1:], strict=False)):
        return f"{list(claimed)} is not from left to right"
    plural = parse(_phrase(text)).plural
    if claimed and plural != (len(claimed) > 1):
        return f"{'a plural' if plural else 'a singular'} for {len(claimed)} objects"
    return None


def exchange_error(user: Turn, assistant: Turn, annotations: Annotations, width: int, height: int) -> str | None:
    """What is wrong with a question and its answer, words and regions alike; None if nothing is."""
    try:
        asked = [_which(region, annotations, width, height) for region in user.regions]
        found = [_which(region, annotations, width, height) for region in assistant.regions]
    except Unclear as reason:
        return str(reason)
    return turns_error(user.text, asked, assistant.text, found, see(annotations, width, height))


def turns_error(
    question: str, asked: Sequence[int], answer: str, found: Sequence[int], objects: Sequence[Seen]
) -> str | None:
    """What is wrong with a question and its answer, whose regions are those of these objects; None if nothing is."""
    if (question.count(VIS), answer.count(VIS)) != (len(asked), len(found)):
        return f"{len(asked)} and {len(found)} regions for {question!r} and {answer!r}"
    about = ABOUT_REGION.fullmatch(question)
    if about:
        thing = objects[asked[0]]
        right = thing.words[about.group(1)] if about.group(1) else thing.name(size=True)
        return None if answer == right else f"the answer is {right!r}, not {answer!r}"
    if REQUEST.fullmatch(question):
        if answer != (" ".join([VIS] * len(found)) or "none"):
            return f"{answer!r} is neither regions nor 'none'"
        return expression_error(question, found, objects)
    if POINTING.fullmatch(question):
        return _pointing_error(answer, found, objects)
    return answer_error(question, answer, objects)


def _pointing_error(text: str, found: Sequence[int], objects: Sequence[Seen]) -> str | None:
    """A caption with each name between <p> and </p> before its region."""
    names = NAMED.findall(text)
    if len(names) != len(found) or sorted(found) != list(range(len(objects))):
        return f"{len(names)} names and regions {list(found)} for {len(objects)} objects"
    wrong = [name for name, i in zip(names, found, strict=True) if objects[i].name(size=False) != name]
    return f"{wrong[0]!r} stands before another's region" if wrong else caption_error(NAMED.sub(r"\1", text), objects)


def _which(region: Region, annotations: Annotations, width: int, height: int) -> int:
    """The annotation that a region shows, by its box, to half a pixel."""
    if region.box is None:
        raise Unclear("a region without a box")
    x0, y0, x1, y1 = (c * s for c, s in zip(region.box, (width, height, width, height), strict=True))
    box = (x0, y0, x1 - x0, y1 - y0)
    boxes = [annotation["bbox"] for annotation in annotations]
    fitting = [i for i, b in enumerate(boxes) if all(abs(p - q) < 0.5 for p, q in zip(box, b, strict=True))]
    if len(fitting) != 1:
        raise Unclear(f"{len(fitting)} objects have the box {[round(c, 1) for c in box]}")
    return fitting[0]


class Tally:
    """Counts of right and wrong by kind, and the first wrong ones."""

    def __init__(self) -> None:
        self.kinds: dict[str, dict[str, Any]] = {}

    def add(self, kind: str, error: str | None, where: str, text: str) -> None:
        """One judged item; `error` says what is wrong with it, None that nothing is."""
        entry = self.kinds.setdefault(kind, {"checked": 0, "right": 0, "wrong": 0, "examples": []})
        entry["checked"] += 1
        entry["right" if error is None else "wrong"] += 1
        if error is not None and len(entry["examples"]) < EXAMPLES:
            entry["examples"].append(f"{where}: {text!r}: {error}")

    def result(self) -> dict[str, Any]:
        """All kinds, and the totals over them."""
        totals = {key: sum(entry[key] for entry in self.kinds.values()) for key in ("checked", "right", "wrong")}
        return {**totals, "kinds": self.kinds}


def location_error(text: str) -> str | None:
    """What is wrong with a text as one of RefCOCO+, which describes objects by their looks; None if nothing is."""
    said = parse(text)
    in_space = said.place or said.relation or said.superlative in IN_SPACE
    return "refcoco+ takes no words for a place" if in_space else None


def check_scenes(level: str, split: str, seed: int, count: int, without: Sequence[str] = ()) -> dict[str, Any]:
    """Judge what the generator says about scenes in memory: expressions of the three styles, tasks and questions.

    Args:
        without: kinds to leave out, named as in the result.

    Returns:
        checked, right, wrong, and under "kinds" the same with the first wrong ones for each style, task and type of
        question.

    Raises:
        InputError: an unknown level.
    """
    from . import world  # a source of data only: texts, regions, annotations

    tally = Tally()
    keys = [world.image_id(level, split, seed, index) for index in range(count)]
    pictures = {key: plain_annotations(world.scene_of(key)) for key in keys}
    for kind, samples in _generated(level, split, seed, count, without):
        for sample in samples:
            annotations = pictures[sample.image_id]
            error = _sample_error(sample, annotations)
            if error is None and kind == "refcoco+":
                error = location_error(sample.extra["expression"])
            tally.add(kind, error, sample.sample_id, sample.turns[0].text)
    return {"scenes": count, **tally.result()}


def _generated(
    level: str, split: str, seed: int, count: int, without: Sequence[str]
) -> Iterator[tuple[str, list[Sample]]]:
    """The generator's samples, one kind after the other: ten thousand scenes of all kinds at once fill a memory."""
    from . import questions, world

    makers: dict[str, Callable[[], list[Sample]]] = {
        dataset: partial(world.rec_samples, dataset, split, count, seed, level, kinds=False) for dataset in SPLIT_BY
    }
    for task in ("several", "none", "reasoning", "region_caption", "region_question", "caption", "spot_caption"):
        makers[task] = partial(world.task_samples, task, split, count, seed, level)
    for kind in (*questions.SCORED, *questions.OTHER):
        makers[f"question: {kind}"] = partial(world.question_samples, split, count, seed, level, (kind,))
    for name, make in makers.items():
        if name not in without:
            yield name, make()


def _sample_error(sample: Sample, annotations: Annotations) -> str | None:
    """What is wrong with a sample, the other region that a region task brings along included."""
    (user, assistant), (height, width) = sample.turns, sample.size
    error = exchange_error(user, assistant, annotations, width, height)
    if error is None and "wrong" in sample.extra:
        swapped = Turn("user", user.text, (sample.extra["wrong"],))
        other = Turn("assistant", sample.extra["wrong_answer"])
        error = exchange_error(swapped, other, annotations, width, height)
        if error is None and other.text == assistant.text:
            error = "both regions have one answer"
    return error


def plain_annotations(scene: Any) -> list[dict[str, Any]]:
    """A scene's objects as the annotations that `judge` takes, as they stand in instances.json."""
    return [
        {
            "category": thing.shape,
            "bbox": [thing.box[0], thing.box[1], thing.box[2] - thing.box[0], thing.box[3] - thing.box[1]],
            "attributes": {key: getattr(thing, key) for key in ("colour", "size", "material", "side", "layer")},
        }
        for thing in scene.things
    ]
