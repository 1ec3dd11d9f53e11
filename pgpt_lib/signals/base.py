"""What a perception signal is: a pair of lightweight networks around one embedding of the language model, and a loss.

Paper, section 3.1: an encoder maps the signal to the dynamic embedding of `<vis>`, a decoder restores it from the
language model's state. Everything that the rest of the library knows of a signal is the interface in this file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..regions import Placement, Region


class Signal(nn.Module, ABC):
    """One kind of perception signal (a box, a mask, ...): encoder, decoder, loss and the way back to a region.

    Shapes: R regions, H the language model's width, N = grid x grid visual tokens of C channels. *Values* are a
    signal's targets and the encoder's input, in the frame of the model's square input; a *prediction* is what the
    decoder makes of a state. Both have R rows.

    Attributes:
        name: the key in `SIGNALS`, in a profile and in `model.signals`.
        loss_names: the terms that `losses` returns; a profile weighs them by these names (1 where it names none).
        uses_features: whether `decode` looks at the visual features.
        encoder: the module that `encode` runs; it is frozen where a signal is only read from states, and has a learning
            rate of its own (`training.encoder_lr`) where it is not.
    """

    name: ClassVar[str]
    loss_names: ClassVar[tuple[str, ...]]
    uses_features: ClassVar[bool] = False
    encoder: nn.Module

    def __init__(self, hidden_size: int, feature_size: int, grid: int) -> None:
        super().__init__()
        self.hidden_size, self.feature_size, self.grid = hidden_size, feature_size, grid

    @abstractmethod
    def collate(self, regions: Sequence[Region], placements: Sequence[Placement]) -> tuple[Tensor, Tensor]:
        """Regions to tensors.

        Args:
            regions: R regions in the frame of their original image.
            placements: for each region, how its image lies in the model's input.

        Returns:
            values [R, ...] in fp32, harmless numbers where the signal is absent, and present [R], bool.
        """

    @abstractmethod
    def encode(self, values: Tensor) -> Tensor:
        """Values [R, ...] to embeddings [R, H]."""

    @abstractmethod
    def decode(self, state: Tensor, features: Tensor, image_index: Tensor | None = None) -> Tensor:
        """States to predictions [R, ...].

        Args:
            state: [R, H], the language model's last hidden state where it predicts `<vis>`.
            features: [R, N, C], the fused visual features of each region's image; or [I, N, C] with `image_index`.
            image_index: [R], which of `features` is each region's image. Several regions of an image then share its
                projection.
        """

    @abstractmethod
    def loss_terms(self, prediction: Tensor, values: Tensor) -> dict[str, Tensor]:
        """The loss of rows that all have the signal: fp32 scalars under the keys `loss_names`."""

    @abstractmethod
    def restore(self, prediction: Tensor, placement: Placement, threshold: float = 0.5) -> dict[str, Any]:
        """One prediction (a row, without R) as fields of a `Region` in the frame of the original image.

        A signal that a `Region` has no field for gives its value under the signal's own name.

        Args:
            prediction: a row of `decode`'s result.
            placement: how the image lies in the model's input.
            threshold: the probability from which a pixel counts, for signals that have one.
        """

    def to_values(self, prediction: Tensor) -> Tensor:
        """A prediction as values, so that a decoded region can be fed back: `encode(to_values(decode(...)))`."""
        return prediction

    def embed(self, values: Tensor, present: Tensor) -> Tensor:
        """Embeddings [R, H] of the rows that have the signal, zeros elsewhere.

        Only present rows are computed. With none at all, one dummy row runs and counts zero times, so that every
        parameter has a gradient in every batch (what distributed training demands).
        """
        out = values.new_zeros(len(values), self.hidden_size)
        if not present.any():
            return out + 0.0 * self.encode(values.new_zeros(1, *values.shape[1:])).sum()
        codes = self.encode(values[present])
        return out.to(codes.dtype).masked_scatter(present[:, None], codes)

    def losses(self, prediction: Tensor, values: Tensor, present: Tensor) -> dict[str, Tensor]:
        """The loss terms over the rows that have the signal, computed in fp32 even under autocast.

        Args:
            prediction: [R, ...] from `decode`.
            values: [R, ...] from `collate`.
            present: [R], bool.

        Returns:
            A scalar for each of `loss_names`. Where no row is present each is a differentiable zero, so that the
            decoder's parameters have a gradient in every batch.
        """
        with torch.autocast(prediction.device.type, enabled=False):
            if not present.any():
                zero = 0.0 * prediction.float().sum()
                return dict.fromkeys(self.loss_names, zero)
            return self.loss_terms(prediction[present].float(), values[present].float())


class MLP(nn.Sequential):
    """Linear layers with GELU between them: `MLP(4, 256, 256, 128)` is the paper's three-layer box encoder.

    It computes in fp32 even under autocast: a coordinate in bf16 is exact to 1/256 only, more than a pixel.
    """

    def __init__(self, *sizes: int) -> None:
        layers: list[nn.Module] = []
        for size_in, size_out in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Linear(size_in, size_out), nn.GELU()]
        super().__init__(*layers[:-1])

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())
