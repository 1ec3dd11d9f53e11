"""Equation 1 of the paper: the layers of the vision tower as one feature map."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import InputError

Strategy = Literal["learned", "mean", "last", "second_last"]


class LayerFusion(nn.Module):
    """A weighted sum over layers: fused = sum_l w_l * h_l (section 3.1, equation 1).

    `learned` takes w = softmax(a) with a trainable, from zero, so it starts as the mean; `mean`, `last` and
    `second_last` (LLaVA's choice) are fixed and have no parameter. The raw layers of a ViT differ in norm by an order
    of magnitude, so that in a plain sum the last ones drown the others and the weights say little: `normalise` puts a
    LayerNorm without affine on every layer and token first.

    Args:
        num_layers: L.
        strategy: one of the four above.
        normalise: normalise each layer, or sum them raw.
        exclude_last: give the last layer no weight, as the released code does. The logits stay L, so that aligned ones
            fit.

    Raises:
        InputError: an unknown strategy, or too few layers for it.
    """

    def __init__(
        self, num_layers: int, strategy: Strategy = "learned", normalise: bool = True, exclude_last: bool = False
    ) -> None:
        super().__init__()
        if strategy not in get_args(Strategy):
            raise InputError(f"fusion strategy {strategy!r} is unknown; there are {', '.join(get_args(Strategy))}")
        if num_layers < (2 if strategy == "second_last" or exclude_last else 1):
            raise InputError(f"fusion strategy {strategy!r} cannot take num_layers {num_layers}")
        if exclude_last and strategy in ("last", "second_last"):
            raise InputError(f"fusion strategy {strategy!r} takes one layer; the last cannot be excluded")
        self.num_layers, self.strategy, self.normalise = num_layers, strategy, normalise
        self.num_fused = num_layers - exclude_last  # from the first
        if strategy == "learned":
            self.logits = nn.Parameter(torch.zeros(num_layers))
        else:
            every = range(self.num_fused)
            chosen = {"mean": every, "last": [num_layers - 1], "second_last": [num_layers - 2]}[strategy]
            fixed = torch.zeros(num_layers)
            fixed[list(chosen)] = 1 / len(chosen)
            self.fixed: Tensor
            self.register_buffer("fixed", fixed, persistent=False)

    def weights(self) -> Tensor:
        """The weights w [L], float32; they sum to 1."""
        if self.strategy != "learned":
            return self.fixed
        return F.pad(self.logits[: self.num_fused].float().softmax(0), (0, self.num_layers - self.num_fused))

    def forward(self, layers: Tensor) -> Tensor:
        """Layers [B, L, N, C] in any float type to the fused map [B, N, C] in float32.

        Raises:
            InputError: another number of layers than this fusion was made for.
        """
        if layers.dim() != 4 or layers.shape[1] != self.num_layers:
            raise InputError(f"fusion takes [B, {self.num_layers}, N, C], not {list(layers.shape)}")
        used = {"last": [-1], "second_last": [-2]}.get(self.strategy, range(self.num_fused))
        weights = self.weights()
        fused = layers.new_zeros((), dtype=torch.float32)
        # layer by layer: one layer in float32 stays in the CPU's cache, all of them do not (a quarter of the time)
        for index in used:
            layer = layers[:, index].float()
            if self.normalise:
                layer = F.layer_norm(layer, layer.shape[-1:])
            fused = fused + weights[index] * layer
        return fused
