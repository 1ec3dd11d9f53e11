"""COCO: captions, and instances as objects to find (Lin et al., ECCV 2014).

    ROOT/coco/annotations/captions_train2014.json      images, annotations (image_id, caption)
    ROOT/coco/annotations/instances_train2014.json     images, annotations (bbox, segmentation, iscrowd), categories
    ROOT/images/train2014/COCO_train2014_*.jpg

The files of 2017 serve as well; they divide the same photographs differently.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..regions import Region
from .json_files import first_of, naming, read_json
from .phrasings import asked, words
from .pictures import coco_key
from .reader import Ask, Reader, answer, left_to_right
from .refshapes.scene import stream as random_stream
from .sample import NO_REGION, Turn

MOST = 8  # more objects of a category than this are left out: the annotation stops being complete there
_PLURALS = {"person": "people", "sheep": "sheep", "skis": "skis", "scissors": "scissors"}
_PLURALS |= {"mouse": "mice", "knife": "knives", "broccoli": "broccoli"}


def plural(category: str) -> str:
    """A category's name for several of its objects."""
    if category in _PLURALS:
        return _PLURALS[category]
    return f"{category}es" if category.endswith(("s", "x", "ch", "sh")) else f"{category}s"


def _annotations(root: Path, kind: str, split: str) -> Path:
    return first_of(root / "coco", [f"annotations/{kind}_{split}{year}.json" for year in (2014, 2017)], "coco")


def read_sizes(content: Any, path: Path) -> dict[int, tuple[int, int]]:
    """(height, width) by image number, from a COCO file's `images`."""
    with naming(path):
        return {int(image["id"]): (int(image["height"]), int(image["width"])) for image in content["images"]}


class COCOCaptions(Reader):
    """One record a caption. `extra["references"]` holds all captions of the photograph."""

    name = "coco_captions"
    packs = False  # five answers to one question in one dialogue would contradict each other

    def __init__(self, root: str | Path, split: str = "train") -> None:
        """Read the captions.

        Args:
            root: the folder that holds `coco` and `images`.
            split: train or val.

        Raises:
            InputError: a missing or damaged file.
        """
        super().__init__(root)
        path = _annotations(self.root, "captions", split)
        content = read_json(path)
        self._sizes = read_sizes(content, path)
        self._records: list[tuple[int, int, str]] = []
        self._of_image: dict[int, list[str]] = defaultdict(list)
        with naming(path):
            for entry in content["annotations"]:
                image, caption = int(entry["image_id"]), words(entry["caption"])
                if image not in self._sizes:
                    raise InputError(f"caption {entry['id']} is of image {image}, which is not among the images")
                self._records.append((int(entry["id"]), image, caption))
                self._of_image[image].append(caption)

    def __len__(self) -> int:
        return len(self._records)

    def record_id(self, index: int) -> str:
        return str(self._records[index][0])

    def image_key(self, index: int) -> str:
        return coco_key(self._records[index][1])

    def size(self, index: int) -> tuple[int, int]:
        return self._sizes[self._records[index][1]]

    def task(self, index: int) -> str:
        return "caption"

    def extra(self, index: int) -> dict[str, Any]:
        return {"references": self._of_image[self._records[index][1]]}

    def turns(self, index: int, ask: Ask) -> tuple[Turn, ...]:
        return Turn("user", ask("caption")), Turn("assistant", self._records[index][2])


class COCOInstances(Reader):
    """One record for each category in a photograph, and one for a category that it lacks.

    One object is asked for as in RefCOCO ("find the dog ."), several as a set ("find all dogs ."), from left to right;
    the absent category is answered "none". Categories with a crowd annotation, which stands for an unknown number, or
    with more than `MOST` objects are left out of that photograph.
    """

    name = "coco_instances"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        """Read the annotations; arguments and errors as of `COCOCaptions`."""
        super().__init__(root)
        path = _annotations(self.root, "instances", split)
        content = read_json(path)
        self._sizes = read_sizes(content, path)
        self._objects: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
        with naming(path):
            self._names = {int(c["id"]): str(c["name"]) for c in content["categories"]}
            for entry in content["annotations"]:
                image, category = int(entry["image_id"]), int(entry["category_id"])
                if image not in self._sizes or category not in self._names:
                    raise InputError(f"annotation {entry['id']} names an image or a category that the file lacks")
                self._objects[image, category].append(entry)
        present: dict[int, set[int]] = defaultdict(set)
        for image, category in self._objects:
            present[image].add(category)
        self._records = [key for key, found in self._objects.items() if len(found) <= MOST and not _crowded(found)]
        for image, seen in present.items():
            absent = sorted(set(self._names) - seen)
            if absent:
                self._records.append((image, random_stream("absent", image).choice(absent)))

    def __len__(self) -> int:
        return len(self._records)

    def record_id(self, index: int) -> str:
        return "-".join(map(str, self._records[index]))

    def image_key(self, index: int) -> str:
        return coco_key(self._records[index][0])

    def size(self, index: int) -> tuple[int, int]:
        return self._sizes[self._records[index][0]]

    def task(self, index: int) -> str:
        count = len(self._objects.get(self._records[index], ()))
        return {0: "none", 1: "rec"}.get(count, "several")

    def turns(self, index: int, ask: Ask) -> tuple[Turn, ...]:
        image, category = self._records[index]
        entries = self._objects.get((image, category), [])
        name, size = self._names[category], self._sizes[image]
        if not entries:  # absent things are asked for in either number, as present ones are
            several = random_stream("absent number", image, category).random() < 0.5
            question = asked(ask("several"), plural(name)) if several else asked(ask("rec"), name)
            return Turn("user", question), Turn("assistant", NO_REGION)
        regions = left_to_right([Region.from_coco(e["bbox"], e.get("segmentation"), *size) for e in entries])
        question = asked(ask("rec"), name) if len(regions) == 1 else asked(ask("several"), plural(name))
        return Turn("user", question), answer(regions)


def _crowded(entries: list[dict[str, Any]]) -> bool:
    return any(entry.get("iscrowd") for entry in entries)
