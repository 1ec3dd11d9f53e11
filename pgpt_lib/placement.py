"""From the original image to the square that the vision tower sees, and back, for pictures, boxes and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from .errors import InputError
from .regions import mask_to_rle, rle_to_mask

GREY = 128  # the padding's value in all three channels


@dataclass(frozen=True)
class Placement:
    """The original image (height, width), in pixels, scaled to fit a square of side `size` and centred in it.

    The aspect ratio is kept but for rounding to whole pixels, which boxes and masks follow exactly. The frame is part
    of every method's name: `_to_input` leads to the square, `_from_input` to the original image.
    """

    height: int
    width: int
    size: int

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.size) < 1:
            raise InputError(f"image of {self.height} x {self.width} in a square of {self.size}: all must be positive")

    @cached_property
    def inner(self) -> tuple[int, int, int, int]:
        """Where the image lies in the square: (left, top, width, height) in pixels of the square."""
        longest = max(self.height, self.width)
        w = max(1, round(self.width * self.size / longest))
        h = max(1, round(self.height * self.size / longest))
        return (self.size - w) // 2, (self.size - h) // 2, w, h

    def image(self, image: np.ndarray) -> np.ndarray:
        """The model's input: uint8 (height, width, 3) to uint8 (size, size, 3), bicubic, antialiased, padded grey."""
        if image.dtype != np.uint8 or image.shape != (self.height, self.width, 3):
            raise InputError(f"image {image.dtype} {image.shape}: expected uint8 {(self.height, self.width, 3)}")
        if self.height == self.width == self.size:
            return image
        left, top, w, h = self.inner
        square = np.full((self.size, self.size, 3), GREY, np.uint8)
        scaled = Image.fromarray(image).resize((w, h), Image.Resampling.BICUBIC)
        square[top : top + h, left : left + w] = np.asarray(scaled)
        return square

    def box_to_input(self, box: Sequence[float]) -> tuple[float, float, float, float]:
        """A box xyxy in [0, 1] of the original image as xyxy in [0, 1] of the square."""
        left, top, w, h = self.inner
        x1, y1, x2, y2 = map(float, box)
        size = self.size
        return (left + x1 * w) / size, (top + y1 * h) / size, (left + x2 * w) / size, (top + y2 * h) / size

    def box_from_input(self, box: Sequence[float]) -> tuple[float, float, float, float]:
        """A box xyxy in [0, 1] of the square as xyxy of the original image, cut off at its borders."""
        left, top, w, h = self.inner
        x1, y1, x2, y2 = (float(v) * self.size for v in box)
        cut = np.clip([(x1 - left) / w, (y1 - top) / h, (x2 - left) / w, (y2 - top) / h], 0, 1)
        return float(cut[0]), float(cut[1]), float(cut[2]), float(cut[3])

    def points_to_input(self, points: np.ndarray) -> np.ndarray:
        """Points (x, y), [n, 2], in [0, 1] of the original image as points in [0, 1] of the square."""
        left, top, w, h = self.inner
        return (np.array([left, top]) + np.asarray(points, np.float64) * (w, h)) / self.size

    def points_from_input(self, points: np.ndarray) -> np.ndarray:
        """Points (x, y), [n, 2], in [0, 1] of the square as points of the original image, moved to its borders."""
        left, top, w, h = self.inner
        return np.clip((np.asarray(points, np.float64) * self.size - (left, top)) / (w, h), 0, 1)

    def mask_to_input(self, rle: dict[str, Any], side: int) -> np.ndarray:
        """The share of each cell of a side x side grid over the square that the mask covers: float32 in [0, 1]."""
        if list(rle["size"]) != [self.height, self.width]:
            raise InputError(f"mask of size {list(rle['size'])} on an image of {[self.height, self.width]}")
        left, top, w, h = self.inner
        rows = _coverage(self.height, self.size, side, top, h)
        columns = _coverage(self.width, self.size, side, left, w)
        return np.clip(rows @ rle_to_mask(rle).astype(np.float32) @ columns.T, 0, 1)

    def mask_from_input(self, scores: np.ndarray, threshold: float) -> dict[str, Any]:
        """The mask, at the original size, where `scores` exceed `threshold`.

        Args:
            scores: [s, s] over the whole square: logits (threshold 0) or probabilities; interpolated bilinearly.
        """
        if scores.ndim != 2 or scores.shape[0] != scores.shape[1]:
            raise InputError(f"mask scores of shape {scores.shape}: expected a square")
        left, top, w, h = self.inner
        side = scores.shape[0]
        rows = _interpolation(self.height, self.size, side, top, h)
        columns = _interpolation(self.width, self.size, side, left, w)
        return mask_to_rle(rows @ np.asarray(scores, np.float32) @ columns.T > threshold)


def letterboxed(image: np.ndarray, size: int) -> np.ndarray:
    """A picture, uint8 (height, width, 3), as the model's input, uint8 (size, size, 3): see `Placement.image`."""
    return Placement(image.shape[0], image.shape[1], size).image(image)


def _coverage(pixels: int, size: int, side: int, start: int, length: int) -> np.ndarray:
    """[side, pixels]: the share of each grid cell that each pixel of the original fills, along one axis."""
    edges = (np.arange(side + 1) * size / side - start) / length * pixels  # the cells' borders in original pixels
    low = np.maximum(edges[:-1, None], np.arange(pixels))
    high = np.minimum(edges[1:, None], np.arange(1, pixels + 1))
    return (np.clip(high - low, 0, None) / (edges[1] - edges[0])).astype(np.float32)


def _interpolation(pixels: int, size: int, side: int, start: int, length: int) -> np.ndarray:
    """[pixels, side]: bilinear weights of the grid's cell centres at each original pixel's centre, along one axis."""
    position = (start + (np.arange(pixels) + 0.5) / pixels * length) * side / size - 0.5
    position = np.clip(position, 0, side - 1)  # beyond the outermost centres the value stays
    return np.clip(1 - np.abs(position[:, None] - np.arange(side)), 0, None).astype(np.float32)
