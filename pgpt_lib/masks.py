"""Masks: polygons, run lengths and bitmaps turned into each other, here and nowhere else; and their algebra.

The project's form is compressed COCO RLE, `{"size": [height, width], "counts": str}`: column-major run lengths that are
JSON as they stand. pycocotools does the work; what it takes for granted is checked first, since it answers damaged
input with wrong masks, exhausted memory or a crash (cocoapi#369, #380). Users import these names from `regions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from .errors import InputError

# Polygons that reach further out than this many image sides are damaged.
_FAR = 16


def to_rle(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """Any form of a segmentation as one compressed RLE.

    Args:
        segmentation: a list of polygons [x1, y1, x2, y2, ...] in pixels (or one flat polygon); an RLE with counts as
            list, str or bytes; a list that mixes both; or a bitmap of shape (height, width). Polygons of fewer than
            three points enclose nothing and are left out; an empty list is an empty mask. Several parts are united.
        height, width: the image's size in pixels.

    Raises:
        InputError: another size than the image's, an odd number of coordinates or one that is not finite, run lengths
            that do not fill the image, or none of these forms.
    """
    if isinstance(segmentation, np.ndarray) and segmentation.ndim == 2:
        if segmentation.shape != (height, width):
            raise InputError(f"bitmap of shape {segmentation.shape} for an image of {(height, width)}")
        return mask_to_rle(segmentation)
    if isinstance(segmentation, Mapping):
        return _rle_from_dict(segmentation, height, width)
    if not isinstance(segmentation, (list, tuple)):
        raise InputError(f"segmentation of type {type(segmentation).__name__}: expected polygons, RLE or a bitmap")
    parts = [segmentation] if segmentation and np.isscalar(segmentation[0]) else segmentation
    rles = []
    for part in parts:
        if isinstance(part, Mapping):
            rles.append(_rle_from_dict(part, height, width))
        elif (rle := _rle_from_polygon(part, height, width)) is not None:
            rles.append(rle)
    if not rles:
        return mask_to_rle(np.zeros((height, width), np.uint8))
    return _as_text(coco_mask.merge(rles) if len(rles) > 1 else rles[0])


def mask_to_rle(bitmap: np.ndarray) -> dict[str, Any]:
    """Compressed RLE of a bitmap (height, width); every value but 0 belongs to the mask."""
    bitmap = np.asarray(bitmap)
    if bitmap.ndim != 2 or 0 in bitmap.shape:
        raise InputError(f"bitmap of shape {bitmap.shape}: expected (height, width)")
    return _as_text(coco_mask.encode(np.asfortranarray(bitmap != 0, dtype=np.uint8)))


def rle_to_mask(rle: Mapping[str, Any]) -> np.ndarray:
    """The bitmap of a compressed RLE: uint8 (height, width), 0 or 1."""
    height, width = rle["size"]
    runs = _runs_from_text(rle["counts"])
    _check_runs(runs, height, width)
    in_mask = (np.arange(len(runs)) % 2).astype(np.uint8)  # runs outside and inside take turns
    return np.repeat(in_mask, runs).reshape(width, height).T


def mask_area(rle: Mapping[str, Any]) -> int:
    """Pixels in the mask."""
    return int(coco_mask.area(rle))


def mask_overlap(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[int, int]:
    """Pixels in the intersection and in the union of two masks of one size."""
    if list(a["size"]) != list(b["size"]):
        raise InputError(f"masks of sizes {list(a['size'])} and {list(b['size'])} (height, width) cannot be compared")
    inter = int(coco_mask.area(coco_mask.merge([a, b], intersect=True)))
    return inter, mask_area(a) + mask_area(b) - inter


def mask_iou(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """Intersection over union of two masks of one size; 0 when both are empty, as in pycocotools."""
    inter, union = mask_overlap(a, b)
    return inter / union if union else 0.0


def mask_union(rles: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One mask that covers all of `rles` (at least one, all of one size)."""
    return _as_text(coco_mask.merge(list(rles)))


def mask_bounds(bitmap: np.ndarray) -> tuple[float, float, float, float] | None:
    """The tight box (x1, y1, x2, y2) in pixels around a bitmap, x2 and y2 exclusive; None when the bitmap is empty."""
    columns, rows = np.flatnonzero(np.any(bitmap, axis=0)), np.flatnonzero(np.any(bitmap, axis=1))
    if not len(columns):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def check_rle(rle: Mapping[str, Any]) -> dict[str, Any]:
    """The form of a compressed RLE, with its counts as text; `to_rle` also checks what the counts say."""
    counts, size = rle.get("counts"), rle.get("size")
    if isinstance(counts, bytes):
        counts = counts.decode("ascii")
    if not isinstance(counts, str) or not isinstance(size, (list, tuple)) or len(size) != 2:
        raise InputError('a mask is a compressed COCO RLE {"size": [height, width], "counts": text}; see `to_rle`')
    return {"size": [int(size[0]), int(size[1])], "counts": counts}


def _rle_from_dict(rle: Mapping[str, Any], height: int, width: int) -> dict[str, Any]:
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(size, (list, tuple)) or list(size) != [height, width]:
        raise InputError(f"RLE of size {size!r} (height, width) for an image of {[height, width]}")
    if isinstance(counts, (list, tuple)):
        runs = _whole_numbers(counts)
        _check_runs(runs, height, width)
        return _as_text(coco_mask.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width))
    if not isinstance(counts, (str, bytes)):
        raise InputError(f"RLE counts of type {type(counts).__name__}: expected text or a list of run lengths")
    text = counts.decode("latin-1") if isinstance(counts, bytes) else counts
    _check_runs(_runs_from_text(text), height, width)
    return {"size": [height, width], "counts": text}


def _rle_from_polygon(polygon: Any, height: int, width: int) -> dict[str, Any] | None:
    try:
        points = np.asarray(polygon, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"polygon {str(polygon)[:60]}: expected numbers x1, y1, x2, y2, ...") from None
    if points.ndim != 1 or len(points) % 2:
        raise InputError(f"polygon {str(polygon)[:60]}: expected a flat list of an even number of coordinates")
    if not np.isfinite(points).all() or np.abs(points).max(initial=0) > _FAR * max(height, width):
        raise InputError(f"polygon {str(polygon)[:60]}: a coordinate is not finite or far outside the image")
    if len(points) < 6:  # pycocotools would take four numbers for a box
        return None
    return coco_mask.frPyObjects([points.tolist()], height, width)[0]


def _whole_numbers(counts: Sequence[Any]) -> np.ndarray:
    runs = np.asarray(counts) if len(counts) else np.zeros(0, np.int64)
    if runs.ndim != 1 or not np.issubdtype(runs.dtype, np.integer):
        raise InputError("RLE counts: expected whole numbers")
    return runs.astype(np.int64)


def _runs_from_text(text: str) -> np.ndarray:
    """Run lengths of a compressed RLE: groups of 5 bits, bit 6 says that more follow, signed differences to the run
    before the last from the fourth run on (`rleFrString` in the COCO API)."""
    codes = np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int64) - 48
    if len(codes) == 0 or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise InputError(f"RLE counts {text[:30]!r}: not the text of a compressed RLE, or cut off")
    ends = np.flatnonzero((codes & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() > 11:
        raise InputError(f"RLE counts {text[:30]!r}: a run length of more than 60 bits")
    place = 5 * (np.arange(len(codes)) - np.repeat(starts, ends - starts + 1))
    values = np.add.reduceat((codes & 31) << place, starts)
    values -= np.where(codes[ends] & 16, np.int64(1) << (5 * (ends - starts + 1)), 0)  # sign extension
    values[1::2], values[2::2] = np.cumsum(values[1::2]), np.cumsum(values[2::2])
    return values


def _check_runs(runs: np.ndarray, height: int, width: int) -> None:
    if (runs < 0).any() or runs.sum() != height * width:
        raise InputError(f"RLE counts fill {runs.sum()} pixels, the image has {height} x {width} = {height * width}")


def _as_text(rle: Mapping[str, Any]) -> dict[str, Any]:
    counts = rle["counts"]
    text = counts if isinstance(counts, str) else counts.decode("ascii")
    return {"size": [int(v) for v in rle["size"]], "counts": text}
