"""What every reader makes and every model takes: an image's dialogue, with regions in their places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from ..regions import Region

VIS = "<vis>"  # stands in a turn's text for its next region
NO_REGION = "none"  # the answer where an expression means nothing in the picture


@dataclass(frozen=True)
class Turn:
    """One speaker's words. Each `<vis>` in `text` is the place of the next of `regions`."""

    role: Literal["user", "assistant"]
    text: str
    regions: tuple[Region, ...] = ()

    def __post_init__(self) -> None:
        if self.text.count(VIS) != len(self.regions):
            raise ValueError(f"{self.text.count(VIS)} {VIS} in {self.text!r}, but {len(self.regions)} regions")


@dataclass(frozen=True)
class Sample:
    """A dialogue about one image.

    `sample_id` is unique within its data set and names the sample in errors; `image_id` is the key of
    `Dataset.load_image` and of the feature cache; `size` is (height, width) of the original image in pixels.
    """

    sample_id: str
    image_id: str
    size: tuple[int, int]
    turns: tuple[Turn, ...]
    task: str = ""
    extra: dict = field(default_factory=dict, compare=False)


class Images(Protocol):
    """Anything that hands out pictures by key."""

    def load_image(self, image_id: str) -> np.ndarray:
        """The picture, uint8, (height, width, 3), RGB."""
        ...


class Stream(Protocol):
    """Training data: a pure function of the step, so that resuming needs no state but (seed, epoch, step)."""

    @property
    def images(self) -> Images:
        """Where the samples' pictures come from."""
        ...

    @property
    def epoch_length(self) -> int:
        """Dialogues in an epoch, which gives all that there is; of several sources the smaller ones repeat theirs."""
        ...

    def image_ids(self) -> Sequence[str]:
        """Every image that `batch` can ask for, so that features can be cached beforehand."""
        ...

    def batch(self, step: int, size: int) -> list[Sample]:
        """The samples of one step; the same for the same step, whatever ran before."""
        ...
