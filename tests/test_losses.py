"""The losses against formulas written out independently, on cases that tell right from nearly right."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from pgpt_lib.losses import (
    IGNORE_INDEX,
    bce_loss,
    dice_loss,
    giou_loss,
    l1_loss,
    language_loss,
    supervised_positions,
    total_loss,
)
from pgpt_lib.regions import Placement, Region
from pgpt_lib.signals import BoxSignal


def giou_by_hand(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Generalised IoU of two xyxy boxes from its definition, in plain Python."""

    def area(box: tuple[float, ...]) -> float:
        return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)

    shared = area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    union = area(a) + area(b) - shared
    hull = area((min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])))
    return shared / union - (hull - union) / hull


def corners(box: list[float]) -> tuple[float, ...]:
    x, y, w, h = box
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def random_boxes(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = 0.05 + 0.4 * torch.rand(count, 2, generator=generator)
    return torch.cat([size / 2 + (1 - size) * torch.rand(count, 2, generator=generator), size], dim=1)


def test_giou_is_the_definition_for_touching_nested_and_distant_boxes() -> None:
    cases = [
        ([0.3, 0.3, 0.2, 0.2], [0.7, 0.7, 0.2, 0.4]),
        ([0.5, 0.5, 0.8, 0.6], [0.5, 0.4, 0.1, 0.2]),
        ([0.25, 0.5, 0.5, 0.5], [0.75, 0.5, 0.5, 0.5]),
        *zip(random_boxes(50, 0).tolist(), random_boxes(50, 1).tolist(), strict=True),
    ]
    for a, b in cases:
        expected = 1 - giou_by_hand(corners(a), corners(b))
        assert giou_loss(torch.tensor([a]), torch.tensor([b])).item() == pytest.approx(expected, abs=1e-5)


def test_giou_of_a_region_is_that_of_its_corners() -> None:
    """From a region to the loss: a box's format is mistaken nowhere on the way, as centres read as corners."""
    signal = BoxSignal(8, 8, 4)
    for a, b in zip(random_boxes(20, 2).tolist(), random_boxes(20, 3).tolist(), strict=True):
        regions = [Region(corners(box)) for box in (a, b)]
        values, present = signal.collate(regions, [Placement(80, 80, 112)] * 2)
        loss = signal.losses(values[:1], values[1:], present[1:])
        assert loss["giou"].item() == pytest.approx(1 - giou_by_hand(corners(a), corners(b)), abs=1e-5)


def test_giou_has_a_gradient_where_boxes_do_not_touch() -> None:
    box = torch.tensor([[0.1, 0.1, 0.1, 0.1]], requires_grad=True)
    giou_loss(box, torch.tensor([[0.8, 0.1, 0.1, 0.1]])).backward()
    assert box.grad is not None and box.grad[0, 0] < -0.1  # moving right lowers the loss


@pytest.mark.parametrize("degenerate", [[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.3, 0.0], [0.0, 0.0, 0.0, 0.0]])
def test_giou_and_its_gradient_are_finite_for_boxes_without_area(degenerate: list[float]) -> None:
    for target in (degenerate, [0.2, 0.2, 0.1, 0.1]):
        box = torch.tensor([degenerate], requires_grad=True)
        loss = giou_loss(box, torch.tensor([target]))
        loss.backward()
        assert math.isfinite(loss.item()) and box.grad is not None and box.grad.isfinite().all()


def test_l1_is_a_mean_over_all_numbers() -> None:
    assert l1_loss(torch.tensor([[0.0, 0.0, 0.0, 0.4]]), torch.zeros(1, 4)).item() == pytest.approx(0.1)


def masks_of_two_sizes() -> tuple[Tensor, Tensor]:
    """A large object that is predicted perfectly and a small one that is missed altogether: logits, target."""
    target = torch.zeros(2, 32, 32)
    target[0, 2:30, 2:30], target[1, 10:13, 10:13] = 1, 1
    logits = torch.full((2, 32, 32), -30.0)
    logits[0][target[0] > 0] = 30.0
    return logits, target


def test_dice_counts_each_mask_once_however_large() -> None:
    logits, target = masks_of_two_sizes()
    assert dice_loss(logits, target).item() == pytest.approx(0.5, abs=1e-3)  # pooled over the batch: below 0.01
    singles = [dice_loss(logits[i : i + 1], target[i : i + 1]) for i in range(2)]
    assert dice_loss(logits, target).item() == pytest.approx(torch.stack(singles).mean().item())


def test_dice_by_hand_on_soft_masks() -> None:
    probability, target = torch.tensor([[[0.8, 0.4], [0.1, 0.2]]]), torch.tensor([[[1.0, 0.5], [0.0, 0.0]]])
    expected = 1 - 2 * (0.8 + 0.2) / (1.5 + 1.5)
    assert dice_loss(torch.logit(probability), target).item() == pytest.approx(expected, abs=1e-4)


def test_bce_by_hand_and_for_extreme_logits() -> None:
    assert bce_loss(torch.zeros(1, 2, 2), torch.full((1, 2, 2), 0.3)).item() == pytest.approx(math.log(2), abs=1e-6)
    assert bce_loss(torch.tensor([[[500.0]]]), torch.tensor([[[0.0]]])).item() == pytest.approx(500.0)


def test_language_loss_equals_the_shifted_loss_over_all_positions() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, head = torch.randn(3, 7, 5, generator=generator), nn.Linear(5, 11)
    labels = torch.randint(0, 11, (3, 7), generator=generator)
    labels[0, :4] = labels[1] = IGNORE_INDEX
    labels[2, :6] = IGNORE_INDEX
    logits = head(hidden)[:, :-1].flatten(0, 1)
    expected = nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=IGNORE_INDEX)
    assert language_loss(hidden, labels, head).item() == pytest.approx(expected.item(), rel=1e-5)


def test_only_supervised_positions_reach_the_head() -> None:
    labels = torch.tensor([[IGNORE_INDEX, IGNORE_INDEX, 4, 5], [3, IGNORE_INDEX, IGNORE_INDEX, IGNORE_INDEX]])
    rows, columns = supervised_positions(labels)  # the first label of a row has no state before it
    assert rows.tolist() == [0, 0] and columns.tolist() == [1, 2]
    seen: list[int] = []

    def head(states: Tensor) -> Tensor:
        seen.append(len(states))
        return states @ torch.ones(2, 6)

    language_loss(torch.zeros(2, 4, 2), labels, head)
    assert seen == [2]


def test_no_rows_give_zero_and_a_gradient() -> None:
    box, mask = torch.zeros(0, 4, requires_grad=True), torch.zeros(0, 8, 8, requires_grad=True)
    hidden, head = torch.randn(1, 3, 4, requires_grad=True), nn.Linear(4, 5)
    terms = {
        "l1": l1_loss(box, box.detach()),
        "giou": giou_loss(box, box.detach()),
        "bce": bce_loss(mask, mask.detach()),
        "dice": dice_loss(mask, mask.detach()),
        "language": language_loss(hidden, torch.full((1, 3), IGNORE_INDEX), head),
    }
    assert all(value.item() == 0 for value in terms.values())
    total_loss(terms, {}).backward()
    assert all(x.grad is not None for x in (box, mask, hidden, head.weight))


def test_losses_are_fp32_whatever_comes_in() -> None:
    boxes, masks = torch.full((2, 4), 0.5, dtype=torch.bfloat16), torch.zeros(2, 8, 8, dtype=torch.bfloat16)
    for loss in (l1_loss(boxes, boxes), giou_loss(boxes, boxes), bce_loss(masks, masks), dice_loss(masks, masks)):
        assert loss.dtype == torch.float32


def test_total_weighs_terms_and_counts_unnamed_ones_once() -> None:
    terms = {"l1": torch.tensor(1.0), "pose": torch.tensor(10.0)}
    assert total_loss(terms, {"l1": 5.0, "giou": 2.0}).item() == 15.0
    with pytest.raises(ValueError, match="at least one"):
        total_loss({}, {})
