"""Checks of notebook 02: a mask on a grid, and how a cell knows its place."""

from __future__ import annotations

import numpy as np

from .base import Case, CheckFailed, Function, Mistake, call, examine, passed


def check_mask_grid(solution: Function, seed: int = 0) -> None:
    """`solution(mask[h, w], cells)` -> [cells, cells]: the share of each cell of a grid that a mask covers.

    `cells` divides h and w. The mask holds zeros and ones.
    """
    rng = np.random.default_rng(seed)
    cases = []
    for what in ("a rectangle", "scattered pixels", "a wide picture"):
        cells = int(rng.choice([3, 4, 5]))
        down, across = (cells * int(k) for k in rng.choice([4, 6, 8], 2, replace=False))
        down, across = (min(down, across), max(down, across)) if what == "a wide picture" else (down, across)
        mask = np.zeros((down, across), np.float32)
        if what == "scattered pixels":
            mask[:] = rng.random(mask.shape) < 0.4
        else:
            mask[2 : down // 2 + 1, 1 : across - 3] = 1
        cases.append(Case(what, (mask, cells)))

    def blocks(reduce: Function) -> Function:
        def grid(mask: np.ndarray, cells: int) -> np.ndarray:
            down, across = mask.shape
            return reduce(mask.reshape(cells, down // cells, cells, across // cells).swapaxes(1, 2))

        return grid

    examine(
        "mask on a grid",
        solution,
        blocks(lambda b: b.mean((2, 3))),
        cases,
        [
            Mistake(
                "you took one pixel a cell, its first; the share needs all of them", blocks(lambda b: b[..., 0, 0])
            ),
            Mistake(
                "you took one pixel a cell, its middle; the share needs all of them",
                blocks(lambda b: b[:, :, b.shape[2] // 2, b.shape[3] // 2]),
            ),
            Mistake("any pixel fills your cell: take the mean, not the maximum", blocks(lambda b: b.max((2, 3)))),
            Mistake("you count the pixels of a cell: divide by how many it has", blocks(lambda b: b.sum((2, 3)))),
            *(
                Mistake("you rounded to 0 and 1: the share in between says where the outline runs", blocks(rounded))
                for rounded in (lambda b: b.mean((2, 3)) >= 0.5, lambda b: b.mean((2, 3)) > 0.5)
            ),
            Mistake("your grid is transposed: rows come first", blocks(lambda b: b.mean((2, 3)).T)),
            Mistake("you return the uncovered share", blocks(lambda b: 1 - b.mean((2, 3)))),
            Mistake(
                "you average bands that run from side to side: a cell ends in both directions",
                lambda m, c: m.reshape(c, -1).mean(1),
            ),
        ],
        forbidden=["pgpt_lib.placement.Placement.mask_to_input"],
    )


def check_position_code(solution: Function, seed: int = 0) -> None:
    """`solution(grid, size)` -> [grid * grid, size]: a fixed code for each cell, row by row; all must differ.

    Any such code passes. Planted here is the fault of the paper's released decoder, whose codes were laid out for
    another order of axes, so that half of the image did not know its rows.
    """
    rng = np.random.default_rng(seed)
    grid, size = int(rng.choice([6, 8, 10])), int(rng.choice([32, 64]))
    case = Case(f"a grid of {grid} x {grid} and {size} channels", (grid, size))
    forbidden = ["pgpt_lib.signals.two_way.position_code"]
    code, again = call(solution, case, forbidden)[0], call(solution, case, forbidden)[0]
    if code is None or again is None:
        raise CheckFailed("your function returned None: is the return statement missing?")
    if code.shape != (grid * grid, size):
        raise CheckFailed(f"your code has shape {code.shape}, not one row for each cell: {(grid * grid, size)}")
    if not np.isfinite(code).all():
        raise CheckFailed("your code contains NaN or infinity")
    if not np.array_equal(code, again):
        raise CheckFailed("two calls give two codes: a position code must be fixed, or learnt and kept")
    if np.abs(code).max() > 10:
        raise CheckFailed(
            "your code grows with the place: it would drown the features it is added to; keep it within 1"
        )
    cells = code.reshape(grid, grid, size)
    same_in_column = np.abs(cells - cells[:1]).max((0, 2)) < 1e-3  # columns whose cells all share one code
    same_in_row = np.abs(cells - cells[:, :1]).max((1, 2)) < 1e-3
    if same_in_column.all() and same_in_row.all():
        raise CheckFailed("all cells share one code")
    if same_in_column.all():
        raise CheckFailed("your code knows x only: cells of a column share one code")
    if same_in_row.all():
        raise CheckFailed("your code knows y only: cells of a row share one code")
    if same_in_column.any() or same_in_row.any():
        raise CheckFailed("a part of the image does not know its rows or columns: look at the order of the axes")
    if np.abs(cells - cells.transpose(1, 0, 2)).max() < 1e-3:
        raise CheckFailed("(x, y) and (y, x) share one code: give x and y channels of their own instead of adding them")
    distance = np.linalg.norm(code[:, None] - code[None], axis=2) + 9 * np.eye(grid * grid)
    if distance.min() < 1e-3:
        raise CheckFailed("two cells share one code: your waves repeat within the image; add a slower one")
    passed("position code")
