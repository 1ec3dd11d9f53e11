"""RefCOCO, RefCOCO+ and RefCOCOg as a source of a mixture: `refcoco.RefCOCO` behind the readers' common face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .phrasings import asked
from .pictures import coco_key
from .reader import Ask, Reader, answer
from .refcoco import RefCOCO
from .sample import Turn


class Refer(Reader):
    """One record a sentence: find the object."""

    def __init__(self, root: str | Path, split: str = "train", dataset: str = "refcoco") -> None:
        """Read a split; arguments and errors as of `RefCOCO`."""
        super().__init__(root)
        self.name = dataset
        self.data = RefCOCO(root, dataset, split)
        self._records = [(ref, sentence) for ref in self.data.refs for sentence in ref.sentences]

    def __len__(self) -> int:
        return len(self._records)

    def record_id(self, index: int) -> str:
        ref, sentence = self._records[index]
        return f"{ref.split}/{sentence.sent_id}"

    def image_key(self, index: int) -> str:
        return coco_key(self._records[index][0].image_id)

    def size(self, index: int) -> tuple[int, int]:
        return self.data.sizes[self._records[index][0].image_id]

    def task(self, index: int) -> str:
        return "rec"

    def extra(self, index: int) -> dict[str, Any]:
        ref, sentence = self._records[index]
        return {"sent_id": sentence.sent_id, "ref_id": ref.ref_id, "ann_id": ref.ann_id}

    def turns(self, index: int, ask: Ask) -> tuple[Turn, ...]:
        ref, sentence = self._records[index]
        return Turn("user", asked(ask("rec"), sentence.text)), answer([self.data.region(ref.ann_id)])
