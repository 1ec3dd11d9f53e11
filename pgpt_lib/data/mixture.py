"""A mixture of sources as training data (paper, section 4.1): each source's share of the dialogues, exactly.

Dialogues come in blocks of `BLOCK`, in which every source has its share to within one; a source runs through all of its
pictures before it repeats one. A step's batch is a function of the step alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..config import Profile
from ..errors import InputError
from .leakage import Removed, guard, lines, protected_pictures
from .pictures import Pictures
from .reader import Reader, drawn
from .refshapes.scene import stream as random_stream
from .sample import Sample, Turn
from .sources import open_source

BLOCK = 1000  # dialogues in which the shares hold
LOOKED_AT = 100  # pictures of each source whose files must be there at the start


class Source:
    """One source of a mixture: its records that may be trained on, packed by picture into dialogues.

    Attributes:
        dialogues: in one pass over the source.
        removed: what the leakage guard took.
    """

    def __init__(self, reader: Reader, protected: frozenset[str], turns: int, seed: int) -> None:
        self.reader, self.seed = reader, seed
        kept, self.removed = guard(reader, protected)
        if not len(kept):
            raise InputError(f"source {reader.name}: no record is left of {self.removed.records} to train on")
        groups: dict[str, list[int]] = {}
        for index in kept.tolist():
            groups.setdefault(reader.pack_key(index), []).append(index)
        self._groups = list(groups.values())
        limit = turns if reader.packs else 1
        parts = np.array([-(-len(group) // limit) for group in self._groups])
        self._owner = np.repeat(np.arange(len(parts)), parts)  # dialogue to group
        self._part = np.concatenate([np.arange(n) for n in parts])
        self._parts = parts
        self.dialogues = int(parts.sum())
        self.image_keys = sorted({reader.image_key(group[0]) for group in self._groups})
        for key in self.image_keys[:: max(1, len(self.image_keys) // LOOKED_AT)]:
            reader.pictures.path(key)  # a folder that was not laid out is named now, not hours later
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def dialogue(self, number: int) -> Sample:
        """The dialogue that the source gives when it is asked for the `number`-th time."""
        epoch, place = divmod(number, self.dialogues)
        which = int(self._order(epoch)[place])
        owner, part = int(self._owner[which]), int(self._part[which])
        members = list(self._groups[owner])
        random_stream("pack", self.reader.name, self.seed, epoch, owner).shuffle(members)
        ask = drawn(random_stream("ask", self.reader.name, self.seed, epoch, which))
        made = [self.reader.sample(index, ask) for index in members[part :: int(self._parts[owner])]]
        turns: tuple[Turn, ...] = tuple(turn for sample in made for turn in sample.turns)
        first = made[0]
        return Sample(f"{first.sample_id}-{epoch}", first.image_id, first.size, turns, "dialogue")

    def _shuffled(self, epoch: int) -> np.ndarray:
        order = list(range(self.dialogues))
        random_stream("mixture order", self.reader.name, self.seed, epoch).shuffle(order)
        return np.array(order, dtype=np.int64)


class MixtureStream:
    """Dialogues of several sources by their shares.

    Attributes:
        removed: what the leakage guard took, by source; it is also printed on standard error.
        epoch_length: dialogues in which every source's share comes to all it has; most give some of it twice by then.
        counts: each source's dialogues in a block of `BLOCK`.
    """

    def __init__(self, root: str | Path, sources: Mapping[str, float], seed: int, turns: int = 6) -> None:
        """Read all sources.

        Args:
            root: the folder that holds `images` and a folder for each data set.
            sources: names (`sources.SOURCES`) to shares of any positive sum.
            seed: of orders, packing and phrasings.
            turns: at most so many records of a picture in a dialogue.

        Raises:
            InputError: an unknown source, a share too small to count, a missing or damaged file, or no pictures.
        """
        self.images, self.seed = Pictures(root), seed
        self.counts = shares(sources)
        protected = protected_pictures(Path(root))
        self.sources = {name: Source(open_source(name, root), protected, turns, seed) for name in sources}
        self.epoch_length = max(-(-s.dialogues * BLOCK // self.counts[name]) for name, s in self.sources.items())
        self.removed: dict[str, Removed] = {name: source.removed for name, source in self.sources.items()}
        if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
            print(*lines(self.removed), sep="\n", file=sys.stderr, flush=True)
        self._block = lru_cache(maxsize=4)(self._drawn_block)

    def image_ids(self) -> Sequence[str]:
        """Every picture that `batch` can ask for."""
        return sorted({key for source in self.sources.values() for key in source.image_keys})

    def batch(self, step: int, size: int) -> list[Sample]:
        """The dialogues of one step: a pure function of the step."""
        return [self._at(step * size + row) for row in range(size)]

    def _at(self, position: int) -> Sample:
        block, place = divmod(position, BLOCK)
        name, number = self._block(block)[place]
        return self.sources[name].dialogue(block * self.counts[name] + number)

    def _drawn_block(self, block: int) -> list[tuple[str, int]]:
        """Which source gives each dialogue of a block, and its how-manieth in the block that is."""
        order = [name for name, count in self.counts.items() for _ in range(count)]
        random_stream("mixture block", self.seed, block).shuffle(order)
        seen: dict[str, int] = {}
        placed = []
        for name in order:
            placed.append((name, seen.get(name, 0)))
            seen[name] = seen.get(name, 0) + 1
        return placed


def shares(sources: Mapping[str, float]) -> dict[str, int]:
    """Dialogues of each source in a block of `BLOCK`, by largest remainders.

    Raises:
        InputError: no source, a share that is not positive, or one so small that a block would hold none of it.
    """
    if not sources:
        raise InputError("data.sources is empty; it maps sources to shares, as {refcoco: 1, llava: 2}")
    bad = [name for name, share in sources.items() if not share > 0]
    if bad:
        raise InputError(f"data.sources: {bad[0]} = {sources[bad[0]]}; a share is above 0")
    total = sum(sources.values())
    exact = {name: BLOCK * share / total for name, share in sources.items()}
    counts = {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda n: counts[n] - exact[n])[: BLOCK - sum(counts.values())]:
        counts[name] += 1
    if 0 in counts.values():
        name = min(counts, key=lambda n: counts[n])
        raise InputError(f"data.sources: {name} = {sources[name]} is less than 1 in {2 * BLOCK} of the mixture")
    return counts


def open_mixture(profile: Profile, seed: int) -> MixtureStream:
    """The mixture that a profile names.

    Raises:
        InputError: the profile has no `data.root`, or as of `MixtureStream`.
    """
    if profile.data.root is None:
        raise InputError(
            f"profile {profile.name} trains on {', '.join(profile.data.sources)}: give their folder, --root"
        )
    return MixtureStream(profile.data.root, profile.data.sources, seed, profile.data.turns)
