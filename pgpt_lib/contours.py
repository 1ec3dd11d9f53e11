"""Masks as contours with a given number of vertices, and back: how a mask is written as text (paper, Tables 4 and 7).

Every border is a contour, those of holes too, and a pixel belongs to the mask where an odd number of contours goes
around it (the even-odd rule). So a ring needs two contours, a moon one. Vertices are float64 (x, y) in pixels, (0, 0)
the image's upper left corner. Users import these names from `regions`.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from .errors import InputError
from .masks import mask_to_rle, rle_to_mask

FEWEST = 3  # vertices of a contour
SMALLEST = 0.01  # parts and holes below this share of the largest part's area are left out
FLAT = 0.5  # square pixels: a vertex whose triangle is smaller is no corner


def mask_to_contours(rle: Mapping[str, Any], vertices: int) -> list[np.ndarray]:
    """The borders of a mask, simplified to exactly `vertices` vertices in all.

    Corners are kept by Visvalingam and Whyatt's rule (1993: the vertex that spans the smallest triangle goes first),
    and where there are fewer corners than vertices, the longest sides are halved. Parts share the vertices by their
    perimeters; if there are too many parts for three each, the smallest are left out.

    Args:
        rle: a mask; with no pixel in it there are no contours.
        vertices: at least 3.

    Returns:
        Contours [n, 2], the largest first, each clockwise as seen, from its vertex nearest to the upper left.

    Raises:
        InputError: fewer than 3 vertices.
    """
    if vertices < FEWEST:
        raise InputError(f"{vertices} vertices for a mask: a contour has at least {FEWEST}")
    return [np.array(c) for c in _contours(rle["counts"], tuple(rle["size"]), vertices)]


def contours_to_rle(contours: Sequence[np.ndarray], height: int, width: int) -> dict[str, Any]:
    """The mask of all pixels whose centres an odd number of contours [n, 2] goes around."""
    from skimage.draw import polygon2mask

    inside = np.zeros((height, width), bool)
    for contour in contours:
        inside ^= polygon2mask((height, width), np.asarray(contour)[:, ::-1] - 0.5)  # (row, column) of pixel centres
    return mask_to_rle(inside)


def signed_area(contour: np.ndarray) -> float:
    """The area in a closed contour [n, 2], positive where it runs clockwise as seen (y points down)."""
    x, y = contour.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


@lru_cache(maxsize=20_000)  # training meets the same masks in every epoch
def _contours(counts: str, size: tuple[int, int], vertices: int) -> tuple[np.ndarray, ...]:
    from skimage.measure import find_contours  # a second to load

    bitmap = np.pad(rle_to_mask({"counts": counts, "size": size}), 1)
    borders = [c[:-1, ::-1] - 0.5 for c in find_contours(bitmap, 0.5)]  # closed, thanks to the padding
    borders.sort(key=lambda c: -abs(signed_area(c)))
    borders = [c for c in borders if abs(signed_area(c)) >= SMALLEST * abs(signed_area(borders[0]))]
    borders = borders[: vertices // FEWEST]
    shares = _share(vertices, [_perimeter(c) for c in borders])
    return tuple(_ordered(_with_vertices(c, n)) for c, n in zip(borders, shares, strict=True))


def _perimeter(contour: np.ndarray) -> float:
    return float(np.linalg.norm(contour - np.roll(contour, 1, axis=0), axis=1).sum())


def _share(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers that sum to `total`, three at least each, the rest in proportion to `weights`."""
    shares = [FEWEST] * len(weights)
    for _ in range(total - sum(shares) if weights else 0):
        neediest = max(range(len(weights)), key=lambda i: weights[i] / shares[i])
        shares[neediest] += 1
    return shares


def _with_vertices(border: np.ndarray, count: int) -> np.ndarray:
    """A closed border [n, 2] of pixels with exactly `count` vertices."""
    points = _simplify(border, count)
    while len(points) < count:
        sides = np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1)
        longest = int(np.argmax(sides.round(6)))  # rounded, so that equal sides are halved in order on any machine
        middle = (points[longest] + points[(longest + 1) % len(points)]) / 2
        points = np.insert(points, longest + 1, middle, axis=0)
    return points


def _simplify(border: np.ndarray, most: int) -> np.ndarray:
    """Drop the vertex of the smallest triangle with its neighbours, until `most` are left and all of them are corners.

    At least three stay. The triangles of a dropped vertex's neighbours are measured anew.
    """
    before, after = np.roll(border, 1, axis=0), np.roll(border, -1, axis=0)
    turns = (border - before)[:, 0] * (after - border)[:, 1] != (border - before)[:, 1] * (after - border)[:, 0]
    points = [(float(x), float(y)) for x, y in (border[turns] if turns.sum() >= FEWEST else border)]
    left = [i - 1 for i in range(len(points))]
    left[0] = len(points) - 1
    right = [*range(1, len(points)), 0]

    def area(i: int) -> float:
        (ax, ay), (bx, by), (cx, cy) = points[left[i]], points[i], points[right[i]]
        return abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) / 2

    areas = [area(i) for i in range(len(points))]
    heap = [(value, i) for i, value in enumerate(areas)]
    heapq.heapify(heap)
    alive = set(range(len(points)))
    while len(alive) > FEWEST:
        value, i = heapq.heappop(heap)
        if i not in alive or value != areas[i]:
            continue  # measured anew since
        if len(alive) <= most and value >= FLAT:
            break
        alive.remove(i)
        before_i, after_i = left[i], right[i]
        right[before_i], left[after_i] = after_i, before_i
        for neighbour in (before_i, after_i):
            areas[neighbour] = max(area(neighbour), value)  # never below what has been dropped, as in the paper
            heapq.heappush(heap, (areas[neighbour], neighbour))
    return np.array([points[i] for i in sorted(alive)])


def _ordered(contour: np.ndarray) -> np.ndarray:
    """Clockwise as seen, from the vertex with the least x + y."""
    if signed_area(contour) < 0:
        contour = contour[::-1]
    return np.roll(contour, -int(np.argmin(contour.sum(1).round(6))), axis=0)
