"""What a region's code says before training: the words for its place, which the language model knows.

A code that starts as noise must first become something that attention can look places up with, and only the gradient of
whole answers tells it how; at a small share of such questions it hardly does. The words "top left" do that already. So
each encoder's last layer is fitted, in closed form, to the embeddings of such words, and training adds what is finer
than a third of the picture. The paper (section 3.1) does not say how its encoders start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..masks import mask_to_rle
from ..regions import Placement, Region
from .base import Signal

if TYPE_CHECKING:
    from ..chat import Chat

PLACES = (
    ("top left", "top middle", "top right"),
    ("middle left", "centre", "middle right"),
    ("bottom left", "bottom middle", "bottom right"),
)
EXAMPLES = 1024  # regions that an encoder is fitted to
SIDES = 0.12, 0.6  # of their boxes, as shares of the picture's
RIDGE = 1e-3  # of the mean square of the fitted layer's input


@torch.no_grad()
def start_codes(signals: Sequence[Signal], chat: Chat, table: Tensor, image_size: int, seed: int) -> None:
    """Fit the last linear layer of each signal's encoder, in place, so that a region's code names its place.

    Nothing is changed where the tokenizer cannot tell the places' words apart.

    Args:
        signals: those whose encoders embed regions; each sees a region alone.
        chat: its tokenizer turns words into ids.
        table: the language model's input embeddings, [V, H].
        image_size: side of the model's input in pixels.
        seed: of the regions.
    """
    words = place_codes(chat, table)
    if not signals or torch.equal(words, words[:1, :1].expand_as(words)):
        return
    regions = example_regions(image_size, np.random.default_rng(seed))
    targets = at_places(words, torch.tensor([region.box for region in regions]))
    placements = [Placement(image_size, image_size, image_size)] * len(regions)
    for signal in signals:
        values, present = signal.collate(regions, placements)
        _fit_last_layer(signal, values[present], targets[present])


def place_codes(chat: Chat, table: Tensor) -> Tensor:
    """The summed embeddings of the words for the nine parts of a picture, fp32 [3, 3, H], rows from the top."""
    rows = [[table[chat.words(words)].float().sum(0) for words in row] for row in PLACES]
    return torch.stack([torch.stack(row) for row in rows]).detach()


def at_places(codes: Tensor, boxes: Tensor) -> Tensor:
    """Codes [R, H] at the centres of boxes [R, 4] (xyxy in [0, 1]), linear between the parts' centres."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    grid = (2 * centres - 1).to(codes.dtype)[None, None]
    sampled = F.grid_sample(codes.permute(2, 0, 1)[None], grid, padding_mode="border", align_corners=False)
    return sampled[0, :, 0].T


def example_regions(image_size: int, rng: np.random.Generator, count: int = EXAMPLES) -> list[Region]:
    """Regions all over the picture, ellipses and rectangles in equal number."""
    sides = rng.uniform(*SIDES, (count, 2))
    corners = rng.uniform(0, 1 - sides)
    pixels = (np.arange(image_size) + 0.5) / image_size
    regions = []
    for index, ((x, y), (w, h)) in enumerate(zip(corners, sides, strict=True)):
        across, down = 2 * (pixels - x) / w - 1, 2 * (pixels - y) / h - 1
        if index % 2:
            inside = across[None] ** 2 + down[:, None] ** 2 <= 1
        else:
            inside = (abs(across)[None] <= 1) & (abs(down)[:, None] <= 1)
        regions.append(Region(box=(x, y, x + w, y + h), mask=mask_to_rle(inside.astype(np.uint8))))
    return regions


def _fit_last_layer(signal: Signal, values: Tensor, targets: Tensor) -> None:
    """Ridge regression of targets [R, H] on what the last linear layer of the signal's encoder is given."""
    last = [module for module in signal.encoder.modules() if isinstance(module, nn.Linear)][-1]
    seen: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    signal.encode(values)
    handle.remove()
    inputs = seen[0].double()
    middle, mean = inputs.mean(0), targets.double().mean(0)
    inputs, wanted = inputs - middle, targets.double() - mean
    gram = inputs.T @ inputs
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram, inputs.T @ wanted).T
    last.weight.copy_(weight)
    last.bias.copy_(mean - weight @ middle)
