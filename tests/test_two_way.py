"""The mask decoder's transformer: every cell has its own position code, and the fast attention is attention."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pgpt_lib.signals import MaskSignal
from pgpt_lib.signals.two_way import ImageToTokens, TokensToImage, position_code, scrambled_position_code

H, C, GRID = 32, 24, 8


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def every_cell_has_its_own(code: Tensor) -> bool:
    """Whether codes [cells, size] differ, and clearly, between any two cells."""
    return bool((torch.cdist(code, code) + 9 * torch.eye(len(code))).min() > 0.1)


@pytest.mark.parametrize("grid", [1, 2, 7, 8, 16, 28])
def test_every_cell_has_its_own_position_code(grid: int) -> None:
    code = MaskSignal(H, C, grid).decoder.position
    assert torch.equal(code, position_code(grid, 128)) and code.shape == (grid * grid, 128)
    assert every_cell_has_its_own(code)
    cells = code.view(grid, grid, 2, 64)  # rows, columns, (x, y)
    assert torch.allclose(cells[:, :, 0], cells[:1, :, 0].expand(grid, -1, -1))  # x does not change down a column
    assert torch.allclose(cells[:, :, 1], cells[:, :1, 1].expand(-1, grid, -1))


def cells_are_told_apart(signal: MaskSignal) -> bool:
    """Equal features everywhere: what differs between cells comes from position codes, in every part of the image."""
    features = torch.randn(1, 1, C).expand(1, GRID**2, C)
    cells = signal.decode(torch.randn(1, H), features).view(GRID, 4, GRID, 4).mean((1, 3)).flatten()
    return len(cells.detach().unique()) == GRID**2


def test_the_decoder_tells_every_cell_from_every_other_by_position_alone() -> None:
    assert cells_are_told_apart(MaskSignal(H, C, GRID))


@pytest.mark.parametrize("grid", [4, 8, 28])
def test_scrambled_axes_would_be_noticed(grid: int) -> None:
    """As the released code has them: rows, columns and channels taken for each other."""
    assert not every_cell_has_its_own(scrambled_position_code(grid, 128))
    assert not cells_are_told_apart(MaskSignal(H, C, GRID, scrambled=True))


def test_moving_the_features_moves_the_mask_but_is_noticed() -> None:
    signal = MaskSignal(H, C, GRID)
    state, features = torch.randn(1, H), torch.randn(1, GRID, GRID, C)
    logits = signal.decode(state, features.flatten(1, 2))
    moved = signal.decode(state, features.roll(2, dims=2).flatten(1, 2))
    assert not torch.allclose(moved, logits.roll(8, dims=2), atol=1e-4)  # position codes
    signal.decoder.position.zero_()
    logits = signal.decode(state, features.flatten(1, 2))
    moved = signal.decode(state, features.roll(2, dims=2).flatten(1, 2))
    assert torch.allclose(moved, logits.roll(8, dims=2), atol=1e-4)  # without them, only the place of the pixels


def plain_attention(layer: nn.Module, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    q, k, v = (
        p(x).unflatten(-1, (layer.num_heads, -1)).transpose(1, 2)
        for p, x in ((layer.query, queries), (layer.key, keys), (layer.value, values))
    )
    return layer.out(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def test_attention_with_absorbed_projections_is_attention() -> None:
    tokens, image, position = torch.randn(3, 4, 32), torch.randn(3, 16, 32), torch.randn(16, 32)
    placed, there, back = image + position, TokensToImage(32, 2), ImageToTokens(32, 2)
    assert torch.allclose(there(tokens, image, position), plain_attention(there, tokens, placed, image), atol=1e-5)
    assert torch.allclose(back(image, position, tokens), plain_attention(back, placed, tokens, tokens), atol=1e-5)
