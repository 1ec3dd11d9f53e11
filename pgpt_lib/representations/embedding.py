"""The paper's own representation: one token, `<vis>`, whose embedding carries the whole region (section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

from ..data.sample import VIS
from ..regions import Region
from .base import PHRASE_END, PHRASE_START, Representation


class Embedding(Representation):
    """One `<vis>` a region; the signals encode it into, and decode it from, continuous vectors."""

    name = "embedding"
    tokens = (VIS, PHRASE_START, PHRASE_END)
    dynamic = True

    def write(self, region: Region, size: tuple[int, int]) -> str:
        return VIS

    def read(self, text: str, decoded: Sequence[Region], size: tuple[int, int]) -> list[Region]:
        return list(decoded)
