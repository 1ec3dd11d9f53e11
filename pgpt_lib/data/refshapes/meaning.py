"""What the texts of RefShapes mean, read from their words and judged on plain annotations.

The generator is not imported: tables, parser and margins here are written from the meaning of the English words, so
that an error of the generator cannot hide in its checker. An annotation is a dict:

    {"category": "ring", "bbox": [x, y, width, height],  # pixels of the visible mask
     "attributes": {"colour": "red", "size": "small", "material": "plain", "side": 30, "layer": 0}}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import InputError

SHAPES = ("circle", "ring", "moon", "star", "square", "triangle", "cross", "domino")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "white", "black")
SIZES = ("small", "medium", "big")
ADJECTIVES = {
    **dict.fromkeys(COLOURS, "colour"),
    **dict.fromkeys(SIZES, "size"),
    **dict.fromkeys(("plain", "striped"), "material"),
}
NOUNS: dict[str, tuple[str | None, bool]] = {  # word -> (shape, plural)
    "thing": (None, False),
    "things": (None, True),
    "one": (None, False),
    "ones": (None, True),
    **{shape: (shape, False) for shape in SHAPES},
    **{shape + "s": (shape, True) for shape in SHAPES if shape not in ("cross", "domino")},
    "crosses": ("cross", True),
    "dominoes": ("domino", True),
}
THIRDS = {"x": ("left", "middle", "right"), "y": ("top", "middle", "bottom")}
PLACES: dict[str, dict[str, int]] = {  # words -> which third of an axis
    "on the left": {"x": 0},
    "on the right": {"x": 2},
    "at the top": {"y": 0},
    "at the bottom": {"y": 2},
    "in the centre": {"x": 1, "y": 1},
    **{
        f"at the {row} {column}": {"y": j, "x": i}
        for j, row in enumerate(THIRDS["y"])
        for i, column in enumerate(THIRDS["x"])
        if (row, column) != ("middle", "middle")
    },
}
SUPERLATIVES = {  # word -> (what is compared, whether the smallest value wins)
    "leftmost": ("x", True),
    "rightmost": ("x", False),
    "highest": ("y", True),
    "lowest": ("y", False),
    "biggest": ("side", False),
    "smallest": ("side", True),
}
RELATIONS = {
    "to the left of the": ("x", -1),
    "to the right of the": ("x", 1),
    "above the": ("y", -1),
    "below the": ("y", 1),
}
FACTS = {  # words -> the one shape that they are true of
    "that you can kick into a goal": "circle",
    "that looks like a coin": "circle",
    "that you can wear on a finger": "ring",
    "that has a hole": "ring",
    "that looks like a banana": "moon",
    "that has two tips": "moon",
    "that you give to a good film": "star",
    "that has five points": "star",
    "that you can play chess on": "square",
    "that has four corners": "square",
    "that warns a driver": "triangle",
    "that has three corners": "triangle",
    "that marks a hospital": "cross",
    "that looks like a plus": "cross",
    "that you play a game with": "domino",
    "that comes in two parts": "domino",
}
PLACE_MARGIN = 0.04  # of the picture: nearer to a third's line than this, a place is unclear
RELATION_MARGIN = 0.06  # of the picture: a relation or a rank in space won by less is unclear
SIZE_RATIO = 1.12  # a biggest or smallest whose side differs by less is unclear


class Unclear(ValueError):
    """A text that cannot be read, or whose meaning hangs on less than a margin."""


@dataclass(frozen=True)
class Seen:
    """An annotated object: its words, its visible box's centre as shares of the picture, its side in pixels."""

    words: Mapping[str, str]  # shape, colour, size, material
    x: float
    y: float
    side: float

    def name(self, size: bool) -> str:
        """All the object's words after "a" or "an"; stripes are said, plainness is not."""
        said = [self.words["size"]] * size + ["striped"] * (self.words["material"] == "striped")
        text = " ".join((*said, self.words["colour"], self.words["shape"]))
        return ("an " if text[0] in "aeiou" else "a ") + text


@dataclass(frozen=True)
class Description:
    """A noun phrase: `words` to fit, and what singles out among those that fit."""

    words: Mapping[str, set[str]]
    plural: bool
    superlative: str | None = None
    place: Mapping[str, int] = field(default_factory=dict)
    relation: tuple[str, int] | None = None
    anchor: Description | None = None


@dataclass(frozen=True)
class Verdict:
    """Indices of the annotations that a text means, none included; None where that is unclear, and why."""

    referents: list[int] | None
    reason: str


def see(annotations: Iterable[Mapping[str, Any]], width: int, height: int) -> list[Seen]:
    """The annotations as objects.

    Raises:
        InputError: a field is missing, a word is unknown, or a box lies outside the picture.
    """
    objects = []
    for annotation in annotations:
        try:
            x, y, w, h = annotation["bbox"]
            attributes = annotation["attributes"]
            words = {"shape": annotation["category"]} | {k: attributes[k] for k in ("colour", "size", "material")}
            side = attributes["side"]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"annotation {annotation} lacks a field that RefShapes writes: {error!r}") from None
        if not (0 <= x and 0 <= y and 0 < w and 0 < h and x + w <= width and y + h <= height):
            raise InputError(f"box {annotation['bbox']} does not lie in the {width} x {height} picture")
        unknown = [v for k, v in words.items() if v not in SHAPES and ADJECTIVES.get(v) != k]
        if unknown:
            raise InputError(f"annotation {annotation} has the unknown word {unknown[0]!r}")
        objects.append(Seen(words, (x + w / 2) / width, (y + h / 2) / height, side))
    return objects


def parse(text: str) -> Description:
    """A noun phrase without its article, as "leftmost small striped red ring" or "thing above the big moon".

    Raises:
        Unclear: a word or a modifier that has no meaning here.
    """
    words = text.split()
    at = next((i for i, word in enumerate(words) if word in NOUNS), None)
    if at is None:
        raise Unclear(f"no noun in {text!r}")
    shape, plural = NOUNS[words[at]]
    wanted: dict[str, set[str]] = {"shape": {shape}} if shape else {}
    superlatives = [word for word in words[:at] if word in SUPERLATIVES]
    for word in words[:at]:
        if word in ADJECTIVES:
            wanted.setdefault(ADJECTIVES[word], set()).add(word)
        elif word not in SUPERLATIVES or len(superlatives) > 1:
            raise Unclear(f"cannot read {word!r} in {text!r}")
    rest = " ".join(words[at + 1 :])
    relation, anchor = None, None
    if rest in FACTS:
        wanted.setdefault("shape", set()).add(FACTS[rest])
    elif rest and rest not in PLACES:
        lead = next((lead for lead in RELATIONS if rest.startswith(lead + " ")), None)
        if lead is None:
            raise Unclear(f"cannot read {rest!r} in {text!r}")
        relation, anchor = RELATIONS[lead], parse(rest.removeprefix(lead))
    superlative = superlatives[0] if superlatives else None
    return Description(wanted, plural, superlative, PLACES.get(rest, {}), relation, anchor)


def find(description: Description, objects: Sequence[Seen]) -> list[int]:
    """Indices of the objects that a description means.

    Raises:
        Unclear: an object lies too near a line, a relation or a rank is won by too little, or an anchor is not one.
    """
    found = [i for i, o in enumerate(objects) if all({o.words[k]} == wanted for k, wanted in description.words.items())]
    if description.place:
        found = [i for i in found if _inside(objects[i], description.place)]
    if description.relation and description.anchor:
        anchors = find(description.anchor, objects)
        if len(anchors) != 1:
            raise Unclear(f"{len(anchors)} objects fit what the relation starts from")
        axis, sign = description.relation
        anchor = getattr(objects[anchors[0]], axis)
        found = [i for i in found if i != anchors[0] and _beyond(sign * (getattr(objects[i], axis) - anchor))]
    if description.superlative and len(found) > 1:
        found = [_extreme(found, objects, description.superlative)]
    return found


def _inside(thing: Seen, place: Mapping[str, int]) -> bool:
    """Whether a centre lies in the thirds of a place; a line it is near matters only if no other axis rules it out."""
    near = False
    for axis, third in place.items():
        value = getattr(thing, axis)
        # how deep inside the third the centre lies; the picture's own border is no line to be near of
        depths = [value - third / 3] * (third > 0) + [(third + 1) / 3 - value] * (third < 2)
        if min(depths) < -PLACE_MARGIN:
            return False
        near = near or min(depths) < PLACE_MARGIN
    if near:
        raise Unclear("an object lies near the border of the place")
    return True


def _beyond(lead: float) -> bool:
    if abs(lead) < RELATION_MARGIN:
        raise Unclear("a relation is too close to tell")
    return lead > 0


def _extreme(found: list[int], objects: Sequence[Seen], word: str) -> int:
    what, least = SUPERLATIVES[word]
    order = sorted(found, key=lambda i: getattr(objects[i], what), reverse=not least)
    first, second = (getattr(objects[i], what) for i in order[:2])
    close = max(first, second) < SIZE_RATIO * min(first, second) if what == "side" else None
    if close or (close is None and abs(first - second) < RELATION_MARGIN):
        raise Unclear(f"the {word} is too close to tell")
    return order[0]


def third_of(thing: Seen) -> tuple[int, int]:
    """(row, column) of the ninth of the picture that holds an object's centre.

    Raises:
        Unclear: the centre lies near a line.
    """
    for row in range(3):
        for column in range(3):
            if _inside(thing, {"y": row, "x": column}):
                return row, column
    raise Unclear("the object lies in no part of the picture")
