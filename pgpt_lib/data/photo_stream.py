"""Photographs in the REFER layout as training data, and which of them are held out.

A folder with a train split is trained on that split. One that holds only val and test expressions, as small collections
do, is divided by photograph with a fixed seed; such a split is our own, and whatever is reported of it says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from random import Random

import numpy as np

from ..config import Profile
from ..errors import InputError
from .photos import materialise
from .phrasings import held_out_phrasing, training_phrasings
from .refcoco import SPLIT_BY, RefCOCO
from .refshapes.scene import stream as random_stream
from .sample import Sample

HELD_OUT = 4  # one photograph in so many is held out where there is no train split
SPLIT_SEED = 0  # of that division: fixed, so that every run holds out the same photographs


class Photos:
    """The expressions of a folder, divided into those to train on and those never seen.

    Attributes:
        train, unseen: samples, one a sentence, in the phrasing that evaluation uses.
        own_split: whether the division is our own, as that of the bundled photographs always is.
    """

    def __init__(self, root: Path) -> None:
        """Read every data set that the folder holds.

        Raises:
            InputError: the folder holds none, or too few photographs to hold one out.
        """
        self.root = root
        datasets = [name for name in SPLIT_BY if (root / name).is_dir()]
        if not datasets:
            raise InputError(f"{root} holds none of {', '.join(SPLIT_BY)}; --root names a folder in the REFER layout")
        self._readers = {name: RefCOCO(root, name, None) for name in datasets}
        asked = held_out_phrasing("rec")
        every = [_ask(s, s.turns[0].text, asked) for r in self._readers.values() for s in r.samples("{sentence}")]
        named = {sample.sample_id.split("/")[1] for sample in every}
        self.own_split = "train" not in named
        if self.own_split:
            held_out = hold_out(sorted({sample.image_id for sample in every}))
            self.train = [s for s in every if s.image_id not in held_out]
            self.unseen = [s for s in every if s.image_id in held_out]
        else:
            self.train = [s for s in every if s.sample_id.split("/")[1] == "train"]
            seen = {s.image_id for s in self.train}
            self.unseen = [s for s in every if s.image_id not in seen]
        if not self.train or not self.unseen:
            raise InputError(f"{root} has too few photographs to train on some and hold out others")

    def load_image(self, image_id: str) -> np.ndarray:
        """The photograph, uint8, (height, width, 3), RGB."""
        for reader in self._readers.values():
            if image_id in reader.sizes:
                return reader.load_image(image_id)
        raise InputError(f"no image {image_id!r} in {self.root}")


def hold_out(image_ids: Sequence[str]) -> set[str]:
    """One photograph in four, chosen by a fixed seed."""
    order = list(image_ids)
    random_stream("hold out", SPLIT_SEED).shuffle(order)
    return set(order[: max(1, len(order) // HELD_OUT)])


@lru_cache(maxsize=4)
def open_photos(root: str | None) -> Photos:
    """The photographs of a folder; without one, the bundled few."""
    photos = Photos(Path(root) if root else materialise())
    photos.own_split |= root is None
    return photos


class PhotoStream:
    """Training dialogues about photographs: every expression once an epoch, in a phrasing drawn anew.

    Up to `profile.data.turns` expressions of a photograph are packed in one dialogue, in another order and company each
    epoch, since the photograph is most of a sequence.
    """

    def __init__(self, profile: Profile, seed: int) -> None:
        self.images = open_photos(profile.data.root)
        self.seed = seed
        of_image: dict[str, list[Sample]] = {}
        for sample in self.images.train:
            of_image.setdefault(sample.image_id, []).append(sample)
        self._groups = [(members, -(-len(members) // profile.data.turns)) for members in of_image.values()]
        self.epoch_length = sum(dialogues for _, dialogues in self._groups)

    def image_ids(self) -> list[str]:
        """Every image that `batch` can ask for."""
        return sorted({sample.image_id for sample in self.images.train})

    def batch(self, step: int, size: int) -> list[Sample]:
        """The dialogues of one step: a pure function of the step. Epochs follow each other without a gap."""
        epochs: dict[int, list[Sample]] = {}
        places = [divmod(step * size + row, self.epoch_length) for row in range(size)]
        return [epochs.setdefault(epoch, self._epoch(epoch))[place] for epoch, place in places]

    def _epoch(self, epoch: int) -> list[Sample]:
        """All dialogues of an epoch, in its order."""
        rng = random_stream("photographs", self.seed, epoch)
        packed: list[Sample] = []
        for members, dialogues in self._groups:
            order = list(members)
            rng.shuffle(order)
            packed += [self._dialogue(order[part::dialogues], epoch, rng) for part in range(dialogues)]
        rng.shuffle(packed)
        return packed

    def _dialogue(self, members: Sequence[Sample], epoch: int, rng: Random) -> Sample:
        """Questions about one photograph, one after the other."""
        asked = [_ask(s, s.extra["expression"], rng.choice(training_phrasings("rec"))) for s in members]
        turns = tuple(turn for sample in asked for turn in sample.turns)
        return replace(members[0], sample_id=f"{members[0].sample_id}-{epoch}", turns=turns, task="dialogue")


def _ask(sample: Sample, expression: str, phrasing: str) -> Sample:
    """The sample with its expression in a phrasing, which brings the article along."""
    user = replace(sample.turns[0], text=phrasing.replace("{x}", expression.removeprefix("the ")))
    return replace(sample, turns=(user, *sample.turns[1:]), extra={**sample.extra, "expression": expression})
