"""The interface between regions and tokens, shared by training, decoding and evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from ..config import Coordinates
from ..regions import Region

PHRASE_START, PHRASE_END = "<p>", "</p>"  # around the words that the next region belongs to


class Representation(ABC):
    """Writes regions into text and reads them from an answer.

    Args:
        coordinates: how regions are written as text; of no effect where `dynamic`.
        side: of the model's square input in pixels; by default that of each image's longer side.

    Attributes:
        name: what profiles call it.
        tokens: the tokens that are added to the base vocabulary at tuning time, phrase marks included.
        dynamic: whether a written region is one slot whose embedding the perception signals compute (and whose
            state they decode), instead of plain text.
    """

    name: str
    tokens: tuple[str, ...] = (PHRASE_START, PHRASE_END)
    dynamic: bool = False

    def __init__(self, coordinates: Coordinates | None = None, side: int | None = None) -> None:
        self.coordinates, self.side = coordinates or Coordinates(), side

    @property
    def region_tokens(self) -> int:
        """The most tokens that one region takes, where each digit and sign is a token."""
        return 1

    @abstractmethod
    def write(self, region: Region, size: tuple[int, int]) -> str:
        """The text that stands for `region`.

        Args:
            region: in the frame of the original image.
            size: (height, width) of the original image, for representations in the model's square frame.
        """

    @abstractmethod
    def read(self, text: str, decoded: Sequence[Region], size: tuple[int, int]) -> list[Region]:
        """The regions of an answer, in their order of appearance and in the frame of the original image.

        Args:
            text: the answer as `Chat.decode` gives it.
            decoded: what the perception signals decoded, one for each dynamic slot (empty if not `dynamic`).
            size: (height, width) of the original image.
        """

    def mark(self, text: str) -> tuple[str, int]:
        """An answer with `<vis>` in place of each region that `read` finds, and how many it could not read.

        Whatever the representation, what comes after (scores, views) then meets the same text.
        """
        return text, 0

    def place_codes(self) -> np.ndarray | None:
        """Where each of `tokens` lies in the picture, as smooth functions of the place; new rows start with them.

        Returns:
            [tokens, K], zeros for tokens that lie nowhere, mean squared length 1 over the others; None where no token
            stands for a place.
        """
        return None
