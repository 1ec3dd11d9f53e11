"""Region encoders start from the projector's position embeddings."""

from __future__ import annotations

import pytest
import torch

from pgpt_lib.config import load_profile
from pgpt_lib.model import build_model
from pgpt_lib.signals import build_signals
from pgpt_lib.signals.first_codes import coverage, random_boxes, start_encoders

GRID, WIDTH = 8, 32


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_coverage_adds_up_to_the_area():
    boxes = random_boxes(200, generator(0))
    areas = coverage(boxes, 7).mean((1, 2))
    assert areas.numpy() == pytest.approx((boxes[:, 2] * boxes[:, 3]).numpy(), abs=1e-5)
    one = coverage(torch.tensor([[0.25, 0.75, 0.5, 0.5]]), 2)  # lower left quarter
    assert one[0].tolist() == [[0, 0], [1, 0]]


def test_boxes_lie_in_the_image():
    boxes = random_boxes(500, generator(1))
    assert (boxes[:, :2] - boxes[:, 2:] / 2 >= -1e-6).all() and (boxes[:, :2] + boxes[:, 2:] / 2 <= 1 + 1e-6).all()


@pytest.mark.parametrize("name", ["box", "mask"])
def test_codes_of_unseen_regions_are_nearest_to_their_own_cells(name):
    """The code of a small region is more like the embedding of the cell that it lies in than like most others."""
    torch.manual_seed(0)
    signals = build_signals(["box", "mask"], WIDTH, 16, GRID)
    place = torch.stack(torch.meshgrid(*[torch.arange(GRID) / GRID] * 2, indexing="ij"), -1).reshape(-1, 2)
    position = torch.sin(place @ torch.randn(2, WIDTH) * 3)  # smooth over the image, as trained ones are
    start_encoders(dict(signals.items()), position, generator(0))
    boxes = torch.cat([torch.rand(100, 2, generator=generator(9)) * 0.8 + 0.1, torch.full((100, 2), 0.15)], 1)
    with torch.no_grad():
        codes = signals[name].encode(boxes if name == "box" else coverage(boxes, 4 * GRID))
    share = coverage(boxes, GRID).flatten(1)
    target = (share / share.sum(1, keepdim=True)) @ position
    unexplained = (codes - target).square().sum() / (target - target.mean(0)).square().sum()
    assert unexplained < 0.3


def test_without_positions_encoders_stay_as_they_are():
    torch.manual_seed(0)
    signals = build_signals(["box", "mask", "depth"], WIDTH, 16, GRID)
    before = {k: v.clone() for k, v in signals.state_dict().items()}
    start_encoders(dict(signals.items()), torch.zeros(GRID**2, WIDTH), generator(0))
    assert all(torch.equal(v, before[k]) for k, v in signals.state_dict().items())


def test_a_built_model_has_fitted_encoders():
    model = build_model(load_profile("smoke"), 0)
    position = model.projector.position.detach()
    boxes = random_boxes(300, generator(3))
    share = coverage(boxes, model.tower.grid).flatten(1)
    target = (share / share.sum(1, keepdim=True)) @ position
    with torch.no_grad():
        codes = model.signal("box").encode(boxes)
    assert (codes - target).square().sum() < 0.5 * (target - target.mean(0)).square().sum()
