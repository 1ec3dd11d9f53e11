"""Checks of notebooks 00 and 02: what a box and a mask are."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from .base import Case, Function, Mistake, examine


def check_mask_bounds(solution: Function, seed: int = 0) -> None:
    """`solution(bitmap[h, w])` -> (x1, y1, x2, y2) in pixels, x2 and y2 exclusive; None for an empty bitmap."""
    rng = np.random.default_rng(seed)
    cases = []
    for what in ("a rectangle", "a ring with a hole", "a single pixel", "two separate parts", "an empty mask"):
        bitmap = np.zeros((int(rng.integers(20, 30)), int(rng.integers(34, 48))), np.uint8)
        y, x = int(rng.integers(2, 6)), int(rng.integers(9, 14))
        if what == "a single pixel":
            bitmap[y, x] = 1
        elif what != "an empty mask":
            bitmap[y : y + 7, x : x + 11] = 1
        if what == "a ring with a hole":
            bitmap[y + 2 : y + 5, x + 2 : x + 8] = 0
        if what == "two separate parts":
            bitmap[y + 10 : y + 12, x + 15 : x + 19] = 1
        cases.append(Case(what, (bitmap,)))

    def corners(bitmap: np.ndarray) -> tuple[int, int, int, int] | None:
        y, x = np.nonzero(bitmap)
        return (x.min(), y.min(), x.max() + 1, y.max() + 1) if len(x) else None

    def change(function: Function) -> Function:
        def changed(bitmap: np.ndarray) -> tuple[int, int, int, int] | None:
            box = corners(bitmap)
            return None if box is None else function(*box)

        return changed

    examine(
        "mask bounds",
        _as_row(solution),
        _as_row(corners),
        cases,
        [
            Mistake(
                "your box ends on the last pixel; x2 and y2 are exclusive, so a single pixel has an area of 1",
                _as_row(change(lambda x1, y1, x2, y2: (x1, y1, x2 - 1, y2 - 1))),
            ),
            Mistake(
                "you exchanged rows and columns: x counts columns, the second axis of the array",
                _as_row(change(lambda x1, y1, x2, y2: (y1, x1, y2, x2))),
            ),
            Mistake(
                "you returned width and height in place of the lower right corner",
                _as_row(change(lambda x1, y1, x2, y2: (x1, y1, x2 - x1, y2 - y1))),
            ),
            Mistake(
                "your box begins one pixel late: the first row and column belong to it",
                _as_row(change(lambda x1, y1, x2, y2: (x1 + 1, y1 + 1, x2, y2))),
            ),
            Mistake("an empty mask has no box: return None", _as_row(lambda bitmap: corners(bitmap) or (0, 0, 0, 0))),
            Mistake(
                "an empty mask has no box: return None",
                _as_row(lambda bitmap: corners(bitmap) or (0, 0, bitmap.shape[1], bitmap.shape[0])),
            ),
        ],
        forbidden=["pgpt_lib.masks.mask_bounds", "pycocotools.mask.toBbox", "pycocotools._mask.toBbox"],
    )


def check_fractions(solution: Function, seed: int = 0) -> None:
    """`solution(bbox, height, width)` -> (x1, y1, x2, y2) in [0, 1] from COCO's [x, y, width, height] in pixels.

    What lies beyond the picture's border is cut off.
    """
    rng = np.random.default_rng(seed)
    height, width = int(rng.integers(60, 90)), int(rng.integers(120, 200))
    x, y = (float(v) for v in rng.uniform(5, 20, 2))
    w, h = float(rng.uniform(30, 60)), float(rng.uniform(12, 30))
    cases = [
        Case("a box in a wide picture", ([x, y, w, h], height, width)),
        Case("a box in a high picture", ([y, x, h, w], width, height)),
        Case("a box that leaves the picture", ([x - 30, y, w, float(height)], height, width)),
    ]

    def parts(function: Function, cut: bool = True) -> Function:
        def fractions(box: list[float], height: int, width: int) -> np.ndarray:
            corners = np.array(function(*box, height, width), np.float64)
            return np.clip(corners, 0, 1) if cut else corners

        return _as_row(fractions)

    def right(x: float, y: float, w: float, h: float, height: int, width: int) -> tuple[float, ...]:
        return x / width, y / height, (x + w) / width, (y + h) / height

    examine(
        "fractions of the picture",
        _as_row(solution),
        parts(right),
        cases,
        [
            Mistake("your box goes on beyond the picture: cut it off at 0 and 1", parts(right, cut=False)),
            Mistake(
                "you exchanged height and width: x is a fraction of the width",
                parts(lambda x, y, w, h, H, W: (x / H, y / W, (x + w) / H, (y + h) / W)),
            ),
            Mistake(
                "you kept width and height where the lower right corner belongs",
                parts(lambda x, y, w, h, H, W: (x / W, y / H, w / W, h / H)),
            ),
            Mistake(
                "you divide both axes by the longer side: fractions are of width and height, each of its own",
                parts(lambda x, y, w, h, H, W: np.array([x, y, x + w, y + h]) / max(H, W)),
            ),
            Mistake(
                "your box ends one pixel early: x + width is exclusive already",
                parts(lambda x, y, w, h, H, W: (x / W, y / H, (x + w - 1) / W, (y + h - 1) / H)),
            ),
            Mistake(
                "your numbers are pixels still: divide by width and height",
                parts(lambda x, y, w, h, H, W: (x, y, x + w, y + h), cut=False),
            ),
            Mistake(
                "you took x and y for the box's centre; COCO's are its upper left corner",
                parts(lambda x, y, w, h, H, W: ((x - w / 2) / W, (y - h / 2) / H, (x + w / 2) / W, (y + h / 2) / H)),
            ),
        ],
        forbidden=["pgpt_lib.regions.Region.from_coco"],
    )


def check_rle(solution: Function, seed: int = 0) -> None:
    """`solution(counts, height, width)` -> bitmap [height, width]: COCO's runs, column by column, zeros first."""
    rng = np.random.default_rng(seed)
    cases = []
    for what, first in (("a mask that starts outside", False), ("a mask that starts with an object pixel", True)):
        height, width = (int(v) for v in rng.choice(np.arange(4, 12), 2, replace=False))
        flat = rng.integers(0, 2, height * width)
        flat[0] = first
        change = np.flatnonzero(np.diff(flat)) + 1
        runs = np.diff([0, *change, flat.size]).tolist()
        cases.append(Case(what, ([0, *runs] if first else runs, height, width)))

    def decode(
        counts: list[int], height: int, width: int, start: int = 0, order: Literal["C", "F"] = "F"
    ) -> np.ndarray:
        values = (np.arange(len(counts)) + start) % 2
        return np.repeat(values, counts).reshape(height, width, order=order)

    examine(
        "run lengths",
        solution,
        decode,
        cases,
        [
            Mistake(
                "you filled the rows first: COCO's runs go down the columns", lambda c, h, w: decode(c, h, w, order="C")
            ),
            Mistake(
                "your first run is of ones: it counts the zeros before the object", lambda c, h, w: decode(c, h, w, 1)
            ),
            Mistake("your bitmap is [width, height]: transpose it", lambda c, h, w: decode(c, h, w).T),
            Mistake(
                "you left out the first run: a count of zero is a run too, it changes whose turn it is",
                lambda c, h, w: decode([n for n in c if n], h, w),
            ),
            Mistake("your bitmap is mirrored from top to bottom", lambda c, h, w: decode(c, h, w)[::-1]),
            Mistake("your bitmap is mirrored from left to right", lambda c, h, w: decode(c, h, w)[:, ::-1]),
        ],
        forbidden=[
            "pgpt_lib.masks.rle_to_mask",
            "pgpt_lib.masks.to_rle",
            "pycocotools.mask.decode",
            "pycocotools._mask.decode",
        ],
    )


def check_cxcywh(solution: Function, seed: int = 0) -> None:
    """`solution(boxes[N, 4])`: corners (x1, y1, x2, y2) to (centre x, centre y, width, height)."""
    generator = torch.Generator().manual_seed(seed)
    low, size = torch.rand(8, 2, generator=generator), 0.1 + torch.rand(8, 2, generator=generator)
    boxes = torch.cat([low, low + size], 1)

    def parts(function: Function) -> Function:
        return lambda b: torch.cat(function(b[:, :2], b[:, 2:]), 1)

    examine(
        "centre and size",
        solution,
        parts(lambda a, b: [(a + b) / 2, b - a]),
        [Case("boxes in [0, 1]", (boxes / 2.2,)), Case("boxes in pixels", (boxes * 100,))],
        [
            Mistake("you kept the upper left corner where the centre belongs", parts(lambda a, b: [a, b - a])),
            Mistake(
                "your width and height are halved: they run from side to side",
                parts(lambda a, b: [(a + b) / 2, (b - a) / 2]),
            ),
            Mistake("your centre is the sum of the corners: halve it", parts(lambda a, b: [a + b, b - a])),
            Mistake(
                "your centre is half the size, measured from the box's own corner: add x1, y1",
                parts(lambda a, b: [(b - a) / 2, b - a]),
            ),
            Mistake(
                "your width and height are those of the wrong sign: subtract x1 from x2",
                parts(lambda a, b: [(a + b) / 2, a - b]),
            ),
            Mistake("you exchanged width and height", parts(lambda a, b: [(a + b) / 2, (b - a).flip(1)])),
            Mistake("you kept the lower right corner where the size belongs", parts(lambda a, b: [(a + b) / 2, b])),
        ],
        forbidden=["pgpt_lib.boxes.box_xyxy_to_cxcywh"],
    )


def _as_row(function: Function) -> Function:
    """A box may come back as a tuple, a list or an array."""

    def row(*inputs: object) -> list[float] | None:
        result = function(*inputs)
        return None if result is None else [float(v) for v in result]

    return row
