"""Questions about a scene with their answers in words, and text without pictures: what nano is pretrained on.

A question is a triple (type, question, answer). The six types that are scored are asked equally often; where an answer
would hang on a threshold, the question is not asked.
"""

from __future__ import annotations

from collections.abc import Callable

from .levels import COLOURS, SHAPES, SIZES
from .phrases import FACTS, PLURALS, Phrase, absent, cell, cell_name, describe, fits, name, refer, with_article
from .scene import Scene

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
ORDINALS = ("first", "second", "third", "fourth", "fifth")
Question = tuple[str, str, str]
FINE_COLUMNS = ("far left", "left", "middle", "right", "far right")
FINE_ROWS = ("very high", "high", "middle", "low", "very low")


def colour(scene: Scene, rng, style: str = "any") -> Question | None:
    index = rng.randrange(len(scene.things))
    phrase = describe(scene, index, rng, style, ("colour",), tries=4)
    return ("colour", f"what colour is the {phrase.words()} ?", scene.things[index].colour) if phrase else None


def shape(scene: Scene, rng, style: str = "any") -> Question | None:
    index = rng.randrange(len(scene.things))
    phrase = describe(scene, index, rng, style, ("shape",), tries=4)
    return ("shape", f"what shape is the {phrase.words()} ?", scene.things[index].shape) if phrase else None


def place(scene: Scene, rng) -> Question | None:
    clear = [(i, at) for i, thing in enumerate(scene.things) if (at := cell(scene, thing)) is not None]
    if not clear:
        return None
    index, at = rng.choice(clear)
    phrase = describe(scene, index, rng, "placeless", tries=4)
    return ("place", f"which part holds the {phrase.words()} ?", cell_name(*at)) if phrase else None


def size(scene: Scene, rng) -> Question | None:
    wanted = rng.choice(SIZES)  # big ones are rare
    index = rng.choice([i for i, t in enumerate(scene.things) if t.size == wanted] or range(len(scene.things)))
    phrase = describe(scene, index, rng, "sizeless", ("size",), tries=4)
    return ("size", f"what size is the {phrase.words()} ?", scene.things[index].size) if phrase else None


def _kind(scene: Scene, rng) -> Phrase:
    """Words that could fit several objects."""
    thing = rng.choice(scene.things)
    draw = rng.random()
    if draw < 0.4:
        return Phrase(shape=thing.shape if rng.random() < 0.85 else rng.choice(scene.level.shapes))
    if draw < 0.75:
        return Phrase(colour=thing.colour if rng.random() < 0.85 else rng.choice(tuple(COLOURS)))
    if draw < 0.9:
        return Phrase(shape=thing.shape, colour=rng.choice(scene.things).colour)
    return Phrase(size=rng.choice(SIZES))


def _counted(scene: Scene, rng) -> tuple[Phrase, int]:
    """A kind and its number, numbers drawn evenly where the scene allows."""
    wanted = rng.choice((0, 1, 2, 2, 3, 3))
    for _ in range(6):
        phrase = _kind(scene, rng)
        number = sum(fits(t, phrase) for t in scene.things)
        if number == wanted:
            break
    return phrase, number


def count(scene: Scene, rng) -> Question:
    phrase, number = _counted(scene, rng)
    return "count", f"how many {phrase.words(plural=True)} are there ?", NUMBERS[number]


def existence(scene: Scene, rng) -> Question | None:
    if rng.random() < 0.5:
        thing = rng.choice(scene.things)
        word = {"colour": thing.colour} if rng.random() < 0.75 else {"size": thing.size}
        return "existence", f"is there {with_article(Phrase(shape=thing.shape, **word).words())} ?", "yes"
    phrase = absent(scene, rng)
    return ("existence", f"is there {with_article(phrase.words())} ?", "no") if phrase else None


# ---- beside the six: what later representations and tasks need to have met in words
def relation(scene: Scene, rng) -> Question | None:
    """An object named by where it lies from another one, as RefCOCOg's style does."""
    index = rng.randrange(len(scene.things))
    word = rng.choice(("colour", "shape"))
    phrase = describe(scene, index, rng, "refcocog", (word,), tries=4)
    return (
        ("relation", f"what {word} is the {phrase.words()} ?", getattr(scene.things[index], word)) if phrase else None
    )


def what_is(scene: Scene, rng) -> Question | None:
    """The words of an object given its place: region captions in words."""
    index = rng.randrange(len(scene.things))
    for phrase in (
        Phrase(cell=cell(scene, scene.things[index])),
        describe(scene, index, rng, "any", ("shape", "colour")),
    ):
        if phrase and phrase != Phrase() and refer(scene, phrase) == [index]:
            return "naming", f"what is the {phrase.words()} ?", name(scene.things[index])
    return None


def fine_place(scene: Scene, rng) -> Question | None:
    """Where an object lies, in finer words than thirds."""
    index = rng.randrange(len(scene.things))
    phrase = describe(scene, index, rng, "placeless", tries=4)
    if phrase is None:
        return None
    span = 2 * scene.level.image_size
    centre = scene.things[index].centre
    if any(100 * abs(5 * c - line * span) < 5 * 3 * span for c in centre for line in range(1, 5)):
        return None  # within 3 % of the picture from a line
    x, y = (min(4, 5 * c // span) for c in centre)
    return "fine place", f"where exactly is the {phrase.words()} ?", f"{FINE_ROWS[y]} , {FINE_COLUMNS[x]}"


def fact(scene: Scene, rng) -> Question | None:
    """A question whose object is named by its use."""
    index = rng.randrange(len(scene.things))
    thing = scene.things[index]
    if sum(t.shape == thing.shape for t in scene.things) != 1:
        return None
    words = Phrase(shape=thing.shape, fact=rng.randrange(2)).words()
    kind = rng.randrange(3)
    if kind == 0:
        return "fact", f"what colour is the {words} ?", thing.colour
    if kind == 1:
        return "fact", f"what size is the {words} ?", thing.size
    at = cell(scene, thing)
    return ("fact", f"which part holds the {words} ?", cell_name(*at)) if at else None


def fact_shape(scene: Scene, rng) -> Question:
    """What a fact is true of: no picture needed."""
    which = rng.choice(scene.level.shapes)
    return "fact shape", f"what shape is the {Phrase(shape=which, fact=rng.randrange(2)).words()} ?", which


def material(scene: Scene, rng) -> Question | None:
    index = rng.randrange(len(scene.things))
    phrase = describe(scene, index, rng, "any", ("material",), tries=4)
    if phrase is None or (scene.things[index].material == "plain" and rng.random() < 0.6):
        return None
    return (
        "material",
        f"is the {phrase.words()} striped ?",
        "yes" if scene.things[index].material == "striped" else "no",
    )


def in_order(scene: Scene, rng) -> Question | None:
    """Colours or shapes from left to right or from top to bottom."""
    axis = rng.randrange(2)
    order = ordered(scene, axis)
    if order is None:
        return None
    word = rng.choice(("colour", "shape"))
    way = ("from left to right", "from top to bottom")[axis]
    return "order", f"list the {word}s {way} .", " , ".join(getattr(scene.things[i], word) for i in order)


def ordered(scene: Scene, axis: int, margin: int = 4) -> list[int] | None:
    """Objects by the centre's x or y; None where two are too close (in percent of the image)."""
    order = sorted(range(len(scene.things)), key=lambda i: scene.things[i].centre[axis])
    at = [scene.things[i].centre[axis] for i in order]
    near = any(100 * (b - a) < 2 * margin * scene.level.image_size for a, b in zip(at, at[1:], strict=False))
    return None if near else order


def caption(scene: Scene, rng) -> Question:
    return "caption", rng.choice(("describe the picture .", "what do you see ?")), caption_text(scene)


def caption_text(scene: Scene, axis: int = 0, sizes: bool = False) -> str:
    """All objects by the centre's x (or y), in one sentence."""
    order = sorted(range(len(scene.things)), key=lambda i: (scene.things[i].centre[axis], i))
    names = [name(scene.things[i], sizes) for i in order]
    return f"{' , '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def counted_list(scene: Scene, rng) -> Question:
    """Several counts as digits in brackets."""
    kinds = rng.sample(scene.level.shapes, 2) + [rng.choice(scene.things).shape]
    kinds = list(dict.fromkeys(kinds))
    rng.shuffle(kinds)
    numbers = [str(sum(t.shape == k for t in scene.things)) for k in kinds]
    return "list", f"count the {' , '.join(PLURALS.get(k, k + 's') for k in kinds)} .", f"[ {' , '.join(numbers)} ]"


def arithmetic(scene: Scene, rng) -> Question:
    """Digits, decimals, brackets and commas, without a picture's help."""
    kind = rng.randrange(5)
    if kind == 0:
        n = rng.randrange(10)
        return "digits", f"write {NUMBERS[n]} as a digit .", str(n)
    if kind == 1:
        n = rng.randrange(10)
        return "digits", f"write {n} as a word .", NUMBERS[n]
    if kind == 2:
        first = rng.randrange(7)
        return "digits", f"count on from {first} .", f"[ {' , '.join(str(first + k) for k in range(1, 4))} ]"
    if kind == 3:
        digits = [" ".join(("0", ".", *(str(rng.randrange(10)) for _ in range(3)))) for _ in range(rng.randint(1, 3))]
        return "digits", f"repeat [ {' , '.join(digits)} ] .", f"[ {' , '.join(digits)} ]"
    numbers = rng.sample(range(10), 3)
    return "digits", f"sort [ {' , '.join(map(str, numbers))} ] .", f"[ {' , '.join(map(str, sorted(numbers)))} ]"


def ordinal(scene: Scene, rng) -> Question | None:
    """The nth object from one side."""
    order = ordered(scene, 0, margin=5)
    if order is None:
        return None
    n = rng.randrange(min(len(order), len(ORDINALS)))
    side = rng.choice(("left", "right"))
    thing = scene.things[order[n] if side == "left" else order[-1 - n]]
    word = rng.choice(("colour", "shape"))
    return "ordinal", f"what {word} is the {ORDINALS[n]} thing from the {side} ?", getattr(thing, word)


SCORED: dict[str, Callable] = {
    "colour": colour,
    "shape": shape,
    "place": place,
    "size": size,
    "count": count,
    "existence": existence,
}
OTHER: dict[str, Callable] = {
    "relation": relation,
    "naming": what_is,
    "fine place": fine_place,
    "fact": fact,
    "fact shape": fact_shape,
    "material": material,
    "order": in_order,
    "caption": caption,
    "list": counted_list,
    "digits": arithmetic,
    "ordinal": ordinal,
}


def ask(scene: Scene, rng, kind: str, tries: int = 6, simple: bool = False) -> Question | None:
    """A question of one kind about the scene; None where the scene allows none.

    Args:
        simple: name objects by their words alone, without place, rank or relation.
    """
    make = SCORED.get(kind) or OTHER[kind]
    style = ("placeless",) if simple and kind in ("colour", "shape") else ()
    for _ in range(tries):
        question = make(scene, rng, *style)
        if question is not None:
            return question
    return None


def every_word() -> set[str]:
    """All words that this module's questions and answers can hold."""
    text = [*SHAPES, *COLOURS, *SIZES, *NUMBERS, *ORDINALS, *FINE_COLUMNS, *FINE_ROWS]
    text += [fact for facts in FACTS.values() for fact in facts]
    return set(" ".join(text).split())


__all__ = ["OTHER", "SCORED", "Question", "ask", "caption_text", "every_word", "ordered"]
