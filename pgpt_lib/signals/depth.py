"""Depth through `<vis>`: the third signal, and the pattern for a fourth.

The paper's introduction says that other perception tasks, depth among them, are easily added; this file adds it. An
object's depth is one number: its place in the order from the viewer, 0 the nearest object, 1 the farthest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..losses import l1_loss
from ..regions import Placement, Region
from .base import MLP, Signal


class DepthSignal(Signal):
    """An object's depth. Values and predictions are [R, 1] in [0, 1]; the loss is their mean absolute difference."""

    name = "depth"
    loss_names = ("depth",)

    def __init__(self, hidden_size: int, feature_size: int, grid: int, width: int | None = None) -> None:
        super().__init__(hidden_size, feature_size, grid)
        width = width or max(hidden_size, 64)
        self.encoder = MLP(1, width, hidden_size)
        self.decoder = MLP(hidden_size, width, 1)

    def collate(self, regions: Sequence[Region], placements: Sequence[Placement]) -> tuple[Tensor, Tensor]:
        present = torch.tensor([region.depth is not None for region in regions], dtype=torch.bool)
        values = torch.tensor([region.depth or 0.0 for region in regions], dtype=torch.float32)
        return values[:, None], present

    def encode(self, values: Tensor) -> Tensor:
        return self.encoder(values)

    def decode(self, state: Tensor, features: Tensor, image_index: Tensor | None = None) -> Tensor:
        return self.decoder(state).sigmoid()

    def loss_terms(self, prediction: Tensor, values: Tensor) -> dict[str, Tensor]:
        return {"depth": l1_loss(prediction, values)}

    def restore(self, prediction: Tensor, placement: Placement, threshold: float = 0.5) -> dict[str, Any]:
        return {"depth": float(prediction.detach())}
