"""Checks of notebook 11: from the mouse to a region."""

from __future__ import annotations

import numpy as np

from .base import Case, Function, Mistake, examine

Numbers = tuple[float, ...]
FORBIDDEN = ("pgpt_lib.demo.pointing.dragged_box", "pgpt_lib.demo.pointing.clicked")


def check_dragged_box(solution: Function, seed: int = 0) -> None:
    """`solution(drag, size)` -> (x1, y1, x2, y2) in [0, 1] of the picture, x1 <= x2 and y1 <= y2.

    `drag` is (x, y) of its start and (x, y) of its end in pixels, in any direction, perhaps from beyond the edge;
    `size` is (height, width).
    """
    rng = np.random.default_rng(seed)
    height, width = int(rng.integers(60, 120)), int(rng.integers(200, 400))
    x, y = rng.uniform(0.1, 0.4, 2) * (width, height)
    across, down = rng.uniform(0.2, 0.5, 2) * (width, height)
    right, low, size = x + across, y + down, (height, width)
    cases = [
        Case("a drag to the lower right", ((x, y, right, low), size)),
        Case("a drag to the upper left", ((right, low, x, y), size)),
        Case("a drag to the lower left", ((right, y, x, low), size)),
        Case("a drag that leaves the picture", ((x, y, 1.2 * width, 1.1 * height), size)),
        Case("a drag that begins beyond the upper left corner", ((-0.1 * width, -0.2 * height, right, low), size)),
    ]

    def shares(drag: Numbers, height: float, width: float) -> Numbers:
        return drag[0] / width, drag[1] / height, drag[2] / width, drag[3] / height

    def ordered(box: Numbers) -> list[float]:
        return [min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3])]

    def cut(box: Numbers) -> Numbers:
        return tuple(min(max(v, 0.0), 1.0) for v in box)

    def right_one(drag: Numbers, size: tuple[int, int]) -> list[float]:
        return ordered(cut(shares(drag, *size)))

    def corner_and_size(drag: Numbers, size: tuple[int, int]) -> list[float]:
        x1, y1, x2, y2 = right_one(drag, size)
        return [x1, y1, x2 - x1, y2 - y1]

    def solved(*inputs: object) -> object:
        box = solution(*inputs)
        return list(box) if isinstance(box, tuple) else box  # one part, whether tuple, list or array

    examine(
        "dragged box",
        solved,
        right_one,
        cases,
        [
            Mistake(
                "your corners come in the order of the mouse: a drag to the left or upwards is turned round",
                lambda drag, size: list(cut(shares(drag, *size))),
            ),
            Mistake(
                "your box leaves the picture where the mouse did: cut it to [0, 1]",
                lambda drag, size: ordered(shares(drag, *size)),
            ),
            Mistake(
                "you divided x by the height and y by the width: size is (height, width)",
                lambda drag, size: ordered(cut(shares(drag, size[1], size[0]))),
            ),
            Mistake("your box is in pixels: divide by width and height", lambda drag, size: ordered(drag)),
            Mistake("you return width and height in the place of the second corner", corner_and_size),
            Mistake(
                "your box neither turns a drag to the left round nor stays within the picture",
                lambda drag, size: list(shares(drag, *size)),
            ),
        ],
        forbidden=FORBIDDEN[:1],
    )


def check_clicked(solution: Function, seed: int = 0) -> None:
    """`solution(boxes, x, y)` -> the index of the smallest box that holds the point, None where none does.

    `boxes` is a list of (x1, y1, x2, y2) in [0, 1].
    """
    rng = np.random.default_rng(seed)
    shift = rng.uniform(-0.03, 0.03, 6)
    large, small = (0.1, 0.1, 0.9, 0.8 + shift[0]), (0.3, 0.3, 0.5, 0.5 + shift[1])
    flat, far = (0.05, 0.4 + shift[2], 0.95, 0.46 + shift[2]), (0.91, 0.9, 0.99, 0.97)
    # near the large box's middle lies a small one whose own middle is farther from the point
    point = 0.48, 0.48 + shift[1] / 2
    cases = [
        Case("a click on one object", ([large, far], 0.7, 0.6 + shift[3])),
        Case("a click on a small object before a large one", ([large, small], *point)),
        Case("the same, listed the other way round", ([small, large], *point)),
        Case("three boxes, a wide flat one among them", ([flat, large, small], 0.4, 0.43 + shift[2])),
        Case("a click between the objects", ([small, far], 0.7 + shift[4], 0.2 + shift[5])),
        Case("a click below an object", ([large, far], 0.5, 0.9 + shift[5])),
        Case("a picture without objects", ([], 0.5, 0.5)),
    ]

    def around(boxes: list[Numbers], x: float, y: float) -> list[int]:
        return [i for i, (x1, y1, x2, y2) in enumerate(boxes) if x1 <= x <= x2 and y1 <= y <= y2]

    def area(box: Numbers) -> float:
        return (box[2] - box[0]) * (box[3] - box[1])

    def chosen(pick: Function) -> Function:
        def choose(boxes: list[Numbers], x: float, y: float) -> int | None:
            found = around(boxes, x, y)
            return pick(boxes, found) if found else None

        return choose

    def nearest(boxes: list[Numbers], x: float, y: float) -> int | None:
        def distance(i: int) -> float:
            return abs(boxes[i][0] + boxes[i][2] - 2 * x) + abs(boxes[i][1] + boxes[i][3] - 2 * y)

        return min(range(len(boxes)), key=distance, default=None)

    def smallest_of_all(boxes: list[Numbers], x: float, y: float) -> int | None:
        return min(range(len(boxes)), key=lambda i: area(boxes[i]), default=None)

    def chosen_by_x(boxes: list[Numbers], x: float, y: float) -> int | None:
        return smallest([(x1, 0.0, x2, y2 - y1) for x1, y1, x2, y2 in boxes], x, 0.0)

    smallest = chosen(lambda boxes, found: min(found, key=lambda i: area(boxes[i])))
    examine(
        "clicked object",
        solution,
        smallest,
        cases,
        [
            Mistake(
                "you take the first box around the point: a small object before a large one is never reached",
                chosen(lambda boxes, found: found[0]),
            ),
            Mistake(
                "you take the last box around the point: the order of the list says nothing",
                chosen(lambda boxes, found: found[-1]),
            ),
            Mistake(
                "you take the largest box around the point, which hides all within it",
                chosen(lambda boxes, found: max(found, key=lambda i: area(boxes[i]))),
            ),
            Mistake("you take the nearest middle, even where the point is outside of the box", nearest),
            Mistake("you take the smallest box, wherever the point is", smallest_of_all),
            Mistake(
                "you return 0 where no box holds the point, which is the first object: return None",
                lambda boxes, x, y: smallest(boxes, x, y) or 0,
            ),
            Mistake(
                "you look at x alone: the point must lie between the upper and the lower side, too",
                chosen_by_x,
            ),
            Mistake(
                "you return -1 where no box holds the point, which Python takes for the last object: return None",
                lambda boxes, x, y: -1 if smallest(boxes, x, y) is None else smallest(boxes, x, y),
            ),
        ],
        forbidden=FORBIDDEN[1:],
    )
