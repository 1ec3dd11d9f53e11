"""Which answers to a question about a scene are right, judged from the question's words and plain annotations."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from .meaning import FACTS, SIZES, THIRDS, Seen, Unclear, find, parse, third_of

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
FIFTHS = {
    "x": ("far left", "left", "middle", "right", "far right"),
    "y": ("very high", "high", "middle", "low", "very low"),
}
CAPTIONS = re.compile(r"(?:please )?describe (?:the picture|what you see) \.|what do you see \?")
ORDER_MARGIN = 0.02  # of the picture: nearer than this, the order of two objects is unclear
LINE_MARGIN = 0.01  # of the picture: nearer to a fifth's line than this, both words are right
Objects = Sequence[Seen]


def answers(question: str, objects: Objects) -> set[str]:
    """Every right answer to a question with a short answer; empty for a question that is not understood.

    Raises:
        Unclear: the question is understood, but its answer hangs on less than a margin.
    """
    for pattern, answer in QUESTIONS:
        matched = pattern.fullmatch(question)
        if matched:
            return answer(objects, *matched.groups())
    return set()


def answer_error(question: str, answer: str, objects: Objects) -> str | None:
    """What is wrong with an answer; None if nothing is. A caption is asked for like any other answer."""
    if CAPTIONS.fullmatch(question):
        return caption_error(answer, objects)
    try:
        right = answers(question, objects)
    except Unclear as reason:
        return str(reason)
    if not right:
        return f"{question!r} is no question that has an answer"
    return None if answer in right else f"the answer is {' or '.join(sorted(right))}, not {answer!r}"


def one(objects: Objects, phrase: str) -> Seen:
    """The only object that a phrase means.

    Raises:
        Unclear: there is none, or there are several.
    """
    found = find(parse(phrase), objects)
    if len(found) != 1:
        raise Unclear(f"{len(found)} objects fit {phrase!r}")
    return objects[found[0]]


def in_order(objects: Objects, axis: str, margin: float = ORDER_MARGIN) -> list[Seen]:
    """Objects from left to right ("x") or top to bottom ("y").

    Raises:
        Unclear: two of them are nearer than the margin.
    """
    order = sorted(objects, key=lambda o: getattr(o, axis))
    if any(getattr(b, axis) - getattr(a, axis) < margin for a, b in zip(order, order[1:], strict=False)):
        raise Unclear("the order of two objects is too close to tell")
    return order


def caption_error(text: str, objects: Objects, axis: str = "x") -> str | None:
    """What is wrong with a caption: it must name every object once, in the order of an axis; None if nothing is.

    Sizes are said of all objects or of none. Objects that lie nearer than the margin may stand in either order.
    """
    names = [part for piece in text.split(" , ") for part in piece.split(" and ")]
    expected = " , ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else text
    if text != expected:
        return f"{text!r} does not join its names with commas and one 'and'"
    left = list(objects)
    sizes = any(size in names[0].split() for size in SIZES)
    reached = -1.0
    for name in names:
        fitting = [o for o in left if o.name(sizes) == name]
        if not fitting:
            return f"{name!r} is no object, or one named before"
        first = min(fitting, key=lambda o: getattr(o, axis))
        if getattr(first, axis) < reached - LINE_MARGIN:
            return f"{name!r} comes too late in the order"
        reached = max(reached, getattr(first, axis))
        left.remove(first)
    return f"{left[0].name(True)!r} is not named" if left else None


def _attribute(objects: Objects, word: str, phrase: str) -> set[str]:
    return {one(objects, phrase).words[word]}


def _shape_of_fact(objects: Objects, fact: str) -> set[str]:
    """What a fact is true of: asked without regard to the picture."""
    return {FACTS[fact]} if fact in FACTS else set()


def _part(objects: Objects, phrase: str) -> set[str]:
    row, column = third_of(one(objects, phrase))
    return {"centre" if (row, column) == (1, 1) else f"{THIRDS['y'][row]} {THIRDS['x'][column]}"}


def _how_many(objects: Objects, phrase: str) -> set[str]:
    description = parse(phrase)
    return {NUMBERS[len(find(description, objects))]} if description.plural else set()


def _existence(objects: Objects, article: str, phrase: str) -> set[str]:
    right = "an" if phrase[0] in "aeiou" else "a"
    return {"yes" if find(parse(phrase), objects) else "no"} if article == right else set()


def _striped(objects: Objects, phrase: str) -> set[str]:
    return {"yes" if one(objects, phrase).words["material"] == "striped" else "no"}


def _naming(objects: Objects, phrase: str) -> set[str]:
    return {one(objects, phrase).name(size=True)}


def _exactly(objects: Objects, phrase: str) -> set[str]:
    thing = one(objects, phrase)
    words = {}
    for axis, names in FIFTHS.items():
        near = {min(4, max(0, int(5 * (getattr(thing, axis) + d)))) for d in (-LINE_MARGIN, LINE_MARGIN)}
        words[axis] = [names[i] for i in near]
    return {f"{row} , {column}" for row in words["y"] for column in words["x"]}


def _list_words(objects: Objects, word: str, way: str) -> set[str]:
    order = in_order(objects, "x" if way == "from left to right" else "y")
    return {" , ".join(o.words[word] for o in order)}


def _nth(objects: Objects, word: str, ordinal: str, side: str) -> set[str]:
    order = in_order(objects, "x")
    n = ORDINALS.index(ordinal)
    if n >= len(order):
        raise Unclear(f"there is no {ordinal} of {len(order)} objects")
    return {(order if side == "left" else order[::-1])[n].words[word]}


def _counts(objects: Objects, kinds: str) -> set[str]:
    phrases = [parse(kind) for kind in kinds.split(" , ")]
    if not all(phrase.plural for phrase in phrases):
        return set()
    return {f"[ {' , '.join(str(len(find(phrase, objects))) for phrase in phrases)} ]"}


def _to_digit(objects: Objects, word: str) -> set[str]:
    return {str(NUMBERS.index(word))} if word in NUMBERS else set()


def _to_word(objects: Objects, digit: str) -> set[str]:
    return {NUMBERS[int(digit)]}


def _count_on(objects: Objects, start: str) -> set[str]:
    return {f"[ {' , '.join(str(int(start) + k) for k in (1, 2, 3))} ]"}


def _repeat(objects: Objects, content: str) -> set[str]:
    return {f"[ {content} ]"}


def _sort(objects: Objects, content: str) -> set[str]:
    return {f"[ {' , '.join(sorted(content.split(' , '), key=int))} ]"}


QUESTIONS: tuple[tuple[re.Pattern[str], Callable[..., set[str]]], ...] = tuple(
    (re.compile(pattern), answer)
    for pattern, answer in (
        (rf"what (colour|shape) is the ({'|'.join(ORDINALS)}) thing from the (left|right) \?", _nth),
        (r"what shape is the one (that .+) \?", _shape_of_fact),
        (r"what (colour|shape|size) is the (.+) \?", _attribute),
        (r"which part holds the (.+) \?", _part),
        (r"how many (.+) are there \?", _how_many),
        (r"is there (an?) (.+) \?", _existence),
        (r"is the (.+) striped \?", _striped),
        (r"what is the (.+) \?", _naming),
        (r"where exactly is the (.+) \?", _exactly),
        (r"list the (colour|shape)s (from left to right|from top to bottom) \.", _list_words),
        (r"count the (.+) \.", _counts),
        (r"write ([a-z]+) as a digit \.", _to_digit),
        (r"write (\d) as a word \.", _to_word),
        (r"count on from (\d) \.", _count_on),
        (r"repeat \[ (.+) \] \.", _repeat),
        (r"sort \[ ([\d ,]+) \] \.", _sort),
    )
)
