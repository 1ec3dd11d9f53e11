"""What reads a mask's outline from the visual features: the two-way decoder, or a plain dot product in its place."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import InputError
from .two_way import TokensToImage, TwoWayBlock, position_code, scrambled_position_code


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
        scrambled: confuse the axes of the position codes; see `scrambled_position_code`.
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
        scrambled: bool = False,
    ) -> None:
        super().__init__()
        self.grid, self.num_queries, self.channels = grid, num_queries, width // 8
        self.from_state = nn.Linear(hidden_size, num_queries * width)
        self.from_features = nn.Sequential(nn.Linear(feature_size, width), nn.LayerNorm(width))
        code = scrambled_position_code if scrambled else position_code
        self.register_buffer("position", code(grid, width), persistent=False)
        self.blocks = nn.ModuleList(TwoWayBlock(width, num_heads) for _ in range(num_blocks))
        self.last_attention, self.last_norm = TokensToImage(width, num_heads), nn.LayerNorm(width)
        self.upsample = upsampler(width, self.channels)
        self.filter = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, self.channels)
        )

    def forward(self, state: Tensor, features: Tensor, image_index: Tensor | None = None) -> Tensor:
        require_grid(features, self.grid)
        image = self.from_features(features.to(state.dtype))
        if image_index is not None:
            image = image.index_select(0, image_index)
        queries = self.from_state(state).unflatten(1, (self.num_queries, -1))
        position = self.position.to(image.dtype)
        for block in self.blocks:
            queries, image = block(queries, image, position)
        queries = self.last_norm(queries + self.last_attention(queries, image, position))
        return filtered(self.upsample(image), self.filter(queries[:, 0]), self.grid)


class DotProductDecoder(nn.Module):
    """States and visual features to mask logits [R, 4g, 4g], by a dot product of the embedding with magnified features.

    The state is mapped by one linear layer, the image is magnified as in `MaskDecoder`, and neither sees the other
    before their product: what UFO does instead of a mask decoder (with the language model's own image states; here the
    tower's). The product has the full width D. Arguments as for `MaskDecoder`.
    """

    def __init__(self, hidden_size: int, feature_size: int, grid: int, width: int) -> None:
        super().__init__()
        self.grid = grid
        self.from_features = nn.Sequential(nn.Linear(feature_size, width), nn.LayerNorm(width))
        self.upsample = upsampler(width, width)
        self.filter = nn.Linear(hidden_size, width)

    def forward(self, state: Tensor, features: Tensor, image_index: Tensor | None = None) -> Tensor:
        require_grid(features, self.grid)
        pixels = self.upsample(self.from_features(features.to(state.dtype)))  # of each image once
        if image_index is not None:
            pixels = pixels.index_select(0, image_index)
        return filtered(pixels, self.filter(state), self.grid)


def require_grid(features: Tensor, grid: int) -> None:
    """Raises: InputError, where features [..., N, C] are not those of grid x grid tokens."""
    if features.shape[1] != grid * grid:
        raise InputError(f"{features.shape[1]} visual tokens in a mask decoder that was built for {grid} x {grid}")


def upsampler(width: int, channels: int) -> nn.Sequential:
    """Four times as high and wide: cells [R, N, width] to their quarters' quarters [R, N, 4, 4 * channels].

    A transposed convolution of kernel and stride 2 is a linear layer from a cell to its four quarters. They stay in the
    last axis, side by side, until only logits are left to be put in their places.
    """
    wide = 2 * channels
    return nn.Sequential(
        nn.Linear(width, 4 * wide),  # twice as high and wide: four cells from one
        nn.Unflatten(2, (4, wide)),
        nn.LayerNorm(wide),
        nn.GELU(),
        nn.Linear(wide, 4 * channels),  # and once more
        nn.GELU(),
    )


def filtered(pixels: Tensor, weights: Tensor, grid: int) -> Tensor:
    """Dot products of an upsampler's pixels with each region's filter [R, channels], put in place: [R, 4g, 4g]."""
    rows, g = len(weights), grid
    logits = pixels.reshape(rows, g * g * 16, weights.shape[1]) @ weights.to(pixels.dtype)[:, :, None]
    return logits.view(rows, g, g, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4, 6).reshape(rows, 4 * g, 4 * g)
