"""How regions enter the language model and where they leave it: as in the paper, or as in what it is measured against.

A model takes one `RegionInput` and one `Readout` when it is built, so that its own code knows the default alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from .batch import INPUT_SIGNALS, Batch
from .regions import Region, mask_bounds, rle_to_mask

if TYPE_CHECKING:
    from .config import Released
    from .signals import Signal


class RegionInput:
    """A region is read as all that it has: box code plus mask code (section 3.1)."""

    signals: tuple[str, ...] = INPUT_SIGNALS

    def prepare(self, batch: Batch, signals: Mapping[str, Signal]) -> Batch:
        """The batch with what the model reads of its regions; what it is to decode stays as it is."""
        return batch


class BoxInput(RegionInput):
    """A region is read as its box alone, or its mask's where it has no other: `released.mask_encoder_unused`."""

    signals = ("box",)

    def prepare(self, batch: Batch, signals: Mapping[str, Signal]) -> Batch:
        values, seen = signals["box"].collate([_bounded(region) for region in batch.regions], batch.placements)
        targets = {**batch.targets, "box": (values, batch.targets["box"][1])}
        return replace(batch, targets=targets, visible={"box": seen})


class Readout:
    """A region is decoded from the state that predicts its `<vis>`, and is read at that `<vis>` in the next step."""

    feeds_back = True

    def fed(self, batch: Batch) -> slice | Tensor:
        """Which of the batch's `<vis>` are read as their regions; the others are read as the token."""
        return slice(None)

    def states(self, predicting: Tensor, hidden: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
        """What the answers' regions are decoded from, [R, H].

        Args:
            predicting: [R, H], the states that predict the answers' `<vis>`.
            hidden: [B, T, H], all of them.
            rows, positions: [R], where the `<vis>` are.
        """
        return predicting


class OwnState(Readout):
    """A region is decoded from the state at its `<vis>`, which is read as a token: `released.state_at_vis`.

    The true region read there would be copied, not found, so an answer's regions are not read at all.
    """

    feeds_back = False

    def fed(self, batch: Batch) -> slice | Tensor:
        return ~batch.vis_is_answer

    def states(self, predicting: Tensor, hidden: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
        return hidden[rows, positions].float()


def region_input(released: Released) -> RegionInput:
    """The profile's way in."""
    return BoxInput() if released.mask_encoder_unused else RegionInput()


def readout(released: Released) -> Readout:
    """The profile's way out."""
    return OwnState() if released.state_at_vis else Readout()


def _bounded(region: Region) -> Region:
    """A region that has a mask alone, as the mask's bounds in [0, 1] of the image."""
    bounds = mask_bounds(rle_to_mask(region.mask)) if region.box is None and region.mask else None
    if bounds is None or region.mask is None:
        return region
    height, width = region.mask["size"]
    x1, y1, x2, y2 = bounds
    return Region((x1 / width, y1 / height, x2 / width, y2 / height))
