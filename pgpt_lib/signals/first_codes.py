"""Where region encoders start: a region's code says its place as image tokens say theirs.

An image token carries its place as the projector's position embedding. A language model that is to look at a given
region has to match the region's code with those embeddings, and from a random encoder both sides of the match have to
be found at once: a plateau that short trainings did not leave. So the encoders' last layer is fitted, before training,
to the mean position embedding of the cells that a region covers. All of it learns on from there. The paper says nothing
of how its encoders start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from ..regions import box_cxcywh_to_xyxy
from .base import Signal

REGIONS = 4096  # random boxes to fit on
SMALLEST = 0.05  # side of a box, as a share of the image
RIDGE = 1e-4  # of the mean square of the encoder's last hidden values


def start_encoders(signals: Mapping[str, nn.Module], position: Tensor, generator: torch.Generator) -> None:
    """Fit the last layer of the encoders of `box` and `mask`, in place.

    Args:
        signals: the model's signals; others than these two are left alone.
        position: [N, H], the projector's position embedding of the N = grid x grid image tokens. Where it is zero, as
            in a projector that was never trained, nothing is done.
        generator: of the random boxes.
    """
    if not position.any():
        return
    boxes = random_boxes(REGIONS, generator)
    for name in set(signals) & {"box", "mask"}:
        signal = cast(Signal, signals[name])
        values = boxes if name == "box" else coverage(boxes, 4 * signal.grid)
        target = coverage(boxes, signal.grid).flatten(1)
        target = (target / target.sum(1, keepdim=True)) @ position.float()
        fit_last_layer(cast(nn.Module, signal.encoder), values, target)


def random_boxes(count: int, generator: torch.Generator) -> Tensor:
    """Boxes [count, 4] (centre x, centre y, width, height) inside the unit square, sides and places uniform."""
    sizes = SMALLEST + (1 - SMALLEST) * torch.rand(count, 2, generator=generator) ** 2
    return torch.cat([sizes / 2 + (1 - sizes) * torch.rand(count, 2, generator=generator), sizes], dim=1)


def coverage(boxes: Tensor, side: int) -> Tensor:
    """The share of each cell that a box covers: [R, 4] to [R, side, side]."""
    corners = box_cxcywh_to_xyxy(boxes)
    edges = torch.arange(side) / side
    x, y = (
        (torch.minimum(corners[:, [i + 2]], edges + 1 / side) - torch.maximum(corners[:, [i]], edges)).clamp(min=0)
        for i in (0, 1)
    )
    return y[:, :, None] * x[:, None, :] * side**2


@torch.no_grad()
def fit_last_layer(encoder: nn.Module, values: Tensor, target: Tensor) -> None:
    """Least squares for the encoder's last linear layer, so that values [R, ...] give target [R, H]."""
    last = [module for module in encoder.modules() if isinstance(module, nn.Linear)][-1]
    seen: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].double()))
    for part in values.to(last.weight.device).split(512):
        encoder(part)
    hook.remove()
    hidden = torch.cat(seen)
    hidden = torch.cat([hidden, hidden.new_ones(len(hidden), 1)], dim=1)
    gram = hidden.T @ hidden
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    solved = torch.linalg.solve(gram, hidden.T @ target.to(hidden))
    last.weight.copy_(solved[:-1].T)
    last.bias.copy_(solved[-1])
