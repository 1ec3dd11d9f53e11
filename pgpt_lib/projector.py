"""Projector from visual tokens to the embedding space of the language model."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn


class Projector(nn.Module):
    """From visual features to language-model embeddings, plus a learned position per token.

    The position embedding tells the language model where on the grid a token lies; without it the tokens of a
    frozen tower with weak positional content would be interchangeable. It starts at zero, so that a fresh
    projector is a plain MLP.

    "mlp" has two layers (LLaVA-1.5's), "linear" one (LLaVA's first, and the paper's "projection layer").

    Args:
        in_features: width C of the visual tokens.
        out_features: width H of the language model.
        num_tokens: number N of visual tokens of an image.
        kind: "mlp" or "linear".
    """

    def __init__(
        self, in_features: int, out_features: int, num_tokens: int, kind: Literal["mlp", "linear"] = "mlp"
    ) -> None:
        super().__init__()
        wide = 2 * out_features if kind == "mlp" else out_features
        self.fc1 = nn.Linear(in_features, wide)
        self.act = nn.GELU() if kind == "mlp" else nn.Identity()
        self.fc2 = nn.Linear(wide, out_features) if kind == "mlp" else nn.Identity()
        self.position = nn.Parameter(torch.zeros(num_tokens, out_features))

    def forward(self, features: Tensor) -> Tensor:
        """Map visual tokens [B, N, C] to embeddings [B, N, H]."""
        return self.fc2(self.act(self.fc1(features))) + self.position
