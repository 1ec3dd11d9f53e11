"""Regions: boxes and masks of an image, and everything that is done with them.

A region is a box, a mask, or both. Boxes are float64 xyxy, normalised to [0, 1] on the *original* image, whatever size
the model sees; `Placement` maps between the two frames. Masks are compressed COCO RLE.

The room has five files, and all names are offered here: this one, `masks.py` (polygons, run lengths, bitmaps),
`boxes.py` (box algebra in torch), `contours.py` and `placement.py`. The last three are loaded when they are first asked
for, so that scoring a file of predictions waits for neither torch nor Pillow.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError
from .masks import (
    check_rle,
    mask_area,
    mask_bounds,
    mask_iou,
    mask_overlap,
    mask_to_rle,
    mask_union,
    rle_to_mask,
    to_rle,
)

if TYPE_CHECKING:
    from .boxes import (
        box_area,
        box_cxcywh_to_xyxy,
        box_iou,
        box_xyxy_to_cxcywh,
        generalized_iou,
        pairwise_iou,
    )
    from .contours import contours_to_rle, mask_to_contours
    from .placement import Placement

__all__ = [
    "Placement",
    "Region",
    "box_area",
    "box_cxcywh_to_xyxy",
    "box_iou",
    "box_xyxy_to_cxcywh",
    "check_bbox",
    "contours_to_rle",
    "generalized_iou",
    "mask_area",
    "mask_bounds",
    "mask_iou",
    "mask_overlap",
    "mask_to_contours",
    "mask_to_rle",
    "mask_union",
    "pairwise_iou",
    "rle_to_mask",
    "to_rle",
]

_LATER = {"Placement": ".placement", "contours_to_rle": ".contours", "mask_to_contours": ".contours"}  # else boxes.py
_SLACK = 1e-6  # how far rounding may carry a normalised coordinate out of [0, 1]


def __getattr__(name: str) -> Any:
    """Load the box algebra, contours and `Placement` on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER.get(name, ".boxes"), __package__), name)


@dataclass(frozen=True)
class Region:
    """A part of an image: a box, a mask, or both, and perhaps its depth.

    Attributes:
        box: (x1, y1, x2, y2), float64, in [0, 1] of the original image, x1 <= x2 and y1 <= y2; None when unknown.
        mask: compressed COCO RLE at the original image's size; None when unknown.
        depth: place in the order of objects from the viewer, 0 the nearest, 1 the farthest; None when unknown.

    Raises:
        InputError: a coordinate or depth that is not finite or out of range, corners in the wrong order, no valid RLE.
    """

    box: tuple[float, float, float, float] | None
    mask: dict | None = None
    depth: float | None = None

    def __post_init__(self) -> None:
        if self.box is not None:
            object.__setattr__(self, "box", _check_box(self.box))
        if self.mask is not None:
            object.__setattr__(self, "mask", check_rle(self.mask))
        if self.depth is not None:
            depth = float(self.depth)
            if not -_SLACK <= depth <= 1 + _SLACK:  # false for NaN as well
                raise InputError(f"depth {self.depth!r} is not in [0, 1]")
            object.__setattr__(self, "depth", min(max(depth, 0.0), 1.0))

    @classmethod
    def from_coco(
        cls, bbox: Sequence[float] | None, segmentation: Any, height: int, width: int, depth: float | None = None
    ) -> Region:
        """A COCO annotation's region.

        Args:
            bbox: [x, y, width, height] in pixels, or None. Parts outside the image are cut off.
            segmentation: anything that `to_rle` reads, or None.
            height, width: the image's size in pixels.
            depth: in [0, 1], or None.

        Raises:
            InputError: a box that is not four finite numbers, has a negative side or lies outside the image; a
                segmentation that `to_rle` refuses.
        """
        if height <= 0 or width <= 0:
            raise InputError(f"image size {height} x {width}: both sides must be positive")
        box = None
        if bbox is not None:
            x, y, w, h = check_bbox(bbox)
            if w < 0 or h < 0 or x > width or y > height or x + w < 0 or y + h < 0:
                raise InputError(f"bbox {list(bbox)} has a negative side or lies outside {width} x {height} pixels")
            cut = np.clip([x / width, y / height, (x + w) / width, (y + h) / height], 0, 1)
            box = (float(cut[0]), float(cut[1]), float(cut[2]), float(cut[3]))
        mask = None if segmentation is None else to_rle(segmentation, height, width)
        return cls(box, mask, depth)

    def to_coco(self, height: int, width: int) -> dict[str, Any]:
        """The COCO fields: `bbox` ([x, y, width, height] in pixels) and `segmentation` (RLE), None where unknown."""
        bbox = None
        if self.box is not None:
            x1, y1, x2, y2 = self.box
            bbox = [x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height]
        if self.mask is not None and list(self.mask["size"]) != [height, width]:
            raise InputError(f"mask of size {self.mask['size']} (height, width) in an image of {[height, width]}")
        return {"bbox": bbox, "segmentation": None if self.mask is None else dict(self.mask)}


def check_bbox(bbox: Any) -> tuple[float, float, float, float]:
    """Four finite numbers, as floats; anything else (booleans and strings too) is an `InputError`."""
    numbers = list(bbox) if isinstance(bbox, (list, tuple, np.ndarray)) else []
    real = all(isinstance(v, (int, float, np.integer, np.floating)) and not isinstance(v, bool) for v in numbers)
    if len(numbers) == 4 and real and all(abs(v) <= sys.float_info.max for v in numbers):  # false for NaN as well
        return float(numbers[0]), float(numbers[1]), float(numbers[2]), float(numbers[3])
    raise InputError(f"bbox {str(bbox)[:80]} is not four finite numbers [x, y, width, height]")


def _check_box(box: Sequence[float]) -> tuple[float, float, float, float]:
    corners = [float(v) for v in box]
    if len(corners) != 4 or not all(-_SLACK <= v <= 1 + _SLACK for v in corners):  # false for NaN as well
        raise InputError(f"box {tuple(box)} is not four numbers in [0, 1]: x1, y1, x2, y2 of the original image")
    x1, y1, x2, y2 = (min(max(v, 0.0), 1.0) for v in corners)
    if x1 > x2 or y1 > y2:
        raise InputError(f"box {tuple(box)}: its corners are in the wrong order, expected x1 <= x2 and y1 <= y2")
    return x1, y1, x2, y2
