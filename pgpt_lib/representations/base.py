"""The interface between regions and tokens, shared by training, decoding and evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ..regions import Region

PHRASE_START, PHRASE_END = "<p>", "</p>"  # around the words that the next region belongs to


class Representation(ABC):
    """Writes regions into text and reads them from an answer.

    Class attributes:
        name: what profiles call it.
        tokens: the tokens that are added to the base vocabulary at tuning time, phrase marks included.
        dynamic: whether a written region is one slot whose embedding the perception signals compute (and whose
            state they decode), instead of plain text.
    """

    name: str
    tokens: tuple[str, ...] = (PHRASE_START, PHRASE_END)
    dynamic: bool = False

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
