"""Shapes as integer coverage maps: equal to the bit on every platform.

A shape of side s is sampled on a grid of 4 x 4 sub-samples a pixel. Coordinates are odd integers between -n and n,
n = 4 s, and every test is an inequality of integers; a pixel's coverage is how many of its sub-samples lie inside.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

SUBSAMPLES = 4
FULL = SUBSAMPLES * SUBSAMPLES
_STAR = (
    (0, -1000),
    (265, -364),
    (951, -309),
    (428, 139),
    (588, 809),
    (0, 450),
    (-588, 809),
    (-428, 139),
    (-951, -309),
    (-265, -364),
)
TURNS = {"triangle": 4, "moon": 4, "domino": 2}  # quarter turns that look different


def _inside_polygon(u: np.ndarray, v: np.ndarray, n: int, vertices: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Even-odd rule for a polygon given in thousandths of n."""
    inside = np.zeros(np.broadcast_shapes(u.shape, v.shape), dtype=bool)
    u, v = u * 1000, v * 1000
    for (x0, y0), (x1, y1) in zip(vertices, vertices[1:] + vertices[:1], strict=True):
        x0, y0, x1, y1 = x0 * n, y0 * n, x1 * n, y1 * n
        if y0 == y1:
            continue
        crosses = (y0 > v) != (y1 > v)
        side = (u - x0) * (y1 - y0) < (v - y0) * (x1 - x0)
        inside ^= crosses & (side if y1 > y0 else ~side)
    return inside


def _inside(shape: str, u: np.ndarray, v: np.ndarray, n: int) -> np.ndarray:
    square = np.ones(np.broadcast_shapes(u.shape, v.shape), dtype=bool)
    radius = u * u + v * v
    if shape == "circle":
        return radius < n * n
    if shape == "ring":
        return (radius < n * n) & (4 * radius > n * n)
    if shape == "moon":
        return (radius < n * n) & ((20 * u - 9 * n) ** 2 + (20 * v) ** 2 > (16 * n) ** 2)
    if shape == "star":
        return _inside_polygon(u, v, n, _STAR)
    if shape == "square":
        return square
    if shape == "triangle":
        return square & (2 * abs(u) <= v + n)
    if shape == "cross":
        return (3 * abs(u) <= n) | (3 * abs(v) <= n)
    if shape == "domino":
        return (8 * abs(v) >= n) & (20 * abs(u) <= 11 * n)
    raise KeyError(shape)


@lru_cache(maxsize=4096)
def coverage(shape: str, side: int, turn: int = 0) -> np.ndarray:
    """How much of each pixel the shape covers.

    Returns:
        uint8, (height, width), 0 to 16, cropped to the shape's own bounds (pixels covered by at least a half).
    """
    n = SUBSAMPLES * side
    axis = 2 * np.arange(n, dtype=np.int64) + 1 - n
    inside = _inside(shape, axis[None, :], axis[:, None], n)
    counts = inside.reshape(side, SUBSAMPLES, side, SUBSAMPLES).sum(axis=(1, 3)).astype(np.uint8)
    counts = np.rot90(counts, turn % TURNS.get(shape, 1))
    solid = 2 * counts >= FULL
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    counts = np.ascontiguousarray(counts[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    counts.setflags(write=False)
    return counts


@lru_cache(maxsize=4096)
def solid(shape: str, side: int, turn: int = 0) -> np.ndarray:
    """The shape's hard mask: bool, (height, width), pixels covered by at least a half."""
    mask = 2 * coverage(shape, side, turn) >= FULL
    mask.setflags(write=False)
    return mask
