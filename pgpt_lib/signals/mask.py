"""Masks through `<vis>`: a small ResNet in, a two-layer two-way transformer out (paper, section 3.1), BCE and DICE.

The embedding says *which* object; the decoder reads its outline from the visual features, so a mask costs one token.
The decoder is shaped like SAM's (Kirillov et al. 2023) at a tenth of its size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..losses import bce_loss, dice_loss, pooled_dice_loss
from ..regions import Placement, Region
from .base import Signal
from .mask_heads import DotProductDecoder, MaskDecoder


class MaskSignal(Signal):
    """A mask. Values are [R, s, s], the share of each cell that it covers; predictions are logits [R, s, s].

    s = 4 x grid: a mask is judged, fed back and encoded at the decoder's own resolution, and interpolated to the
    image's only when it is restored. A border is finer than a cell, for the coverage of a cell says where it runs: at
    s = 32, the coverage of an object in a 112-pixel image restores it with an IoU of 0.94 on average.

    Args:
        head: what decodes; see `mask_heads.py`.
        scrambled: confuse the axes of the two-way decoder's position codes; see `scrambled_position_code`.
        pooled: take `pooled_dice_loss` in place of DICE.
    """

    name = "mask"
    loss_names = ("bce", "dice")
    uses_features = True

    def __init__(
        self,
        hidden_size: int,
        feature_size: int,
        grid: int,
        width: int = 128,
        num_queries: int = 4,
        head: Literal["two_way", "dot_product"] = "two_way",
        scrambled: bool = False,
        pooled: bool = False,
    ) -> None:
        super().__init__(hidden_size, feature_size, grid)
        self.side = 4 * grid
        self.dice = pooled_dice_loss if pooled else dice_loss
        self.encoder = MaskEncoder(hidden_size, self.side)
        self.decoder: nn.Module
        if head == "two_way":
            self.decoder = MaskDecoder(hidden_size, feature_size, grid, width, num_queries, scrambled=scrambled)
        else:
            self.decoder = DotProductDecoder(hidden_size, feature_size, grid, width)

    def collate(self, regions: Sequence[Region], placements: Sequence[Placement]) -> tuple[Tensor, Tensor]:
        present = torch.tensor([region.mask is not None for region in regions], dtype=torch.bool)
        values = np.zeros((len(regions), self.side, self.side), np.float32)
        for row, (region, placement) in enumerate(zip(regions, placements, strict=True)):
            if region.mask is not None:
                values[row] = _coverage(placement, *region.mask["size"], region.mask["counts"], self.side)
        return torch.from_numpy(values), present

    def encode(self, values: Tensor) -> Tensor:
        return self.encoder(values)

    def decode(self, state: Tensor, features: Tensor, image_index: Tensor | None = None) -> Tensor:
        return self.decoder(state, features, image_index)

    def to_values(self, prediction: Tensor) -> Tensor:
        return prediction.float().sigmoid()

    def loss_terms(self, prediction: Tensor, values: Tensor) -> dict[str, Tensor]:
        return {"bce": bce_loss(prediction, values), "dice": self.dice(prediction, values)}

    def restore(self, prediction: Tensor, placement: Placement, threshold: float = 0.5) -> dict[str, Any]:
        # Probabilities, not logits, are interpolated: they estimate coverage, which grows evenly across a border.
        probability = prediction.detach().float().sigmoid().cpu().numpy()
        return {"mask": placement.mask_from_input(probability, threshold)}


class MaskEncoder(nn.Module):
    """Coverage [R, s, s] to embeddings [R, H]: a ResNet of three stages, then a linear layer.

    The last map is flattened, not pooled: where the mask lies is half of what it says. Group norm, not batch norm: a
    region's code must not depend on what else is in the batch.
    """

    def __init__(self, hidden_size: int, side: int, widths: tuple[int, int, int] = (16, 32, 64)) -> None:
        super().__init__()
        stem = nn.Conv2d(1, widths[0], 3, stride=2, padding=1, bias=False)
        self.stem = nn.Sequential(stem, nn.GroupNorm(4, widths[0]), nn.ReLU())
        self.stages = nn.Sequential(ResidualBlock(widths[0], widths[1]), ResidualBlock(widths[1], widths[2]))
        self.out = nn.Linear(widths[2] * math.ceil(side / 8) ** 2, hidden_size)

    def forward(self, values: Tensor) -> Tensor:
        return self.out(self.stages(self.stem(values[:, None])).flatten(1))


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut (He et al. 2016): [R, C, s, s] to [R, D, s/2, s/2]."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(size_in, size_out, 3, stride=2, padding=1, bias=False),
            nn.GroupNorm(4, size_out),
            nn.ReLU(),
            nn.Conv2d(size_out, size_out, 3, padding=1, bias=False),
            nn.GroupNorm(4, size_out),
        )
        self.shortcut = nn.Conv2d(size_in, size_out, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


@lru_cache(maxsize=50_000)
def _coverage(placement: Placement, height: int, width: int, counts: str, side: int) -> np.ndarray:
    """A mask's coverage of the model's input, remembered: training meets the same masks again. 4 KB each at side 32."""
    return placement.mask_to_input({"size": [height, width], "counts": counts}, side)
