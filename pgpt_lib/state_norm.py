"""Standardising the states that signals read, for language models that were pretrained by others.

Behind an answer's header the states of such a model are nearly one and the same vector, whatever was asked: a few
channels are fifty times as large as the rest, and what tells two questions apart is a tenth of the length. A fresh
decoder hardly learns from that. So the common part is measured once, on the untuned model, and taken off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from .data.phrasings import PHRASINGS
from .data.sample import VIS, Sample, Turn

if TYPE_CHECKING:
    from .model import PerceptionGPT

GREY = 128  # of the picture that the questions are about
LEAST = 0.05  # standard deviation below which a channel is not magnified further


class StateNorm(nn.Module):
    """States [..., H] to (state - shift) * scale, channel by channel; both are trained along.

    Args:
        width: H of the language model's states.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, states: Tensor) -> Tensor:
        return (states.float() - self.shift) * self.scale

    def calibrate(self, states: Tensor) -> None:
        """Start from the mean and standard deviation of some states [S, H], so that these have 0 and 1."""
        with torch.no_grad():
            self.shift.copy_(states.mean(0))
            self.scale.copy_(1 / states.std(0).clamp(min=LEAST))


@torch.no_grad()
def header_states(model: PerceptionGPT) -> Tensor:
    """The states behind an answer's header, [S, H], for every way of asking that the project has.

    All questions are about a grey picture: no data set is needed, and a model is the same wherever it is built.
    """
    texts = [p.replace("{x}", "thing").replace(VIS, "it") for phrasings in PHRASINGS.values() for p in phrasings]
    size = model.tower.image_size
    samples = [Sample(f"header-{i}", "grey", (size, size), (Turn("user", text),)) for i, text in enumerate(texts)]
    picture = np.full((size, size, 3), GREY, np.uint8)
    batch = model.collate(samples, pixel_values=lambda _: model.tower.preprocess([picture]), generation=True)
    batch = batch.to(model.projector.position.device)
    embeds = model.embed(batch, model.see(batch)[0], model.embedding_tables()[0])
    positions = (batch.attention_mask.cumsum(1) - 1).clamp(min=0)
    hidden = model.decoder(
        inputs_embeds=embeds, attention_mask=batch.attention_mask, position_ids=positions, use_cache=False
    )
    return hidden.last_hidden_state[:, -1].float()
