"""Karpathy's splits of the COCO and Flickr30k captions, by which Table 5 is scored (Karpathy and Fei-Fei, CVPR 2015).

    ROOT/karpathy/dataset_coco.json        {"images": [{cocoid, filename, split, sentences: [{raw}]}]}
    ROOT/karpathy/dataset_flickr30k.json   the same, without cocoid

COCO: 113,287 pictures to train on (split train and restval), 5,000 val, 5,000 test; Flickr30k: 29,000, 1,014, 1,000.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError
from .json_files import first_of, naming, records_of
from .phrasings import words
from .pictures import coco_key
from .reader import Ask, Reader
from .sample import Turn

DATASETS = ("coco", "flickr30k")
TRAINED_AS = {"coco": "coco_karpathy", "flickr30k": "flickr30k_captions"}
SPLITS = {"train": ("train", "restval"), "val": ("val",), "test": ("test",)}


class Captioned(NamedTuple):
    """A picture by its number in its data set, its key, and what people said of it."""

    number: int
    key: str
    split: str
    captions: tuple[str, ...]


def read_captioned(root: str | Path, dataset: str) -> list[Captioned]:
    """Every picture of a data set with its captions as people wrote them.

    Raises:
        InputError: an unknown data set, a missing or damaged file, or a picture without captions.
    """
    if dataset not in DATASETS:
        raise InputError(f"unknown data set {dataset!r}; Karpathy's splits are of {' and '.join(DATASETS)}")
    path = first_of(Path(root) / "karpathy", [f"dataset_{dataset}.json"], "karpathy")
    needs = ("filename", "split", "sentences", *(("cocoid",) if dataset == "coco" else ()))
    found = []
    for entry in records_of(path, "images", needs):
        with naming(path):
            number = int(entry["cocoid"] if dataset == "coco" else Path(entry["filename"]).stem)
            captions = tuple(words(sentence["raw"]) for sentence in entry["sentences"])
            if not captions:
                raise InputError(f"picture {number} has no captions")
            key = coco_key(number) if dataset == "coco" else f"flickr30k/{number}"
            found.append(Captioned(number, key, str(entry["split"]), captions))
    return found


class Karpathy(Reader):
    """One record a picture, described; `extra["references"]` holds all of its captions, the first is the answer."""

    packs = False

    def __init__(self, root: str | Path, split: str = "test", dataset: str = "coco") -> None:
        """Read a split: train (with restval), val or test; errors as of `read_captioned`."""
        super().__init__(root)
        self.name = f"karpathy-{dataset}"
        if split not in SPLITS:
            raise InputError(f"no split {split!r}; Karpathy's are {', '.join(SPLITS)}")
        self._records = [entry for entry in read_captioned(root, dataset) if entry.split in SPLITS[split]]

    def __len__(self) -> int:
        return len(self._records)

    def record_id(self, index: int) -> str:
        return str(self._records[index].number)

    def image_key(self, index: int) -> str:
        return self._records[index].key

    def size(self, index: int) -> tuple[int, int]:
        return self.pictures.size(self.image_key(index))

    def task(self, index: int) -> str:
        return "caption"

    def extra(self, index: int) -> dict[str, Any]:
        record = self._records[index]
        return {"references": list(record.captions), "number": record.number}

    def turns(self, index: int, ask: Ask) -> tuple[Turn, ...]:
        return Turn("user", ask("caption")), Turn("assistant", self._records[index].captions[0])


class KarpathyCaptions(Karpathy):
    """One record a caption, to be trained on: each is an answer of its own.

    Its name is that of the source: `flickr30k_captions`, and `coco_karpathy` beside COCO's own `coco_captions`.
    """

    def __init__(self, root: str | Path, split: str = "train", dataset: str = "coco") -> None:
        """Read a split; arguments and errors as of `Karpathy`."""
        super().__init__(root, split, dataset)
        self.name = TRAINED_AS[dataset]
        self._records = [r._replace(captions=(caption,)) for r in self._records for caption in r.captions]

    def record_id(self, index: int) -> str:
        return f"{self._records[index].number}-{index}"

    def aliases(self, index: int) -> tuple[str, ...]:
        record = self._records[index]  # Flickr30k's files are named after Flickr's own number
        return (record.key, f"flickr/{record.number}") if record.key.startswith("flickr30k/") else (record.key,)
