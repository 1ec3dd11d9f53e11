"""Descriptions of objects, their words, and what they refer to.

A description is clear only if no object lies near one of its borders: a place near a third's line, a rank or a relation
won by a hair make `refer` answer None, and such a description is never used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from .levels import COLOURS, SIZES
from .scene import Scene, Thing

PLURALS = {"cross": "crosses", "domino": "dominoes"}
COLUMNS, ROWS = ("left", "middle", "right"), ("top", "middle", "bottom")
SIDES = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}
RANKS = {
    "leftmost": (0, -1),
    "rightmost": (0, 1),
    "highest": (1, -1),
    "lowest": (1, 1),
    "biggest": (2, 1),
    "smallest": (2, -1),
}
RELATIONS = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
FACTS = {
    "circle": ("that you can kick into a goal", "that looks like a coin"),
    "ring": ("that you can wear on a finger", "that has a hole"),
    "moon": ("that looks like a banana", "that has two tips"),
    "star": ("that you give to a good film", "that has five points"),
    "square": ("that you can play chess on", "that has four corners"),
    "triangle": ("that warns a driver", "that has three corners"),
    "cross": ("that marks a hospital", "that looks like a plus"),
    "domino": ("that you play a game with", "that comes in two parts"),
}
_BORDER = 8  # percent of the image: how far from a third's line a centre must lie
_MARGIN = 11  # percent of the image: by how much a relation or a rank must hold


@dataclass(frozen=True)
class Phrase:
    """A description: words that an object must fit, and at most one of a place, a rank, a relation or a fact."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    material: str | None = None
    side: str | None = None  # a key of SIDES
    cell: tuple[str, str] | None = None  # (row, column)
    rank: str | None = None  # a key of RANKS
    relation: str | None = None  # a key of RELATIONS
    anchor: Phrase | None = None
    fact: int | None = None  # which of FACTS[shape]; the shape itself is then not said

    def words(self, plural: bool = False) -> str:
        """The noun phrase without an article."""
        noun = "one" if self.fact is not None else self.shape or "thing"
        if plural:
            noun = PLURALS.get(noun, noun + "s")
        words = [w for w in (self.rank, self.size, self.material, self.colour, noun) if w]
        if self.side:
            words.append(SIDES[self.side])
        if self.cell:
            words.append(f"at the {cell_name(*self.cell)}" if self.cell != ("middle", "middle") else "in the centre")
        if self.fact is not None:
            words.append(FACTS[cast(str, self.shape)][self.fact])
        if self.relation:
            words.append(f"{RELATIONS[self.relation]} the {cast(Phrase, self.anchor).words()}")
        return " ".join(words)

    def plain(self) -> Phrase:
        """The same without place, rank, relation and fact."""
        return replace(self, side=None, cell=None, rank=None, relation=None, anchor=None, fact=None)


def cell_name(row: str, column: str) -> str:
    """The words for one of the nine parts of a picture."""
    return "centre" if (row, column) == ("middle", "middle") else f"{row} {column}"


def third(scene: Scene, thing: Thing, axis: int) -> int | None:
    """Which third of the picture holds the visible box's centre along x (0) or y (1); None near a border."""
    span = 2 * scene.level.image_size
    position = 3 * thing.centre[axis]
    if any(100 * abs(position - line * span) < 3 * _BORDER * span for line in (1, 2)):
        return None
    return min(2, position // span)


def cell(scene: Scene, thing: Thing) -> tuple[str, str] | None:
    """(row, column) of the part that holds the object, or None near a border."""
    column, row = third(scene, thing, 0), third(scene, thing, 1)
    return None if row is None or column is None else (ROWS[row], COLUMNS[column])


def fits(thing: Thing, phrase: Phrase) -> bool:
    """Whether the object has the words of the description: shape, colour, size and material."""
    return (
        (phrase.shape is None or thing.shape == phrase.shape)
        and (phrase.colour is None or thing.colour == phrase.colour)
        and (phrase.size is None or thing.size == phrase.size)
        and (phrase.material is None or thing.material == phrase.material)
    )


def refer(scene: Scene, phrase: Phrase) -> list[int] | None:
    """Indices of the objects that the description means; None where it is not clear."""
    things = scene.things
    found = [i for i, thing in enumerate(things) if fits(thing, phrase)]
    if phrase.side or phrase.cell:
        wanted = _wanted_thirds(phrase)
        kept = []
        for i in found:
            for axis, index in wanted:
                at = third(scene, things[i], axis)
                if at is None:
                    return None
                if at != index:
                    break
            else:
                kept.append(i)
        return kept
    if phrase.relation:
        anchors = refer(scene, cast(Phrase, phrase.anchor))
        if anchors is None or len(anchors) != 1:
            return None
        anchor = things[anchors[0]]
        kept = []
        for i in found:
            if i == anchors[0]:
                continue
            holds = related(scene, things[i], phrase.relation, anchor)
            if holds is None:
                return None
            if holds:
                kept.append(i)
        return kept
    if phrase.rank:
        return _ranked(scene, found, phrase.rank)
    return found


def _wanted_thirds(phrase: Phrase) -> list[tuple[int, int]]:
    """(axis, third) that the description's place demands."""
    if phrase.cell:
        return [(1, ROWS.index(phrase.cell[0])), (0, COLUMNS.index(phrase.cell[1]))]
    return [(0, COLUMNS.index(phrase.side))] if phrase.side in COLUMNS else [(1, ROWS.index(phrase.side))]


def related(scene: Scene, thing: Thing, relation: str, anchor: Thing) -> bool | None:
    """Whether one object's centre is left of, right of, above or below another's; None within the margin."""
    axis = 0 if relation in ("left", "right") else 1
    difference = thing.centre[axis] - anchor.centre[axis]
    if 100 * abs(difference) < 2 * _MARGIN * scene.level.image_size:
        return None
    return difference < 0 if relation in ("left", "above") else difference > 0


def _ranked(scene: Scene, found: list[int], rank: str) -> list[int] | None:
    """The extreme one of at least two; None if the lead is too small."""
    if len(found) < 2:
        return None
    axis, sign = RANKS[rank]
    if axis == 2:
        order = sorted(found, key=lambda i: -sign * scene.things[i].side)
        first, second = (scene.things[i].side for i in order[:2])
        return order[:1] if 100 * max(first, second) >= 125 * min(first, second) else None
    order = sorted(found, key=lambda i: -sign * scene.things[i].centre[axis])
    first, second = (scene.things[i].centre[axis] for i in order[:2])
    return order[:1] if 100 * abs(first - second) >= 2 * _MARGIN * scene.level.image_size else None


STYLES = {
    # how often each kind of description is tried: words alone, side, cell, rank of place, rank of size, relation
    "refcoco": (5, 3, 1, 3, 0, 0),
    "refcoco+": (8, 0, 0, 0, 2, 0),
    "refcocog": (0, 0, 0, 0, 0, 1),
    "any": (8, 3, 1, 2, 1, 0),
    "placeless": (8, 0, 0, 0, 2, 0),
    "sizeless": (8, 3, 1, 2, 0, 0),
}


def describe(scene: Scene, index: int, rng, style: str, forbid: tuple[str, ...] = (), tries: int = 10) -> Phrase | None:
    """A description of one object that means it alone, in a style of `STYLES`.

    Args:
        forbid: words that must not be used: "shape", "colour", "size" or "material".
    """
    thing = scene.things[index]
    kinds = rng.choices(range(6), STYLES[style], k=tries)
    for kind in kinds:
        phrase = _candidate(scene, index, thing, rng, kind, forbid, long=style == "refcocog")
        if phrase is not None and refer(scene, phrase) == [index]:
            return phrase
    return None


def _candidate(
    scene: Scene, index: int, thing: Thing, rng, kind: int, forbid: tuple[str, ...], long: bool
) -> Phrase | None:
    """One random description of the kind, true of the object but perhaps of others too."""
    full = kind == 0 or long
    phrase = Phrase(
        shape=None if "shape" in forbid or rng.random() < 0.12 else thing.shape,
        colour=None if "colour" in forbid or rng.random() < (0.3 if full else 0.6) else thing.colour,
        size=None if "size" in forbid or rng.random() < (0.65 if full else 0.85) else thing.size,
        material=None if "material" in forbid or thing.material == "plain" or rng.random() < 0.7 else thing.material,
    )
    if kind == 0:
        return phrase if phrase != Phrase() else None
    if kind == 1:
        column, row = third(scene, thing, 0), third(scene, thing, 1)
        options = [COLUMNS[column]] if column in (0, 2) else []
        options += [ROWS[row]] if row in (0, 2) else []
        return replace(phrase, side=rng.choice(options)) if options else None
    if kind == 2:
        at = cell(scene, thing)
        return replace(phrase, cell=at) if at else None
    if kind == 3:
        return replace(phrase, rank=rng.choice(("leftmost", "rightmost", "highest", "lowest")))
    if kind == 4:
        return None if "size" in forbid else replace(phrase, size=None, rank=rng.choice(("biggest", "smallest")))
    anchor = rng.randrange(len(scene.things))
    if anchor == index:
        return None
    words = describe(scene, anchor, rng, "placeless", (), tries=3)
    return replace(phrase, relation=rng.choice(tuple(RELATIONS)), anchor=words) if words else None


def name(thing: Thing, size: bool = True) -> str:
    """All of an object's words with an article, as captions use them."""
    words = [thing.size] if size else []
    words += [thing.material] if thing.material != "plain" else []
    return with_article(" ".join((*words, thing.colour, thing.shape)))


def with_article(words: str) -> str:
    """The words after "a" or "an"."""
    return ("an " if words.startswith("orange") else "a ") + words


def absent(scene: Scene, rng) -> Phrase | None:
    """A description of two words that fits nothing here, though each word fits something where possible."""
    for _ in range(12):
        a, b = rng.choice(scene.things), rng.choice(scene.things)
        hard = rng.random() < 0.7
        shape = a.shape if hard or rng.random() < 0.5 else rng.choice(scene.level.shapes)
        if rng.random() < 0.75:
            phrase = Phrase(shape=shape, colour=b.colour if hard else rng.choice(tuple(COLOURS)))
        else:
            phrase = Phrase(shape=shape, size=b.size if hard else rng.choice(SIZES))
        if not any(fits(t, phrase) for t in scene.things):
            return phrase
    return None
