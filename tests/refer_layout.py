"""Writes small data sets in the REFER layout, for tests of its reader and of scoring."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Refs = list[dict[str, Any]]


def ref(ref_id: int, ann_id: int, image_id: int, split: str, sentences: dict[int, str]) -> dict[str, Any]:
    """A ref as the REFER API's pickles hold it."""
    return {
        "ref_id": ref_id,
        "ann_id": ann_id,
        "image_id": image_id,
        "split": split,
        "category_id": 1,
        "file_name": f"COCO_train2014_{image_id:012d}_{ref_id}.jpg",
        "sent_ids": list(sentences),
        "sentences": [{"sent_id": i, "sent": s, "raw": s, "tokens": s.split()} for i, s in sentences.items()],
    }


def annotation(ann_id: int, image_id: int, bbox: list[float], segmentation: Any = None) -> dict[str, Any]:
    """A COCO annotation."""
    return {
        "id": ann_id,
        "image_id": image_id,
        "category_id": 1,
        "bbox": bbox,
        "area": bbox[2] * bbox[3],
        "iscrowd": int(isinstance(segmentation, dict)),
        "segmentation": segmentation,
    }


def write(
    root: Path,
    refs: Refs,
    annotations: list[dict[str, Any]],
    sizes: dict[int, tuple[int, int]],
    dataset: str = "refcoco",
    by: str = "unc",
    pickled: bool = True,
    protocol: int = 2,
) -> Path:
    """Write a data set's annotations under `root`, `sizes` being (height, width) by image; returns `root`."""
    folder = root / dataset
    folder.mkdir(parents=True, exist_ok=True)
    images = [
        {"id": i, "file_name": f"COCO_train2014_{i:012d}.jpg", "height": h, "width": w} for i, (h, w) in sizes.items()
    ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (folder / "instances.json").write_text(json.dumps(content))
    if pickled:
        (folder / f"refs({by}).p").write_bytes(pickle.dumps(refs, protocol))
    else:
        (folder / f"refs({by}).json").write_text(json.dumps(refs))
    return root


def write_picture(root: Path, image_id: int, pixels: np.ndarray) -> Path:
    """Save a picture where the layout expects it; greyscale arrays become greyscale files."""
    path = root / "images" / "train2014" / f"COCO_train2014_{image_id:012d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format="PNG")  # lossless; readers go by the content
    return path


SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]  # in an image of 40 x 60 pixels


def tiny(root: Path, **options: Any) -> Path:
    """Two images, three objects (polygon, crowd RLE, no mask), four refs in two splits, seven sentences."""
    crowd = {"size": [40, 60], "counts": [0, 400, 2000]}  # the ten leftmost columns
    refs = [
        ref(1, 101, 7, "val", {11: "left thing", 12: "the square", 13: "it"}),
        ref(2, 102, 7, "val", {21: "the crowd"}),
        ref(3, 101, 7, "val", {31: "said by another"}),
        ref(4, 103, 8, "testA", {41: "beyond the border", 42: "that"}),
    ]
    annotations = [
        annotation(101, 7, [10, 10, 20, 20], SQUARE),
        annotation(102, 7, [0, 0, 10, 40], crowd),
        annotation(103, 8, [-2, 5, 20.5, 45.01]),
    ]
    return write(root, refs, annotations, {7: (40, 60), 8: (50, 50)}, **options)
