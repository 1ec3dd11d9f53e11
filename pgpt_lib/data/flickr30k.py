"""Flickr30k Entities: captions whose phrases carry boxes, often several (Plummer et al., IJCV 2017).

    ROOT/flickr30k/Sentences/1000092795.txt     a caption a line: "[/EN#1/people Two young guys] with ..."
    ROOT/flickr30k/Annotations/1000092795.xml   boxes by chain id, in the form of PASCAL VOC
    ROOT/flickr30k/train.txt, val.txt, test.txt pictures by split
    ROOT/flickr30k/images/1000092795.jpg        from the authors of Flickr30k, after their form

Phrases that are not visible, of the whole scene, or without a box stay plain words.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError
from ..regions import Region
from .phrasings import words
from .reader import Ask, Reader, left_to_right
from .sam_masks import SamMasks, box_name
from .sample import VIS, Turn

SPLITS = ("train", "val", "test")
_PHRASE = re.compile(r"\[/EN#(\d+)((?:/[^\s/\]]+)*)\s+([^\]]*)\]")
Box = tuple[float, float, float, float]  # x, y, width, height in pixels


class Entities(NamedTuple):
    """What is drawn in a picture: (height, width), and boxes by chain id."""

    size: tuple[int, int]
    boxes: dict[str, list[Box]]


def read_boxes(path: Path) -> Entities:
    """The boxes of one picture, 0-based. A corner is read as the authors' own interface reads it: less one, both ends.

    Raises:
        InputError: a missing, damaged or differently built file.
    """
    try:
        tree = ElementTree.parse(path).getroot()
        size = int(tree.findtext("size/height", "")), int(tree.findtext("size/width", ""))
        boxes: dict[str, list[Box]] = {}
        for thing in tree.findall("object"):
            corners = thing.find("bndbox")
            if corners is None:
                continue
            x1, y1, x2, y2 = (float(corners.findtext(name, "")) for name in ("xmin", "ymin", "xmax", "ymax"))
            for name in thing.findall("name"):
                boxes.setdefault(str(name.text), []).append((x1 - 1, y1 - 1, x2 - x1, y2 - y1))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{path} is not laid out as Flickr30k Entities are (cut off?): {error}") from None
    return Entities(size, boxes)


def parse_caption(line: str, boxes: dict[str, list[Box]]) -> tuple[str, list[tuple[str, list[Box]]]]:
    """A marked caption as text with `<vis>` in its places.

    Returns:
        The text, in which "<p> phrase </p>" is followed by one `<vis>` a box; and its phrases with their boxes.
    """
    phrases: list[tuple[str, list[Box]]] = []

    def mark(found: re.Match[str]) -> str:
        phrase = words(found[3])
        drawn = boxes.get(found[1], [])
        if not drawn or found[1] == "0":
            return phrase
        phrases.append((phrase, drawn))
        return f"\0{len(phrases) - 1}\0"

    text = words(_PHRASE.sub(mark, line))
    for number, (phrase, drawn) in enumerate(phrases):
        marked = f"<p> {phrase} </p> " + " ".join([VIS] * len(drawn))
        text = text.replace(f"\0{number}\0", marked)
    return text, phrases


class Flickr30k(Reader):
    """One record a caption that has at least one box. Masks are SAM's, where `data sam-labels` has drawn them."""

    name = "flickr30k"
    packs = False

    def __init__(self, root: str | Path, split: str = "train") -> None:
        """List the captions of a split; their boxes are read with each record.

        Raises:
            InputError: a folder or a list is missing, or the split unknown.
        """
        super().__init__(root)
        self._folder = self.root / "flickr30k"
        self.masks = SamMasks(self._folder)
        if split not in SPLITS:
            raise InputError(f"no split {split!r} of flickr30k; there are {', '.join(SPLITS)}")
        listed = self._folder / f"{split}.txt"
        for needed in (listed, self._folder / "Sentences", self._folder / "Annotations"):
            if not needed.exists():
                raise InputError(f"no {needed}: python -m pgpt_lib data flickr30k --root {self.root}")
        self._records: list[tuple[str, int, str]] = []
        self._boxes = lru_cache(maxsize=256)(read_boxes)  # the five captions of a picture share its file
        for picture in listed.read_text(encoding="utf-8").split():
            path = self._folder / "Sentences" / f"{picture}.txt"
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
            except OSError as error:
                raise InputError(f"cannot read {path}: {error.strerror}") from None
            self._records += [(picture, n, line) for n, line in enumerate(lines) if _PHRASE.search(line)]

    def __len__(self) -> int:
        return len(self._records)

    def record_id(self, index: int) -> str:
        return f"{self._records[index][0]}-{self._records[index][1]}"

    def image_key(self, index: int) -> str:
        return f"flickr30k/{self._records[index][0]}"

    def aliases(self, index: int) -> tuple[str, ...]:
        picture = self._records[index][0]
        return f"flickr30k/{picture}", f"flickr/{picture}"  # files are named after Flickr's own number

    def size(self, index: int) -> tuple[int, int]:
        return self._entities(index).size

    def task(self, index: int) -> str:
        return "spot_caption"

    def boxes(self, index: int) -> list[Box]:
        """Every box of the record's picture, for `sam_labels`."""
        return sorted({box for drawn in self._entities(index).boxes.values() for box in drawn})

    def turns(self, index: int, ask: Ask) -> tuple[Turn, ...]:
        size, boxes = self._entities(index)
        text, phrases = parse_caption(self._records[index][2], boxes)
        masks = self.masks.of(self.image_key(index)) if self.masks else {}
        regions: list[Region] = []
        for _, drawn in phrases:
            made = [Region.from_coco(box, masks.get(box_name(box)), *size) for box in drawn]
            regions += left_to_right(made)
        task = "spot_caption" if phrases else "caption"
        return Turn("user", ask(task)), Turn("assistant", text, tuple(regions))

    def extra(self, index: int) -> dict[str, Any]:
        phrases = parse_caption(self._records[index][2], self._entities(index).boxes)[1]
        return {"phrases": [phrase for phrase, drawn in phrases for _ in drawn]}

    def _entities(self, index: int) -> Entities:
        return self._boxes(self._folder / "Annotations" / f"{self._records[index][0]}.xml")
