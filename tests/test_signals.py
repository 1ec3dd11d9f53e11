"""Every signal through the one interface, and the traps of each: formats, frames, position codes, gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pgpt_lib.errors import InputError
from pgpt_lib.losses import l1_loss, total_loss
from pgpt_lib.regions import Placement, Region, mask_iou, mask_to_rle
from pgpt_lib.signals import SIGNALS, BoxSignal, MaskSignal, Signal, build_signals, register
from pgpt_lib.signals.base import MLP

H, C, GRID, SIZE = 32, 24, 8, 112


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def ellipse(height: int, width: int, cx: float, cy: float, rx: float, ry: float) -> dict[str, Any]:
    """An ellipse's mask; centre and radii as shares of the image."""
    y, x = np.mgrid[:height, :width]
    inside = ((x + 0.5) / width - cx) ** 2 / rx**2 + ((y + 0.5) / height - cy) ** 2 / ry**2 < 1
    return mask_to_rle(inside.astype(np.uint8))


BOXED = Region((0.1, 0.2, 0.5, 0.7))
MASKED = Region(None, ellipse(90, 120, 0.4, 0.5, 0.2, 0.3))
BOTH = Region((0.2, 0.2, 0.6, 0.8), ellipse(90, 120, 0.4, 0.5, 0.2, 0.3), 0.25)
BATCHES = {
    "boxes only": [BOXED] * 3,
    "masks only": [MASKED] * 2,
    "mixed": [BOXED, MASKED, BOTH],
    "neither": [Region(None)] * 2,
    "no region": [],
}


def through(signals: nn.ModuleDict, regions: Sequence[Region]) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Embed and decode regions with every signal: the losses, the summed codes and the state that was decoded."""
    placements = [Placement(90, 120, SIZE)] * len(regions)
    state = torch.randn(len(regions), H, requires_grad=True)
    features = torch.randn(len(regions), GRID * GRID, C)
    terms: dict[str, Tensor] = {}
    codes = torch.zeros(len(regions), H)
    for signal in signals.values():
        values, present = signal.collate(regions, placements)
        codes = codes + signal.embed(values, present)
        terms |= signal.losses(signal.decode(state, features), values, present)
    return terms, codes, state


@pytest.mark.parametrize("kind", BATCHES)
def test_every_parameter_has_a_gradient_in_every_batch(kind: str) -> None:
    signals = build_signals(["box", "mask", "depth"], H, C, GRID)
    terms, codes, _ = through(signals, BATCHES[kind])
    loss = total_loss(terms, {}) + codes.square().sum()
    assert loss.isfinite()
    loss.backward()
    assert [name for name, p in signals.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    moved = {name for name, p in signals.named_parameters() if p.grad is not None and p.grad.any()}
    for name, part in signals.items():  # a signal that is present trains as a whole, one that is absent not at all
        values, present = part.collate(BATCHES[kind], [Placement(90, 120, SIZE)] * len(BATCHES[kind]))
        wanted = {f"{name}.{key}" for key, _ in part.named_parameters()} if present.any() else set()
        assert {key for key in moved if key.startswith(f"{name}.")} == wanted


@pytest.mark.parametrize("kind", BATCHES)
def test_absent_signals_embed_as_zero_and_lose_nothing(kind: str) -> None:
    signals, regions = build_signals(["box", "mask"], H, C, GRID), BATCHES[kind]
    for signal in signals.values():
        values, present = signal.collate(regions, [Placement(90, 120, SIZE)] * len(regions))
        assert values.dtype == torch.float32 and present.dtype == torch.bool and len(values) == len(present)
        codes = signal.embed(values, present)
        assert codes.shape == (len(regions), H)
        assert torch.equal(codes.abs().sum(1) > 0, present)
        prediction = signal.decode(torch.randn(len(regions), H), torch.randn(len(regions), GRID**2, C))
        losses = signal.losses(prediction, values, present)
        assert tuple(losses) == signal.loss_names
        assert present.any() or all(loss.item() == 0 for loss in losses.values())


def test_losses_of_a_mixed_batch_are_those_of_its_present_rows() -> None:
    signal = MaskSignal(H, C, GRID)
    values, present = signal.collate([BOXED, MASKED, BOTH], [Placement(90, 120, SIZE)] * 3)
    prediction = torch.randn(values.shape)
    mixed, alone = (signal.losses(prediction[rows], values[rows], present[rows]) for rows in (slice(0, 3), slice(1, 3)))
    assert all(torch.allclose(mixed[name], alone[name]) for name in signal.loss_names)


# Boxes


def test_the_first_box_is_centred_and_moves_the_language_model() -> None:
    signal = BoxSignal(H, C, GRID)
    state = torch.randn(200, H, requires_grad=True)
    prediction = signal.decode(state, torch.zeros(200, 1, C))
    assert torch.allclose(prediction.mean(0), torch.tensor([0.5, 0.5, 0.4, 0.4]), atol=0.05)
    assert prediction.std(0).max() < 0.1
    prediction.sum().backward()
    assert state.grad is not None and (state.grad.abs().sum(1) > 0).all()


def test_boxes_keep_their_precision_under_autocast() -> None:
    signal = BoxSignal(H, C, GRID)
    state, boxes = torch.randn(8, H), torch.rand(8, 4)
    with torch.autocast("cpu", torch.bfloat16):
        decoded, encoded = signal.decode(state, torch.zeros(8, 1, C)), signal.encode(boxes)
    for half, full in ((decoded, signal.decode(state, torch.zeros(8, 1, C))), (encoded, signal.encode(boxes))):
        assert torch.equal(half, full) and not torch.equal(half, half.bfloat16().float())


def test_box_networks_have_three_layers() -> None:
    signal = BoxSignal(H, C, GRID)
    assert all(sum(isinstance(m, nn.Linear) for m in net) == 3 for net in (signal.encoder, signal.decoder))
    assert sum(isinstance(m, nn.Linear) for m in MLP(1, 2)) == 1


# Masks


def test_the_mask_encoder_sees_the_mask() -> None:
    """It has a gradient when a mask is given, and another mask, or the same one elsewhere, has another code."""
    signal = MaskSignal(H, C, GRID)
    circles = ((0.3, 0.5, 0.2), (0.6, 0.5, 0.2), (0.3, 0.5, 0.1))
    regions = [Region(None, ellipse(100, 100, x, y, radius, radius)) for x, y, radius in circles]
    values, present = signal.collate(regions, [Placement(100, 100, SIZE)] * 3)
    codes = signal.embed(values, present)
    assert (torch.cdist(codes, codes) + 9 * torch.eye(3)).min() > 0.05
    codes.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in signal.encoder.parameters())


def test_a_region_is_treated_alike_alone_and_in_a_batch() -> None:
    signal = MaskSignal(H, C, GRID)
    state, features, values = torch.randn(3, H), torch.randn(3, GRID**2, C), torch.rand(3, 32, 32)
    together, codes = signal.decode(state, features), signal.encode(values)
    for i in range(3):
        assert torch.allclose(signal.decode(state[i : i + 1], features[i : i + 1])[0], together[i], atol=1e-5)
        assert torch.allclose(signal.encode(values[i : i + 1])[0], codes[i], atol=1e-5)


@pytest.mark.parametrize("name", ["box", "mask", "depth"])
def test_features_by_image_equal_features_by_region(name: str) -> None:
    signal = build_signals([name], H, C, GRID)[name]
    state, features, index = torch.randn(4, H), torch.randn(2, GRID**2, C), torch.tensor([1, 0, 1, 1])
    assert torch.allclose(signal.decode(state, features, index), signal.decode(state, features[index]), atol=1e-5)


def test_the_logits_of_each_cell_stand_in_its_place() -> None:
    """A trained decoder outlines objects that it sees in the features; it also shows that all of it learns."""
    signal = MaskSignal(H, C, GRID, width=64)
    generator = np.random.default_rng(0)
    shapes = [ellipse(SIZE, SIZE, *generator.uniform(0.3, 0.7, 2), *generator.uniform(0.12, 0.3, 2)) for _ in range(8)]
    values, present = signal.collate([Region(None, m) for m in shapes], [Placement(SIZE, SIZE, SIZE)] * 8)
    cells = values.view(8, GRID, 4, GRID, 4).permute(0, 1, 3, 2, 4).reshape(8, GRID**2, 16)
    features, state = cells @ torch.randn(16, C), torch.randn(8, H)
    optimiser = torch.optim.AdamW(signal.parameters(), lr=4e-3)
    for _ in range(60):
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits = signal.decode(state, features)
        total_loss(signal.losses(logits, values, present), {}).backward()
        optimiser.step()
    restored = [signal.restore(row, Placement(SIZE, SIZE, SIZE))["mask"] for row in signal.decode(state, features)]
    assert np.mean([mask_iou(a, b) for a, b in zip(restored, shapes, strict=True)]) > 0.85


def test_a_decoder_for_another_grid_refuses() -> None:
    with pytest.raises(InputError, match="49 visual tokens"):
        MaskSignal(H, C, GRID).decode(torch.randn(1, H), torch.randn(1, 49, C))


# There and back


@pytest.mark.parametrize(("height", "width"), [(112, 112), (90, 120), (300, 20), (480, 640)])
def test_regions_come_back_in_their_own_frame(height: int, width: int) -> None:
    region = Region((0.125, 0.25, 0.5, 0.75), ellipse(height, width, 0.4, 0.5, 0.25, 0.3), 0.75)
    placement = Placement(height, width, SIZE)
    back: dict[str, Any] = {}
    for name in ("box", "mask", "depth"):
        signal = build_signals([name], H, C, GRID)[name]
        values, _ = signal.collate([region], [placement])
        prediction = torch.logit(values.clamp(1e-4, 1 - 1e-4)) if name == "mask" else values
        assert torch.allclose(signal.to_values(prediction), values, atol=1e-3)
        back |= signal.restore(prediction[0], placement)
    restored = Region(**back)
    assert restored.box == pytest.approx(region.box, abs=1e-5) and restored.depth == pytest.approx(0.75)
    assert restored.mask is not None and restored.mask["size"] == [height, width]
    assert mask_iou(restored.mask, region.mask) > (0.9 if width > 20 else 0.6)  # 20 pixels wide: 2 cells


def test_the_mask_threshold_is_an_argument() -> None:
    signal, placement = MaskSignal(H, C, GRID), Placement(SIZE, SIZE, SIZE)
    logits = torch.full((32, 32), torch.logit(torch.tensor(0.4)).item())
    empty, full = mask_to_rle(np.zeros((SIZE, SIZE), np.uint8)), mask_to_rle(np.ones((SIZE, SIZE), np.uint8))
    assert signal.restore(logits, placement)["mask"] == empty
    assert signal.restore(logits, placement, threshold=0.35)["mask"] == full


@pytest.mark.parametrize("name", ["box", "mask", "depth"])
def test_a_decoded_region_feeds_back_under_autocast(name: str) -> None:
    signal = build_signals([name], H, C, GRID)[name]
    values, present = signal.collate([BOTH] * 2, [Placement(90, 120, SIZE)] * 2)
    with torch.autocast("cpu", torch.bfloat16):
        prediction = signal.decode(torch.randn(2, H).bfloat16(), torch.randn(2, GRID**2, C).bfloat16())
        code = signal.embed(signal.to_values(prediction), present)
        losses = signal.losses(prediction, values, present)
    assert prediction.shape == values.shape and code.shape == (2, H) and code.isfinite().all()
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())


# A signal of one's own


class Elongation(Signal):
    """A box's width as a share of width plus height: the smallest signal that uses the whole interface."""

    name = "elongation"
    loss_names = ("elongation",)

    def __init__(self, hidden_size: int, feature_size: int, grid: int) -> None:
        super().__init__(hidden_size, feature_size, grid)
        self.encoder, self.decoder = MLP(1, 16, hidden_size), MLP(hidden_size, 1)

    def collate(self, regions: Sequence[Region], placements: Sequence[Placement]) -> tuple[Tensor, Tensor]:
        boxes = [region.box or (0.0, 0.0, 1.0, 1.0) for region in regions]
        values = [[(x2 - x1) / (x2 - x1 + y2 - y1)] for x1, y1, x2, y2 in boxes]
        return torch.tensor(values).reshape(-1, 1), torch.tensor([region.box is not None for region in regions])

    def encode(self, values: Tensor) -> Tensor:
        return self.encoder(values)

    def decode(self, state: Tensor, features: Tensor, image_index: Tensor | None = None) -> Tensor:
        return self.decoder(state).sigmoid()

    def loss_terms(self, prediction: Tensor, values: Tensor) -> dict[str, Tensor]:
        return {"elongation": l1_loss(prediction, values)}

    def restore(self, prediction: Tensor, placement: Placement, threshold: float = 0.5) -> dict[str, Any]:
        return {"elongation": float(prediction.detach())}


def test_a_new_signal_needs_one_class_and_its_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(SIGNALS, "elongation", raising=False)
    register(Elongation)
    monkeypatch.setitem(SIGNALS, "elongation", Elongation)  # undone after the test
    signals = build_signals(["box", "elongation"], H, C, GRID)
    terms, codes, state = through(signals, [BOXED, MASKED])
    assert set(terms) == {"l1", "giou", "elongation"} and codes[0].any() and not codes[1].any()
    total_loss(terms, {"l1": 1.0, "giou": 1.0}).backward()
    assert state.grad is not None and state.grad[0].any()
    assert all(p.grad is not None for p in signals["elongation"].decoder.parameters())


def test_names_are_known_and_unique() -> None:
    with pytest.raises(InputError, match="unknown signal 'pose'; there are box, mask, depth"):
        build_signals(["box", "pose"], H, C, GRID)

    class Other(BoxSignal):
        name = "box"

    class Clash(BoxSignal):
        name = "clash"

    with pytest.raises(InputError, match="'box' is taken"):
        register(Other)
    with pytest.raises(InputError, match="loss name giou, l1 is taken by 'box'"):
        register(Clash)
    assert register(BoxSignal) is BoxSignal
