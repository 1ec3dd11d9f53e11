"""RefCOCO, RefCOCO+ and RefCOCOg, and every data set written in the layout of the REFER API.

    ROOT/images/train2014/COCO_train2014_000000000154.jpg
    ROOT/refcoco/instances.json     COCO: images, annotations (bbox, segmentation), categories
    ROOT/refcoco/refs(unc).p        expressions by annotation, with splits; or refs(unc).json, which is read first

RefCOCO and RefCOCO+ have the UNC splits (train, val, testA with people, testB with other objects), RefCOCOg the UMD
splits (train, val, test), which divide the images, where Google's divide the objects.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..regions import Region, check_bbox
from .phrasings import asked, held_out_phrasing
from .pickles import read_pickle
from .sample import VIS, Sample, Turn

SPLIT_BY = {"refcoco": "unc", "refcoco+": "unc", "refcocog": "umd"}
FLICKR = "flickr_url"  # of an image in instances.json; ends in Flickr's own number of the photograph
HELD_OUT_SPLITS = {  # the official splits that are not trained on
    "refcoco": ("val", "testA", "testB"),
    "refcoco+": ("val", "testA", "testB"),
    "refcocog": ("val", "test"),
}


@dataclass(frozen=True)
class Sentence:
    """One person's words for an object."""

    sent_id: int
    text: str


@dataclass(frozen=True)
class Annotation:
    """An object as COCO stores it: `bbox` [x, y, width, height] in pixels; `segmentation` in any form, or None."""

    ann_id: int
    image_id: str
    bbox: tuple[float, float, float, float]
    segmentation: Any
    depth: float | None = None  # of our own annotations: 0 nearest, 1 farthest


@dataclass(frozen=True)
class Ref:
    """An object referred to, and all that was said of it."""

    ref_id: int
    ann_id: int
    image_id: str
    split: str
    sentences: tuple[Sentence, ...]


class RefCOCO:
    """One split of one data set.

    Attributes:
        refs: the split's objects with their sentences, in the file's order.
        annotations: by `ann_id`, those of `refs`.
        sizes: (height, width) in pixels, by `image_id`, of the images of `refs`.
    """

    def __init__(self, root: str | Path, dataset: str, split: str | None) -> None:
        """Read the annotations; pictures are opened one by one later.

        Args:
            root: the folder that holds `images` and a folder for each data set.
            dataset: refcoco, refcoco+ or refcocog.
            split: a split that the refs file names; None for all of them.

        Raises:
            InputError: names what is missing, unknown or damaged, and what there is instead.
        """
        self.root, self.dataset, self.split = Path(root), dataset, split
        if dataset not in SPLIT_BY:
            raise InputError(f"unknown data set {dataset!r}; there are {', '.join(SPLIT_BY)}")
        folder = self.root / dataset
        if not folder.is_dir():
            missing = folder if self.root.is_dir() else self.root
            raise InputError(f"no folder {missing}; expected ROOT/{dataset} and ROOT/images in the root {self.root}")
        refs = _read_refs(folder, SPLIT_BY[dataset])
        if split is not None:
            found = Counter(ref.split for ref in refs)
            if split not in found:
                there = ", ".join(f"{name} ({count} refs)" for name, count in found.items()) or "no refs at all"
                raise InputError(f"no split {split!r} of {dataset} in {folder}; there are {there}")
            refs = [ref for ref in refs if ref.split == split]
        self.refs: tuple[Ref, ...] = tuple(refs)
        self._files: dict[str, str] = {}
        self._regions: dict[int, Region] = {}
        self.sizes: dict[str, tuple[int, int]] = {}
        self.annotations: dict[int, Annotation] = {}
        self._read_instances(folder / "instances.json")

    def load_image(self, image_id: str) -> np.ndarray:
        """The picture, uint8 (height, width, 3), RGB.

        Raises:
            InputError: an unknown id, a missing or damaged file, or one of another size than instances.json says.
        """
        from .images import read_image  # Pillow is needed for pictures only, not for scoring

        if image_id not in self._files:
            raise InputError(f"no image {image_id!r} in {self.dataset}/{self.split or 'all'}")
        name = self._files[image_id]
        places = [self.root / "images" / "train2014" / name, self.root / "images" / name, self.root / name]
        path = next((place for place in places if place.is_file()), places[0])
        image = read_image(path)
        if image.shape[:2] != self.sizes[image_id]:
            raise InputError(f"{path} is {image.shape[:2]} (height, width), instances.json says {self.sizes[image_id]}")
        return image

    def region(self, ann_id: int) -> Region:
        """The annotation's region: its box cut off at the image's border; its mask, if it has a segmentation."""
        if ann_id not in self._regions:
            annotation = self.annotations[ann_id]
            try:
                height, width = self.sizes[annotation.image_id]
                region = Region.from_coco(
                    annotation.bbox, annotation.segmentation, height, width, depth=annotation.depth
                )
            except InputError as error:
                raise InputError(f"annotation {ann_id} of {self.dataset} in {self.root}: {error}") from None
            self._regions[ann_id] = region
        return self._regions[ann_id]

    def samples(self) -> list[Sample]:
        """One dialogue a sentence, asked in the phrasing that no training uses; the answer is one region.

        `extra` holds the ids and the sentence as it was written, as `expression`.
        """
        phrasing = held_out_phrasing("rec")
        return [
            Sample(
                sample_id=f"{self.dataset}/{ref.split}/{sentence.sent_id}",
                image_id=ref.image_id,
                size=self.sizes[ref.image_id],
                turns=(
                    Turn("user", asked(phrasing, sentence.text)),
                    Turn("assistant", VIS, (self.region(ref.ann_id),)),
                ),
                task="rec",
                extra={
                    "sent_id": sentence.sent_id,
                    "ref_id": ref.ref_id,
                    "ann_id": ref.ann_id,
                    "expression": sentence.text,
                },
            )
            for ref in self.refs
            for sentence in ref.sentences
        ]

    def _read_instances(self, path: Path) -> None:
        content = read_json(path)
        with naming(path):
            wanted_images = {ref.image_id for ref in self.refs}
            for image in content["images"]:
                if str(image["id"]) in wanted_images:
                    self.sizes[str(image["id"])] = (int(image["height"]), int(image["width"]))
                    self._files[str(image["id"])] = str(image["file_name"])
            wanted = {ref.ann_id for ref in self.refs}
            for entry in content["annotations"]:
                if entry["id"] in wanted:
                    self.annotations[entry["id"]] = Annotation(
                        entry["id"],
                        str(entry["image_id"]),
                        check_bbox(entry["bbox"]),
                        entry.get("segmentation"),
                        entry.get("depth"),
                    )
        for ref in self.refs:
            if ref.ann_id not in self.annotations:
                raise InputError(f"{path} has no annotation {ref.ann_id}, which ref {ref.ref_id} names")
            if ref.image_id not in self.sizes:
                raise InputError(f"{path} has no image {ref.image_id}, which ref {ref.ref_id} names")
            if self.annotations[ref.ann_id].image_id != ref.image_id:
                raise InputError(f"{path}: annotation {ref.ann_id} is not in ref {ref.ref_id}'s image {ref.image_id}")


def read_json(path: Path) -> Any:
    """The content of a JSON file; an `InputError` that names the file and the place where reading stopped."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON (cut off?): {error}") from None


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors in a file's structure as an `InputError` that names the file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except KeyError as error:
        raise InputError(f"{path}: an entry has no {error}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not laid out as expected: {error}") from None


def _read_refs(folder: Path, split_by: str) -> list[Ref]:
    plain, pickled = folder / f"refs({split_by}).json", folder / f"refs({split_by}).p"
    path = plain if plain.is_file() else pickled
    if not path.is_file():
        raise InputError(f"no {pickled.name} and no {plain.name} in {folder}")
    content = read_json(path) if path == plain else read_pickle(path)
    with naming(path):
        if not isinstance(content, list):
            raise InputError(f"expected a list of refs, found {type(content).__name__}")
        return [
            Ref(
                ref_id=int(entry["ref_id"]),
                ann_id=int(entry["ann_id"]),
                image_id=str(entry["image_id"]),
                split=str(entry["split"]),
                sentences=tuple(Sentence(int(s["sent_id"]), str(s["sent"])) for s in entry["sentences"]),
            )
            for entry in content
        ]
