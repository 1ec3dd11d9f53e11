"""What a region loses on the way into its representation and back: the error column of the paper's Table 4, measured.

Text loses by rounding, by bins and by the vertices of a contour. An embedding loses what its networks have not learnt:
no error of quantisation, but one of training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..regions import Placement, Region, mask_iou, pairwise_iou
from ..representations import Representation
from ..signals import Signal

Draw = Callable[[], tuple[Tensor, Tensor | None, Tensor | None]]  # values, features, image_index
ROWS = 64  # regions that go through a head at a time


def through_text(writer: Representation, regions: Sequence[Region], size: tuple[int, int]) -> list[Region]:
    """Each region written and read back, in the frame of its image of (height, width).

    Raises:
        InputError: a region that cannot be written.
    """
    return [writer.read(writer.write(region, size), (), size)[0] for region in regions]


def fit_head(signal: Signal, draw: Draw, steps: int, rate: float = 2e-3, decoder: bool = True) -> Signal:
    """Train a signal as an autoencoder: values through the encoder and the decoder, with the signal's own losses.

    Args:
        signal: changed in place, and returned in evaluation mode.
        draw: a batch: values [R, ...], and for decoders that look at the image its features and `image_index`.
        steps: of AdamW, with one cycle of the rate.
        rate: the highest.
        decoder: train the decoder too. Without it the encoder alone learns to write what a given decoder reads.
    """
    part = signal if decoder else signal.get_submodule("encoder")
    parameters = [p.requires_grad_() for p in part.parameters()]
    optimiser = torch.optim.AdamW(parameters)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps)
    signal.train()
    for _ in range(steps):
        values, features, index = draw()
        prediction = signal.decode(signal.encode(values), features, index)  # type: ignore[arg-type]
        loss = torch.stack(list(signal.loss_terms(prediction, values).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return signal.eval()


@torch.no_grad()
def through_head(
    signal: Signal,
    regions: Sequence[Region],
    placement: Placement,
    features: Tensor | None = None,
    image_index: Tensor | None = None,
) -> list[Region]:
    """Each region encoded into one embedding and decoded again.

    Args:
        placement: of all the images, which are of one size.
        features: [I, N, C] of the images; None for signals that do not look at them.
        image_index: [R], each region's image.
    """
    values, present = signal.collate(regions, [placement] * len(regions))
    if not present.all():
        raise InputError(f"{int((~present).sum())} of {len(regions)} regions have no {signal.name}")
    found = []
    for start in range(0, len(values), ROWS):
        rows = slice(start, start + ROWS)
        index = None if image_index is None else image_index[rows]
        decoded = signal.decode(signal.encode(values[rows]), features, index)  # type: ignore[arg-type]
        found += [Region(**{"box": None, **signal.restore(row, placement)}) for row in decoded]
    return found


def region_ious(regions: Sequence[Region], back: Sequence[Region], kind: str) -> np.ndarray:
    """IoU of each region with what came back, [R]; 0 where nothing did.

    Args:
        kind: `box` or `mask`.
    """
    if kind == "mask":
        pairs = zip(regions, back, strict=True)
        return np.array([mask_iou(a.mask, b.mask) if a.mask and b.mask else 0.0 for a, b in pairs])
    none = (0.0, 0.0, 0.0, 0.0)
    boxes = [torch.tensor([r.box or none for r in side], dtype=torch.float64) for side in (regions, back)]
    return pairwise_iou(*boxes).numpy()


def side_errors(regions: Sequence[Region], back: Sequence[Region]) -> np.ndarray:
    """The largest error of a box's four coordinates, [R], in [0, 1] of the image."""
    corners = [np.array([r.box for r in side], np.float64) for side in (regions, back)]
    return np.abs(corners[0] - corners[1]).max(1)


def region_sides(regions: Sequence[Region]) -> np.ndarray:
    """The square root of each box's area, [R], as a share of the image's side: RefCOCO's medians are about 0.37."""
    x1, y1, x2, y2 = np.array([r.box for r in regions], np.float64).T
    return np.sqrt((x2 - x1) * (y2 - y1))
