"""The two-way transformer of the mask decoder: a few query tokens and an image look at each other.

With T queries, N image tokens and N much larger than T, no projection of the image is computed. A score is
q . (W_k x) = (W_k^T q) . x, so the key matrix is multiplied into the few queries instead of the many image tokens, and
likewise for values and outputs. It is ordinary multi-head attention at a quarter of the work (T x heads = 16, N = 64).

Shapes: R regions, D width, h heads; attention is computed at width D / 2, as in SAM.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def position_code(grid: int, size: int) -> Tensor:
    """Fixed sines and cosines of a cell's column and row: [grid * grid, size], row by row as the visual tokens are.

    Half of the channels speak of x, half of y. Frequencies run from half a period over the image (so that no two cells
    share a code) to half a period a cell.
    """
    axis = _axis_code(grid, size // 4)  # [grid, size / 2]
    x, y = axis[None, :].expand(grid, grid, -1), axis[:, None].expand(grid, grid, -1)
    return torch.cat([x, y], dim=-1).reshape(grid * grid, size)


def scrambled_position_code(grid: int, size: int) -> Tensor:
    """`position_code` with its axes confused, as in the released code: [grid * grid, size].

    There a tensor of rows, columns and channels is unpacked as channels, rows and columns. The code is made for `grid`
    channels and an image `size` wide, and its channels then stand for the cell's column. So the left half of the
    columns knows nothing of the row, and the right half is constant over the channels.
    """
    left = grid // 2
    right = grid - left
    x = _axis_code(size, math.ceil(left / 2))[:, :left]  # [size, left]
    y = _axis_code(grid, math.ceil(right / 2))[:, :right]  # [grid, right]
    rows = [x.T[None].expand(grid, left, size), y[:, :, None].expand(grid, right, size)]
    return torch.cat(rows, dim=1).reshape(grid * grid, size)


def _axis_code(count: int, frequencies: int) -> Tensor:
    """Sines, then cosines of `count` places along an axis: [count, 2 * frequencies]."""
    centres = (torch.arange(count) + 0.5) / count
    turns = math.pi * torch.logspace(0.0, math.log2(max(count, 2)), frequencies, base=2.0)
    angles = centres[:, None] * turns
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class _Attention(nn.Module):
    """The four projections that both directions have, split by heads."""

    def __init__(self, size: int, num_heads: int) -> None:
        super().__init__()
        inner = size // 2
        if size % 4 or inner % num_heads:
            raise ValueError(f"width {size} must be a multiple of 4, and its half of {num_heads} heads")
        self.num_heads, self.scale = num_heads, (inner // num_heads) ** -0.5
        self.query, self.key, self.value = (nn.Linear(size, inner, bias=False) for _ in range(3))
        self.out = nn.Linear(inner, size)

    def heads(self, x: Tensor) -> Tensor:
        """[..., inner] -> [..., h, inner / h]."""
        return x.unflatten(-1, (self.num_heads, -1))

    def weight_of(self, layer: nn.Linear) -> Tensor:
        """An input projection's weight by heads: [h, inner / h, D]."""
        return layer.weight.unflatten(0, (self.num_heads, -1))


class TokensToImage(_Attention):
    """Each token gathers from the image: tokens [R, T, D], image [R, N, D], position [N, D] or None -> [R, T, D]."""

    def forward(self, tokens: Tensor, image: Tensor, position: Tensor | None) -> Tensor:
        queries = torch.einsum("rthc,hcd->rthd", self.heads(self.query(tokens)), self.weight_of(self.key)) * self.scale
        queries = queries.flatten(1, 2)  # [R, T * h, D]
        scores = queries @ image.transpose(1, 2)
        if position is not None:
            scores = scores + queries @ position.T
        gathered = scores.softmax(-1).to(image.dtype) @ image
        gathered = gathered.unflatten(1, (-1, self.num_heads))  # [R, T, h, D]
        return self.out(torch.einsum("rthd,hcd->rthc", gathered, self.weight_of(self.value)).flatten(2))


class ImageToTokens(_Attention):
    """Each image token gathers from the tokens: image [R, N, D], position [N, D], tokens [R, T, D] -> [R, N, D]."""

    def forward(self, image: Tensor, position: Tensor, tokens: Tensor) -> Tensor:
        keys = torch.einsum("rthc,hcd->rhtd", self.heads(self.key(tokens)), self.weight_of(self.query)) * self.scale
        keys = keys.flatten(1, 2)  # [R, h * T, D]
        scores = image @ keys.transpose(1, 2) + (keys @ position.T).transpose(1, 2)
        share = self.heads(scores).softmax(-1).flatten(2)  # over the tokens, head by head
        out_weight = self.out.weight.unflatten(1, (self.num_heads, -1))  # [D, h, inner / h]
        messages = torch.einsum("rthc,dhc->rhtd", self.heads(self.value(tokens)), out_weight).flatten(1, 2)
        return share.to(messages.dtype) @ messages + self.out.bias.to(messages.dtype)


class TwoWayBlock(nn.Module):
    """Queries look at each other and at the image, think, then the image looks at the queries (post-norm, as SAM's)."""

    def __init__(self, size: int, num_heads: int) -> None:
        super().__init__()
        self.self_attention = TokensToImage(size, num_heads)
        self.to_image = TokensToImage(size, num_heads)
        self.mlp = nn.Sequential(nn.Linear(size, 2 * size), nn.GELU(), nn.Linear(2 * size, size))
        self.to_tokens = ImageToTokens(size, num_heads)
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(4))

    def forward(self, queries: Tensor, image: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """[R, T, D], [R, N, D], [N, D] -> both tokens, changed."""
        queries = self.norms[0](queries + self.self_attention(queries, queries, None))
        queries = self.norms[1](queries + self.to_image(queries, image, position))
        queries = self.norms[2](queries + self.mlp(queries))
        image = self.norms[3](image + self.to_tokens(image, position, queries))
        return queries, image
