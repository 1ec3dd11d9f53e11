"""What reads a mask: position codes with confused axes, and the dot product in the two-way decoder's place."""

from __future__ import annotations

import pytest
import torch

from pgpt_lib.errors import InputError
from pgpt_lib.signals import MaskSignal
from pgpt_lib.signals.two_way import position_code, scrambled_position_code

H, C, GRID = 32, 24, 8


@pytest.mark.parametrize("grid", [4, 8, 28])
def test_scrambled_codes_do_not_tell_cells_apart(grid: int) -> None:
    code = scrambled_position_code(grid, 128)
    assert code.shape == (grid * grid, 128) and len(code.unique(dim=0)) < grid**2 == len(position_code(grid, 128))
    cells = code.view(grid, grid, 128)  # row, column, channel
    left, right = cells[:, : grid // 2], cells[:, grid // 2 :]
    assert torch.equal(left, left[:1].expand_as(left))  # nothing of the row
    assert torch.equal(right, right[..., :1].expand_as(right))  # constant over the channels
    assert left.std(2).min() > 0 and right[..., 0].std(0).min() > 0
    assert torch.equal(MaskSignal(H, C, grid, scrambled=True).decoder.position, code)


def test_the_dot_product_head_is_one(make_model, samples, features) -> None:
    """Linear in the state, and each pixel is made of its own cell alone."""
    torch.manual_seed(0)
    signal = MaskSignal(H, C, GRID, head="dot_product")
    a, b, image = torch.randn(1, H), torch.randn(1, H), torch.randn(1, GRID**2, C)
    zero = signal.decode(torch.zeros(1, H), image)
    both = signal.decode(a + b, image) - zero
    assert torch.allclose(both, signal.decode(a, image) + signal.decode(b, image) - 2 * zero, atol=1e-4)
    moved = image.clone()
    moved[0, 10] += 1
    change = (signal.decode(a, moved) - signal.decode(a, image))[0].view(GRID, 4, GRID, 4).abs().amax((1, 3))
    assert change.flatten().nonzero().flatten().tolist() == [10]
    two = torch.cat([image, moved])
    assert torch.allclose(
        signal.decode(torch.cat([a, b, a]), two, torch.tensor([1, 0, 0]))[2], signal.decode(a, image)[0], atol=1e-4
    )
    with pytest.raises(InputError, match="49 visual tokens"):
        signal.decode(a, torch.randn(1, 49, C))
    model = make_model(mask_head="dot_product")
    model(model.collate(samples, features)).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.signals["mask"].parameters())


def test_the_dot_product_head_learns_a_mask() -> None:
    """Features that say which cells an object covers, and a state that says which object."""
    torch.manual_seed(0)
    signal, owner = MaskSignal(H, 2, GRID, head="dot_product"), torch.arange(GRID**2) % GRID < 4
    features = torch.stack([owner, ~owner], -1).float()[None]
    states = torch.eye(2, H) * 4
    target = torch.stack([owner, ~owner]).view(2, GRID, GRID).float().repeat_interleave(4, 1).repeat_interleave(4, 2)
    optimizer = torch.optim.AdamW(signal.decoder.parameters(), 3e-3)
    for _ in range(60):
        loss = sum(
            signal.loss_terms(signal.decode(states, features, torch.zeros(2, dtype=torch.long)), target).values()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
