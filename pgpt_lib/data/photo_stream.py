"""Photographs in the REFER layout as training data, and which of them are held out.

A folder with a train split is trained on that split, less the pictures that another of its sets holds out: RefCOCO,
RefCOCO+ and RefCOCOg divide the same photographs each in its own way. One that holds only val and test expressions,
as small collections do, is divided by photograph with a fixed seed; such a split is our own, and whatever is reported
of it says so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from random import Random

import numpy as np

from ..config import Profile
from ..errors import InputError
from .leakage import Removed, lines
from .photos import materialise
from .phrasings import asked, training_phrasings
from .refcoco import SPLIT_BY, RefCOCO
from .refshapes.scene import stream as random_stream
from .sample import Sample, Turn

HELD_OUT = 4  # one photograph in so many is held out where there is no train split
SPLIT_SEED = 0  # of that division: fixed, so that every run holds out the same photographs


class Photos:
    """The expressions of a folder, divided into those to train on and those never seen.

    Attributes:
        train, unseen: samples, one a sentence, in the phrasing that evaluation uses.
        own_split: whether the division is our own, as that of the bundled photographs always is.
        removed: what the leakage guard took from each set's train split, where there are several sets.
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
        of_set = {name: reader.samples() for name, reader in self._readers.items()}
        every = [sample for samples in of_set.values() for sample in samples]
        self.own_split = all(ref.split != "train" for reader in self._readers.values() for ref in reader.refs)
        self.removed: dict[str, Removed] = {}
        if self.own_split:
            held_out = hold_out(sorted({sample.image_id for sample in every}))
            self.train = [s for s in every if s.image_id not in held_out]
            self.unseen = [s for s in every if s.image_id in held_out]
        else:
            self.train = [sample for name, samples in of_set.items() for sample in self._guarded(name, samples)]
            seen = {s.image_id for s in self.train}
            self.unseen = [s for s in every if s.image_id not in seen and not _of_train(s)]
        if not self.train or not self.unseen:
            raise InputError(f"{root} has too few photographs to train on some and hold out others")

    def _guarded(self, name: str, samples: Sequence[Sample]) -> list[Sample]:
        """A set's train split without the pictures that another set holds out."""
        trained = [sample for sample in samples if _of_train(sample)]
        others = [reader for other, reader in self._readers.items() if other != name]
        held_out = {ref.image_id for reader in others for ref in reader.refs if ref.split != "train"}
        kept = [sample for sample in trained if sample.image_id not in held_out]
        if others and trained:
            pictures = held_out & {sample.image_id for sample in trained}
            self.removed[name] = Removed(len(trained), len(kept), len(pictures))
        return kept

    def load_image(self, image_id: str) -> np.ndarray:
        """The photograph, uint8, (height, width, 3), RGB."""
        for reader in self._readers.values():
            if image_id in reader.sizes:
                return reader.load_image(image_id)
        raise InputError(f"no image {image_id!r} in {self.root}")


def _of_train(sample: Sample) -> bool:
    return sample.sample_id.split("/")[1] == "train"


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
        if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
            for line in lines(self.images.removed):
                print(line, file=sys.stderr, flush=True)
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
        turns = tuple(turn for s in members for turn in _turns(s, rng.choice(training_phrasings("rec"))))
        return replace(members[0], sample_id=f"{members[0].sample_id}-{epoch}", turns=turns, task="dialogue")


def _turns(sample: Sample, phrasing: str) -> tuple[Turn, ...]:
    """The sample's turns, its expression in another phrasing."""
    return replace(sample.turns[0], text=asked(phrasing, sample.extra["expression"])), *sample.turns[1:]
