"""From a mouse on a picture to a region: a drag is a box, a click means the object below it."""

from __future__ import annotations

from collections.abc import Sequence

CLICK = 0.01  # a drag shorter than this share of the picture, along both axes, was meant as a click
Box = tuple[float, float, float, float]


def dragged_box(start: tuple[float, float], end: tuple[float, float]) -> Box:
    """The box between two corners given in any order, cut to the picture.

    Args:
        start, end: (x, y) in shares of the picture; a drag may begin or end outside of [0, 1].

    Returns:
        (x1, y1, x2, y2) in [0, 1], x1 <= x2 and y1 <= y2.
    """
    (x1, x2), (y1, y2) = (sorted(min(max(v, 0.0), 1.0) for v in pair) for pair in zip(start, end, strict=True))
    return x1, y1, x2, y2


def is_click(start: tuple[float, float], end: tuple[float, float]) -> bool:
    """Whether a drag is too short to be one."""
    return all(abs(a - b) < CLICK for a, b in zip(start, end, strict=True))


def clicked(boxes: Sequence[Box], x: float, y: float) -> int | None:
    """The index of the smallest box around a point, since small objects lie before large ones; None where none is."""
    around = [i for i, (x1, y1, x2, y2) in enumerate(boxes) if x1 <= x <= x2 and y1 <= y <= y2]
    return min(around, key=lambda i: (boxes[i][2] - boxes[i][0]) * (boxes[i][3] - boxes[i][1]), default=None)
