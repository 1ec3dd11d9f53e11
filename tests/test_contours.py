"""Masks to contours of a given number of vertices, and back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pgpt_lib.contours import signed_area
from pgpt_lib.errors import InputError
from pgpt_lib.regions import contours_to_rle, mask_iou, mask_to_contours, mask_to_rle, rle_to_mask


def bitmap(*filled: tuple[slice, slice], size: tuple[int, int] = (40, 60)) -> np.ndarray:
    """Rectangles, each one inverting what lies below it."""
    out = np.zeros(size, np.uint8)
    for part in filled:
        out[part] ^= 1
    return out


BLOCK = (slice(5, 25), slice(10, 50))
HOLE = (slice(10, 18), slice(20, 40))
SECOND = (slice(28, 38), slice(2, 30))
SPECK = (slice(30, 31), slice(50, 52))


def there_and_back(mask: np.ndarray, vertices: int) -> tuple[list[np.ndarray], float]:
    rle = mask_to_rle(mask)
    contours = mask_to_contours(rle, vertices)
    return contours, mask_iou(contours_to_rle(contours, *mask.shape), rle)


@pytest.mark.parametrize("vertices", [3, 4, 5, 16, 64, 256])
def test_a_rectangle_is_its_corners(vertices: int) -> None:
    contours, iou = there_and_back(bitmap(BLOCK), vertices)
    assert [len(c) for c in contours] == [vertices]
    assert iou >= (0.45 if vertices == 3 else 0.93 if vertices < 8 else 1)
    assert contours[0].min() >= 4.5 and signed_area(contours[0]) > 0
    assert contours[0][0] == pytest.approx([10, 5], abs=1)


@pytest.mark.parametrize(
    ("filled", "parts"), [((BLOCK, HOLE), 2), ((BLOCK, SECOND), 2), ((BLOCK, HOLE, SECOND), 3), ((BLOCK, SPECK), 1)]
)
def test_holes_and_parts_have_contours_and_specks_have_none(filled, parts: int) -> None:
    mask = bitmap(*filled)
    contours, iou = there_and_back(mask, 32)
    assert len(contours) == parts and sum(map(len, contours)) == 32 and iou > 0.97
    areas = [signed_area(c) for c in contours]
    assert areas == sorted(areas, reverse=True) and areas[-1] > 0
    if HOLE in filled:
        assert not rle_to_mask(contours_to_rle(contours, *mask.shape))[12:16, 24:36].any()


def test_too_many_parts_leave_the_largest() -> None:
    contours, _ = there_and_back(bitmap(BLOCK, HOLE, SECOND), 6)
    assert [len(c) for c in contours] == [3, 3]
    assert contours[1].max(0)[1] > 26  # the second block is larger than the hole


def test_an_empty_mask_has_no_contour_and_a_pixel_has_one() -> None:
    assert mask_to_contours(mask_to_rle(bitmap()), 16) == []
    assert rle_to_mask(contours_to_rle([], 4, 5)).sum() == 0
    contours, iou = there_and_back(bitmap((slice(3, 4), slice(7, 8))), 8)
    assert len(contours[0]) == 8 and iou == 1


def test_a_mask_at_the_border_stays_inside() -> None:
    contours, iou = there_and_back(np.ones((12, 30), np.uint8), 12)
    assert iou == 1 and contours[0].min() >= 0 and (contours[0].max(0) <= (30, 12)).all()


def test_too_few_vertices_are_refused() -> None:
    with pytest.raises(InputError, match="2 vertices"):
        mask_to_contours(mask_to_rle(bitmap(BLOCK)), 2)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), vertices=st.integers(3, 80), blur=st.floats(1, 6))
def test_any_blob_has_exactly_its_vertices(seed: int, vertices: int, blur: float) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(30, 40)), blur)
    mask = (noise > np.quantile(noise, 0.6)).astype(np.uint8)
    contours, _ = there_and_back(mask, vertices)
    assert sum(map(len, contours)) == vertices and all(len(c) >= 3 for c in contours)
    assert all(signed_area(c) >= 0 and np.isfinite(c).all() for c in contours)
    again = mask_to_contours(mask_to_rle(mask), vertices)
    assert all(np.array_equal(a, b) for a, b in zip(contours, again, strict=True))


@settings(max_examples=80, deadline=None)
@given(
    axes=st.tuples(st.floats(8, 28), st.floats(8, 28)),
    angle=st.floats(0, math.pi),
    middle=st.tuples(st.floats(30, 34), st.floats(30, 34)),
    vertices=st.integers(8, 40),
)
def test_an_ellipse_keeps_the_share_of_the_largest_polygon_in_it(axes, angle, middle, vertices: int) -> None:
    """No inscribed polygon of n vertices has more than n / 2 pi * sin(2 pi / n) of it; pixels cost up to a half."""
    y, x = np.mgrid[:64, :64] + 0.5 - np.reshape(middle, (2, 1, 1))
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    _, iou = there_and_back(((along / axes[0]) ** 2 + (across / axes[1]) ** 2 <= 1).astype(np.uint8), vertices)
    assert iou >= vertices / (2 * math.pi) * math.sin(2 * math.pi / vertices) - 0.5 / min(axes)


def test_callers_cannot_spoil_what_is_remembered() -> None:
    rle = mask_to_rle(bitmap(BLOCK))
    first = mask_to_contours(rle, 16)
    first[0] += 100
    assert mask_to_contours(rle, 16)[0].max() < 60
