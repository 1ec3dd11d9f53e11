"""What the readers of the big data sets have in common: records that become dialogues only when they are asked for.

Visual Genome alone has 5.4 million regions, so that samples cannot all be kept in memory. A reader keeps what its files
say in plain lists; a `Sample` is made of one record, in a phrasing that the caller chooses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from ..errors import InputError
from ..regions import Region
from .phrasings import held_out_phrasing, training_phrasings
from .pictures import Pictures
from .sample import NO_REGION, VIS, Sample, Turn

Ask = Callable[[str], str]  # a task's name to a phrasing


class Reader(ABC):
    """One data set, or one split of it, under a root.

    Attributes:
        name: as profiles write it.
        packs: whether several records of a picture may share a dialogue.
    """

    name: str
    packs: bool = True

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.pictures = Pictures(self.root)

    @abstractmethod
    def __len__(self) -> int:
        """Records."""

    @abstractmethod
    def image_key(self, index: int) -> str:
        """The key in `Pictures` of a record's picture."""

    @abstractmethod
    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of a record's picture in pixels."""

    @abstractmethod
    def turns(self, index: int, ask: Ask) -> tuple[Turn, ...]:
        """A record's dialogue: the user's turn, the assistant's, and so on."""

    @abstractmethod
    def task(self, index: int) -> str:
        """A record's task, by which evaluations go."""

    def record_id(self, index: int) -> str:
        """A record's own number or name in its data set."""
        return str(index)

    def pack_key(self, index: int) -> str:
        """Records of one key may share a dialogue; they are of one picture."""
        return self.image_key(index)

    def extra(self, index: int) -> dict[str, Any]:
        """What scores and results need to know beside the dialogue."""
        return {}

    def aliases(self, index: int) -> tuple[str, ...]:
        """Every name of a record's picture that is known, so that one of a test split is found under any of them."""
        return (self.image_key(index),)

    def sample(self, index: int, ask: Ask = held_out_phrasing) -> Sample:
        """One record as a sample.

        Args:
            index: of the record.
            ask: gives the phrasing of a task; by default the one that no training uses.

        Raises:
            InputError: the record cannot be read; the message names it.
        """
        sample_id = f"{self.name}/{self.record_id(index)}"
        try:
            turns, size = self.turns(index, ask), self.size(index)
        except InputError as error:
            raise InputError(f"{sample_id}: {error}") from None
        return Sample(sample_id, self.image_key(index), size, turns, self.task(index), self.extra(index))

    def samples(self, ask: Ask = held_out_phrasing) -> list[Sample]:
        """Every record as a sample: for evaluation and for small data sets."""
        return [self.sample(index, ask) for index in range(len(self))]


def drawn(rng: Random) -> Ask:
    """Phrasings for training, drawn anew for every question."""
    return lambda task: rng.choice(training_phrasings(task))


def answer(regions: Sequence[Region]) -> Turn:
    """The assistant's regions, one `<vis>` each; "none" where there are none."""
    return Turn("assistant", " ".join([VIS] * len(regions)) or NO_REGION, tuple(regions))


def left_to_right(regions: Sequence[Region]) -> tuple[Region, ...]:
    """Regions in the order of their boxes' centres, from left to right, so that a set has one order."""
    return tuple(sorted(regions, key=lambda r: (r.box[0] + r.box[2], r.box[1] + r.box[3]) if r.box else (0.0, 0.0)))
