"""Keeps the pictures of RefCOCO's val and test splits out of training.

RefCOCO, RefCOCO+ and RefCOCOg, and gRefCOCO after them, are drawn from COCO's train2014, and each divides it in its own
way: what one trains on, another tests on. COCO captions and instances, LLaVA, VQAv2 and OK-VQA use the same pictures,
Visual Genome half of them under other names, and Flickr30k comes from the same site. So a picture is known by all of
its names (`Reader.aliases`), and one that any val or test split holds is removed from every training source. Where
Karpathy's splits are there, their val and test pictures are kept out as well: they cut across Flickr30k's own splits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .grefcoco import read_expressions
from .karpathy import DATASETS, read_captioned
from .pictures import coco_key
from .reader import Reader
from .refcoco import FLICKR, HELD_OUT_SPLITS, RefCOCO, naming, read_json


@dataclass(frozen=True)
class Removed:
    """What the guard took from one source."""

    records: int
    kept: int
    pictures: int

    def as_dict(self) -> dict[str, int]:
        """For JSON: records read, records removed, and of how many pictures."""
        return {"records": self.records, "removed": self.records - self.kept, "removed_pictures": self.pictures}


def protected_pictures(root: Path) -> frozenset[str]:
    """Every name of every picture that a val or test split under `root` holds: `coco/154`, `flickr/8119368305`.

    These are the splits of RefCOCO, RefCOCO+ and RefCOCOg, and those of gRefCOCO and of Karpathy where they are there.

    Raises:
        InputError: one of RefCOCO, RefCOCO+ and RefCOCOg is missing, or one of its official val and test splits:
            without them the guard would be blind.
    """
    names: set[str] = set()
    for dataset, splits in HELD_OUT_SPLITS.items():
        if not (root / dataset).is_dir():
            raise InputError(
                f"no {root / dataset}: its val and test pictures must be known before anything is trained on; "
                f"python -m pgpt_lib data {dataset} --root {root}"
            )
        refs = RefCOCO(root, dataset, None).refs
        lacking = sorted(set(splits) - {ref.split for ref in refs})
        if lacking:
            raise InputError(
                f"{root / dataset} has no expression of {', '.join(lacking)}: the pictures of these splits must be "
                f"known before anything is trained on; python -m pgpt_lib data {dataset} --root {root} --fresh"
            )
        numbers = {ref.image_id for ref in refs if ref.split != "train"}
        names |= {coco_key(number) for number in numbers} | _flickr_names(root / dataset / "instances.json", numbers)
    if (root / "grefcoco").is_dir():
        held_out = [e.image_id for e in read_expressions(root / "grefcoco") if e.split != "train"]
        names |= {coco_key(number) for number in held_out}
    for dataset in DATASETS:
        if (root / "karpathy" / f"dataset_{dataset}.json").is_file():
            held_out_captions = [e for e in read_captioned(root, dataset) if e.split in ("val", "test")]
            names |= {entry.key for entry in held_out_captions}
            names |= {f"flickr/{e.number}" for e in held_out_captions if dataset == "flickr30k"}
    return frozenset(names)


def guard(reader: Reader, protected: frozenset[str]) -> tuple[np.ndarray, Removed]:
    """The records of a source that may be trained on.

    Args:
        reader: a training source.
        protected: of `protected_pictures`.

    Returns:
        Indices of the kept records, int64 [K], ascending; and what was removed.
    """
    kept, pictures = [], set()
    for index in range(len(reader)):
        if protected.isdisjoint(reader.aliases(index)):
            kept.append(index)
        else:
            pictures.add(reader.image_key(index))
    return np.array(kept, dtype=np.int64), Removed(len(reader), len(kept), len(pictures))


def report(removed: Mapping[str, Removed]) -> dict[str, Any]:
    """What was removed, by source and in all, as JSON."""
    each = {name: entry.as_dict() for name, entry in removed.items()}
    return {"sources": each, "removed": sum(entry["removed"] for entry in each.values())}


def lines(removed: Mapping[str, Removed]) -> Iterable[str]:
    """What was removed, a line a source, for a person."""
    for name, entry in removed.items():
        gone = entry.records - entry.kept
        yield f"leakage guard: {name}: {gone} of {entry.records} records removed ({entry.pictures} pictures)"


def _flickr_names(instances: Path, numbers: set[str]) -> set[str]:
    """Flickr's own numbers of photographs, from the addresses that COCO's files give: ".../8119368305_4e622c_z.jpg"."""
    content, names = read_json(instances), set()
    with naming(instances):
        for image in content["images"]:
            if str(image["id"]) in numbers and image.get(FLICKR):
                photo = str(image[FLICKR]).rsplit("/", 1)[-1].split("_", 1)[0]
                names |= {f"flickr/{int(photo)}"} if photo.isdigit() else set()
    return names
