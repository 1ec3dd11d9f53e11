"""Masks through `<vis>`: a small ResNet in, a two-layer two-way transformer out (paper, section 3.1), BCE and DICE.

The embedding says *which* object; the decoder reads its outline from the visual features, so a mask costs one token.
The decoder is shaped like SAM's (Kirillov et al. 2023) at a tenth of its size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..losses import bce_loss, dice_loss
from ..regions import Placement, Region
from .base import Signal
from .two_way import TokensToImage, TwoWayBlock, position_code


class MaskSignal(Signal):
    """A mask. Values are [R, s, s], the share of each cell that it covers; predictions are logits [R, s, s].

    s = 4 x grid: a mask is judged, fed back and encoded at the decoder's own resolution, and interpolated to the
    image's only when it is restored. A border is finer than a cell, for the coverage of a cell says where it runs: at
    s = 32, the coverage of an object in a 112-pixel image restores it with an IoU of 0.94 on average.
    """

    name = "mask"
    loss_names = ("bce", "dice")
    uses_features = True

    def __init__(self, hidden_size: int, feature_size: int, grid: int, width: int = 128, num_queries: int = 4) -> None:
        super().__init__(hidden_size, feature_size, grid)
        self.side = 4 * grid
        self.encoder = MaskEncoder(hidden_size, self.side)
        self.decoder = MaskDecoder(hidden_size, feature_size, grid, width, num_queries)

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
        return {"bce": bce_loss(prediction, values), "dice": dice_loss(prediction, values)}

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


class MaskDecoder(nn.Module):
    """States and visual features to mask logits [R, 4g, 4g].

    The state becomes a few query tokens by one linear layer; two two-way blocks let them and the image exchange what
    they know; the image is magnified four times, and a filter made from the first query picks the object's pixels.

    Args:
        hidden_size: width H of the language model's state.
        feature_size: channels C of the fused visual features.
        grid: g, the visual tokens' side.
        width: D, the decoder's own width.
        num_queries: query tokens made from a state. One is not enough: attention from the image to a single query is a
            softmax over one key, the same for every cell, so the image could not learn where the object is.
    """

    def __init__(
        self,
        hidden_size: int,
        feature_size: int,
        grid: int,
        width: int,
        num_queries: int,
        num_heads: int = 4,
        num_blocks: int = 2,
    ) -> None:
        super().__init__()
        self.grid, self.num_queries, self.channels = grid, num_queries, width // 8
        wide = 2 * self.channels
        self.from_state = nn.Linear(hidden_size, num_queries * width)
        self.from_features = nn.Sequential(nn.Linear(feature_size, width), nn.LayerNorm(width))
        self.register_buffer("position", position_code(grid, width), persistent=False)
        self.blocks = nn.ModuleList(TwoWayBlock(width, num_heads) for _ in range(num_blocks))
        self.last_attention, self.last_norm = TokensToImage(width, num_heads), nn.LayerNorm(width)
        self.upsample = nn.Sequential(
            nn.Linear(width, 4 * wide),  # twice as high and wide: four cells from one
            nn.Unflatten(2, (4, wide)),
            nn.LayerNorm(wide),
            nn.GELU(),
            nn.Linear(wide, 4 * self.channels),  # and once more
            nn.GELU(),
        )
        self.filter = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, self.channels)
        )

    def forward(self, state: Tensor, features: Tensor, image_index: Tensor | None = None) -> Tensor:
        g, rows = self.grid, len(state)
        if features.shape[1] != g * g:
            raise InputError(f"{features.shape[1]} visual tokens in a mask decoder that was built for {g} x {g}")
        image = self.from_features(features.to(state.dtype))
        if image_index is not None:
            image = image.index_select(0, image_index)
        queries = self.from_state(state).unflatten(1, (self.num_queries, -1))
        position = self.position.to(image.dtype)
        for block in self.blocks:
            queries, image = block(queries, image, position)
        queries = self.last_norm(queries + self.last_attention(queries, image, position))
        # A transposed convolution of kernel and stride 2 is a linear layer from a cell to its four quarters. They stay
        # in the last axis, side by side, until only logits are left to be put in their places.
        pixels = self.upsample(image).reshape(rows, g * g * 16, self.channels)
        logits = pixels @ self.filter(queries[:, 0]).to(pixels.dtype)[:, :, None]
        return logits.view(rows, g, g, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4, 6).reshape(rows, 4 * g, 4 * g)


@lru_cache(maxsize=50_000)
def _coverage(placement: Placement, height: int, width: int, counts: str, side: int) -> np.ndarray:
    """A mask's coverage of the model's input, remembered: training meets the same masks again. 4 KB each at side 32."""
    return placement.mask_to_input({"size": [height, width], "counts": counts}, side)
