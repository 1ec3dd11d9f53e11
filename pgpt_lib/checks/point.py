"""Check of notebook 02's last exercise: a signal of one's own, a point."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..regions import Placement, Region
from ..signals.base import Signal
from .base import CheckFailed, guarded, passed

HIDDEN, STEPS, NEAR = 24, 150, 0.06


def check_point_signal(solution: Any, seed: int = 0) -> None:
    """`solution` is a `Signal` of the middle of a region's box, as a fraction of the picture.

    Values and predictions are [R, 2], (x, y) in [0, 1] of the model's square, present where a region has a box;
    `restore` gives `{"point": (x, y)}` on the original picture; the one loss is called "point". The library has no
    point; to build upon its box is what the exercise is about, so nothing is forbidden.
    """
    generator = torch.Generator().manual_seed(seed)
    signal = guarded(lambda: solution(HIDDEN, 8, 4), "a width of 24")
    if not isinstance(signal, Signal):
        raise CheckFailed("your class is no Signal: write class PointSignal(Signal)")
    if tuple(signal.loss_names) != ("point",):
        raise CheckFailed(f"loss_names is {signal.loss_names!r}: it must name the one term of your loss, ('point',)")
    _check_values(signal, generator)
    _check_networks(signal, generator)
    _check_learning(guarded(lambda: solution(HIDDEN, 8, 4), "a width of 24"), generator)
    passed("point signal")


def _check_values(signal: Signal, generator: torch.Generator) -> None:
    low = 0.5 * torch.rand(3, 2, generator=generator, dtype=torch.float64)
    high = low + torch.tensor([[0.2, 0.3]], dtype=torch.float64)
    boxes = torch.cat([low, high], 1)
    regions = [*(Region(tuple(box)) for box in boxes.tolist()), Region(None)]
    placements = [Placement(60, 120, 64), Placement(100, 50, 64), Placement(64, 64, 64), Placement(60, 120, 64)]
    values, present = guarded(lambda: signal.collate(regions, placements), "three boxes and a region without one")
    if tuple(values.shape) != (4, 2) or tuple(present.shape) != (4,):
        raise CheckFailed(
            f"collate gives values {tuple(values.shape)} and present {tuple(present.shape)}, not (4, 2) and (4,)"
        )
    if present.tolist() != [True, True, True, False]:
        raise CheckFailed("present must be True where a region has a box, and False where it has none")
    if not torch.isfinite(values).all():
        raise CheckFailed("where there is no box, values must be harmless numbers: zeros, not NaN")
    middle = (low + high) / 2
    square = torch.tensor([_mid(p.box_to_input(b)) for p, b in zip(placements, boxes.tolist(), strict=False)])
    corner = torch.tensor([p.box_to_input(b)[:2] for p, b in zip(placements, boxes.tolist(), strict=False)])
    size = torch.stack([torch.tensor(p.box_to_input(b)) for p, b in zip(placements, boxes.tolist(), strict=False)])
    for wrong, message in (
        (middle, "your values lie on the original picture: take them to the model's square with the placement"),
        (corner, "your point is the box's upper left corner, not its middle"),
        (square.flip(1), "you exchanged x and y"),
        (size[:, 2:] - size[:, :2], "your values are the box's width and height, not its middle"),
        (square * 64, "your values are pixels: they must lie in [0, 1]"),
    ):
        if _close(values[:3], wrong) and not _close(values[:3], square):
            raise CheckFailed(message)
    if not _close(values[:3], square):
        raise CheckFailed("your values are not the middle of the boxes on the model's square")
    for row, placement, true in zip(values[:3], placements, middle, strict=False):
        back = guarded(partial(signal.restore, row, placement), "a point")
        point = back.get("point") if isinstance(back, dict) else None
        if point is None or len(point) != 2:
            raise CheckFailed("restore must give {'point': (x, y)}")
        found = torch.tensor([float(v) for v in point])
        if _close(found, row) and not _close(found, true):
            raise CheckFailed("restore leaves the point on the model's square: bring it back to the original picture")
        if not _close(found, true):
            raise CheckFailed("restore does not give back the point that collate took")


def _check_networks(signal: Signal, generator: torch.Generator) -> None:
    values = torch.rand(5, 2, generator=generator)
    code = guarded(lambda: signal.encode(values), "five points")
    if tuple(code.shape) != (5, HIDDEN):
        raise CheckFailed(f"encode gives {tuple(code.shape)}, not one embedding of {HIDDEN} numbers a point")
    wild = 50 * torch.randn(64, HIDDEN, generator=generator)
    out = guarded(lambda: signal.decode(wild, torch.zeros(64, 16, 8)), "states of any size")
    if tuple(out.shape) != (64, 2):
        raise CheckFailed(f"decode gives {tuple(out.shape)}, not two numbers a state")
    if out.min() < 0 or out.max() > 1:
        raise CheckFailed("decode leaves [0, 1]: end it with a sigmoid")
    terms = guarded(lambda: signal.loss_terms(values, values), "points that are right")
    if not isinstance(terms, dict) or set(terms) != {"point"}:
        raise CheckFailed("loss_terms must give {'point': loss}")
    worse = guarded(lambda: signal.loss_terms(1 - values, values), "points that are wrong")
    if terms["point"].dim() or abs(float(terms["point"])) > 1e-5 or float(worse["point"]) <= 1e-3:
        raise CheckFailed("your loss must be one number, 0 for the right point and above 0 for a wrong one")


def _check_learning(signal: Signal, generator: torch.Generator) -> None:
    """Trained as an autoencoder, it must bring points back that it never saw."""

    def there_and_back(values: Tensor) -> Tensor:
        return signal.decode(signal.encode(values), torch.zeros(len(values), 16, 8))

    def train() -> float:
        optimiser = torch.optim.Adam(signal.parameters(), 5e-3)
        for _ in range(STEPS):
            values = torch.rand(64, 2, generator=generator)
            optimiser.zero_grad()
            signal.loss_terms(there_and_back(values), values)["point"].backward()
            optimiser.step()
        with torch.no_grad():
            values = torch.rand(64, 2, generator=generator)
            return float((there_and_back(values) - values).abs().mean())

    if not list(signal.parameters()):
        raise CheckFailed("your signal has no parameters: there is nothing to train")
    error = guarded(train, "a training step")
    idle = [name for name, p in signal.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    if idle:
        raise CheckFailed(f"training does not reach {', '.join(idle[:3])}: is something detached, or not used?")
    if error > NEAR:
        raise CheckFailed("trained as an autoencoder, your signal does not bring points back")


def _mid(box: tuple[float, float, float, float]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), atol=2e-3)
