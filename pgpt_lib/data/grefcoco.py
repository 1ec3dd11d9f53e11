"""gRefCOCO: expressions of one object, several, or none (Liu et al., CVPR 2023).

    ROOT/grefcoco/grefs(unc).json    as REFER's, with lists: ann_id [101, 102], or [-1] where nothing is meant
    ROOT/grefcoco/instances.json     COCO

The question never tells how many objects are meant.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError
from ..regions import Region, check_bbox
from .coco import read_sizes
from .json_files import first_of, naming, read_json
from .phrasings import asked
from .pickles import read_pickle
from .pictures import coco_key
from .reader import Ask, Reader, answer, left_to_right
from .sample import Turn

NO_TARGET = -1
_NAMES = ("grefs(unc).json", "grefs(unc).p")


class Expression(NamedTuple):
    """One sentence and the annotations that it means, none included."""

    sent_id: int
    ref_id: int
    image_id: int
    split: str
    text: str
    ann_ids: tuple[int, ...]


def read_expressions(folder: Path) -> list[Expression]:
    """Every sentence of every split.

    Raises:
        InputError: a missing or damaged file, or an entry without a key; the message names them.
    """
    path = first_of(folder, _NAMES, "grefcoco")
    content = read_json(path) if path.suffix == ".json" else read_pickle(path)
    found = []
    with naming(path):
        for ref in content:
            given = ref["ann_id"] if isinstance(ref["ann_id"], list) else [ref["ann_id"]]
            meant = tuple(int(a) for a in given if int(a) != NO_TARGET)
            place = int(ref["ref_id"]), int(ref["image_id"]), str(ref["split"])
            for sentence in ref["sentences"]:
                found.append(Expression(int(sentence["sent_id"]), *place, str(sentence["sent"]), meant))
    return found


class GRefCOCO(Reader):
    """One record a sentence; its answer is a region for each object meant, from left to right, or "none"."""

    name = "grefcoco"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        """Read a split.

        Raises:
            InputError: a missing or damaged file, an unknown split, or an annotation that instances.json lacks.
        """
        super().__init__(root)
        folder = self.root / "grefcoco"
        every = read_expressions(folder)
        self._records = [e for e in every if e.split == split]
        if not self._records:
            there = ", ".join(f"{name} ({n})" for name, n in Counter(e.split for e in every).items()) or "none"
            raise InputError(f"no split {split!r} of grefcoco in {folder}; there are {there}")
        path = first_of(folder, ["instances.json"], "grefcoco")
        content = read_json(path)
        self._sizes = read_sizes(content, path)
        wanted = {a for e in self._records for a in e.ann_ids}
        with naming(path):
            self._annotations = {int(a["id"]): a for a in content["annotations"] if int(a["id"]) in wanted}
        for record in self._records:
            lacking = [a for a in record.ann_ids if a not in self._annotations]
            if lacking or record.image_id not in self._sizes:
                what = f"annotation {lacking[0]}" if lacking else f"image {record.image_id}"
                raise InputError(f"{path} has no {what}, which ref {record.ref_id} names")

    def __len__(self) -> int:
        return len(self._records)

    def record_id(self, index: int) -> str:
        return f"{self._records[index].split}/{self._records[index].sent_id}"

    def image_key(self, index: int) -> str:
        return coco_key(self._records[index].image_id)

    def size(self, index: int) -> tuple[int, int]:
        return self._sizes[self._records[index].image_id]

    def task(self, index: int) -> str:
        return {0: "none", 1: "rec"}.get(len(self._records[index].ann_ids), "several")

    def extra(self, index: int) -> dict[str, Any]:
        record = self._records[index]
        return {"sent_id": record.sent_id, "ref_id": record.ref_id, "ann_ids": record.ann_ids}

    def turns(self, index: int, ask: Ask) -> tuple[Turn, ...]:
        record, size = self._records[index], self.size(index)
        regions = []
        for number in record.ann_ids:
            entry = self._annotations[number]
            box, segmentation = check_bbox(entry["bbox"]), entry.get("segmentation")
            regions.append(Region.from_coco(box, segmentation, *size, depth=entry.get("depth")))
        return Turn("user", asked(ask("rec"), record.text)), answer(left_to_right(regions))
