"""Boxes through `<vis>`: three-layer MLPs both ways (paper, section 3.1), L1 and GIoU losses (section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..losses import giou_loss, l1_loss, misparsed_giou_loss
from ..regions import Placement, Region, box_cxcywh_to_xyxy, box_xyxy_to_cxcywh
from .base import MLP, Signal

SPREAD = 4  # by how much the encoder's first layer is larger than by default: boxes differ by hundredths of a picture
FIRST_BOX = (0.5, 0.5, 0.4, 0.4)  # what an untrained decoder says: centred, of the size of a median RefCOCO object


class BoxSignal(Signal):
    """A box. Values and predictions are [R, 4]: (centre x, centre y, width, height) in [0, 1] of the model's input.

    The decoder ends in a sigmoid, so a predicted box is always a box: no inverted corners, no assertion in GIoU.

    Args:
        misparsed: take `misparsed_giou_loss` in place of GIoU.
    """

    name = "box"
    loss_names = ("l1", "giou")

    def __init__(
        self, hidden_size: int, feature_size: int, grid: int, width: int | None = None, misparsed: bool = False
    ) -> None:
        super().__init__(hidden_size, feature_size, grid)
        self.giou = misparsed_giou_loss if misparsed else giou_loss
        width = width or max(hidden_size, 256)
        self.encoder = MLP(4, width, width, hidden_size)
        self.decoder = MLP(hidden_size, width, width, 4)
        first, last = self.encoder[0], self.decoder[-1]
        assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
        # Small but not zero: the first prediction lies near FIRST_BOX, and the gradient reaches the language model
        # at step 0, which a zero weight would forbid.
        nn.init.normal_(last.weight, std=0.1 / width**0.5)
        with torch.no_grad():
            first.weight.mul_(SPREAD)
            first.bias.mul_(SPREAD)
            last.bias.copy_(torch.logit(torch.tensor(FIRST_BOX)))

    def collate(self, regions: Sequence[Region], placements: Sequence[Placement]) -> tuple[Tensor, Tensor]:
        present = torch.tensor([region.box is not None for region in regions], dtype=torch.bool)
        corners = torch.tensor(
            [
                (0.0, 0.0, 1.0, 1.0) if region.box is None else placement.box_to_input(region.box)
                for region, placement in zip(regions, placements, strict=True)
            ],
            dtype=torch.float64,
        )
        return box_xyxy_to_cxcywh(corners.reshape(-1, 4)).float(), present

    def encode(self, values: Tensor) -> Tensor:
        return self.encoder(values)

    def decode(self, state: Tensor, features: Tensor, image_index: Tensor | None = None) -> Tensor:
        return self.decoder(state).sigmoid()

    def loss_terms(self, prediction: Tensor, values: Tensor) -> dict[str, Tensor]:
        return {"l1": l1_loss(prediction, values), "giou": self.giou(prediction, values)}

    def restore(self, prediction: Tensor, placement: Placement, threshold: float = 0.5) -> dict[str, Any]:
        corners = box_cxcywh_to_xyxy(prediction.detach().double().cpu().reshape(1, 4))[0].clamp(0.0, 1.0)
        return {"box": tuple(placement.box_from_input(tuple(corners.tolist())))}
