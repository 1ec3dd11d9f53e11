"""Regions written as points: what `numerical` and `vocabulary` have in common.

A box is its upper left and lower right corner, a mask its contours; all points lie in the frame of the model's square
input, in [0, 1], as the targets of the perception signals do. Reading is strict about structure, since half a box is
no box: text that does not parse gives no region and is counted. Any two points span a box, though.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from ..data.sample import VIS
from ..errors import InputError
from ..regions import Placement, Region, contours_to_rle, mask_bounds, mask_to_contours, rle_to_mask
from .base import Representation

Parts = list[np.ndarray]  # one box, [2, 2], or contours, [n, 2] with n >= 3 each; (x, y) in [0, 1] of the square


class PointNotation(Representation):
    """Regions as text. Subclasses say how points are spelled and what an attempt at a region looks like."""

    attempt: re.Pattern[str]  # anything in an answer that can only have been meant for a region

    @abstractmethod
    def spell(self, parts: Parts) -> str:
        """The text of a region's points."""

    @abstractmethod
    def parse(self, written: str) -> Parts | None:
        """The points of an attempt, blanks left out; None where it is malformed."""

    def write(self, region: Region, size: tuple[int, int]) -> str:
        """Contours if masks are asked for and the region has one, else its box (around the mask, if need be).

        Raises:
            InputError: the region has neither.
        """
        placement = self._placement(size)
        return self.spell([placement.points_to_input(points) for points in self._outline(region, size)])

    def read(self, text: str, decoded: Sequence[Region], size: tuple[int, int]) -> list[Region]:
        found = (self._points(match[0]) for match in self.attempt.finditer(text))
        return [self._region(parts, size) for parts in found if parts is not None]

    def mark(self, text: str) -> tuple[str, int]:
        failures = 0

        def replacement(match: re.Match[str]) -> str:
            nonlocal failures
            if self._points(match[0]) is not None:
                return f" {VIS} "
            failures += 1
            return match[0]

        marked = self.attempt.sub(replacement, text.replace(VIS, "<>"))  # spelled by the model, it would stand for none
        return " ".join(marked.split()), failures

    def _placement(self, size: tuple[int, int]) -> Placement:
        return Placement(*size, self.side or max(size))

    def _outline(self, region: Region, size: tuple[int, int]) -> Parts:
        """The points to write, in [0, 1] of the original image."""
        scale = np.array(size[::-1], np.float64)
        if self.coordinates.target == "mask" and region.mask is not None:
            contours = mask_to_contours(region.mask, self.coordinates.vertices)
            if contours:
                return [contour / scale for contour in contours]
        if region.box is not None:
            return [np.array(region.box).reshape(2, 2)]
        bounds = mask_bounds(rle_to_mask(region.mask)) if region.mask is not None else None
        if bounds is None:
            raise InputError(f"{region} has neither a box nor a mask of any pixel, so there is nothing to write")
        return [np.array(bounds).reshape(2, 2) / scale]

    def _points(self, attempt: str) -> Parts | None:
        """The points of an attempt; None unless they are one box's two corners, in any order, or contours."""
        parts = self.parse("".join(attempt.split()))
        if not parts:
            return None
        is_box = len(parts) == 1 and len(parts[0]) == 2
        return parts if is_box or all(len(part) >= 3 for part in parts) else None

    def _region(self, parts: Parts, size: tuple[int, int]) -> Region:
        placement, (height, width) = self._placement(size), size
        parts = [placement.points_from_input(points) for points in parts]
        every = np.concatenate(parts)
        x1, y1, x2, y2 = (float(v) for v in (*every.min(0), *every.max(0)))
        mask = None
        if len(parts[0]) > 2:
            mask = contours_to_rle([points * (width, height) for points in parts], height, width)
        return Region((x1, y1, x2, y2), mask)
