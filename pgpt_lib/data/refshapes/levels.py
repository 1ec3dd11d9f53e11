"""What a RefShapes scene may hold, by level of difficulty."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...errors import InputError

SHAPES = ("circle", "ring", "moon", "star", "square", "triangle", "cross", "domino")
EASY_SHAPES = SHAPES[:6]  # a cross at 112 px is easily taken for a star, a domino for two squares
ROUND = ("circle", "ring", "moon")  # the kind of testA; the angular rest is testB's
COLOURS = {
    "red": (215, 35, 35),
    "green": (35, 160, 55),
    "blue": (45, 75, 215),
    "yellow": (240, 215, 45),
    "purple": (150, 55, 185),
    "orange": (240, 130, 25),
    "white": (245, 245, 245),
    "black": (22, 22, 22),
}
MATERIALS = ("plain", "striped")
SIZES = ("small", "medium", "big")


@dataclass(frozen=True)
class Level:
    """The settings of a level. Lengths are pixels of the square image, shares are in percent.

    `bands` are the sides that "small", "medium" and "big" stand for, apart from each other so that no size hangs on a
    threshold; `band_weights[n]` is how often each is drawn in a scene of n objects.
    """

    name: str
    image_size: int
    shapes: tuple[str, ...]
    objects: tuple[int, int]
    bands: tuple[tuple[int, int], ...]
    band_weights: dict[int, tuple[int, int, int]] = field(compare=False)
    hidden: int  # at most this share of an object's mask lies behind others
    overlap: int  # at most this share of the smaller box may be shared with another box, of another colour
    crowding: int  # squares of all sides together, as a share of the image
    repeat_shape: int  # how often an object repeats an earlier one's shape
    repeat_colour: int
    striped: int


def _bands(image_size: int) -> tuple[tuple[int, int], ...]:
    return tuple((low * image_size // 100, high * image_size // 100) for low, high in ((23, 30), (38, 47), (56, 68)))


_WEIGHTS = {2: (1, 3, 4), 3: (1, 4, 4), 4: (2, 6, 4), 5: (3, 6, 3), 6: (6, 4, 1), 7: (8, 3, 0), 8: (9, 2, 0)}

LEVELS = {
    "smoke": Level("smoke", 112, EASY_SHAPES, (3, 4), _bands(112), _WEIGHTS, 10, 8, 90, 45, 35, 20),
    "cpu": Level("cpu", 112, EASY_SHAPES, (3, 5), _bands(112), _WEIGHTS, 25, 16, 95, 45, 35, 20),
    "gpu": Level("gpu", 224, SHAPES, (3, 8), _bands(224), _WEIGHTS, 45, 35, 80, 55, 45, 30),
}


def get_level(name: str) -> Level:
    """The level called `name`; an `InputError` that lists the others if there is none."""
    if name not in LEVELS:
        raise InputError(f"unknown level {name!r}; there are {', '.join(LEVELS)}")
    return LEVELS[name]
