"""Solutions of notebook 02's last exercise."""

from __future__ import annotations

import torch
from torch import nn

from pgpt_lib.signals import Signal
from pgpt_lib.signals.base import MLP


class Point(Signal):
    """As the library's own signals are written."""

    name = "point"
    loss_names = ("point",)

    def __init__(self, hidden_size, feature_size, grid):
        super().__init__(hidden_size, feature_size, grid)
        self.encoder, self.decoder = MLP(2, 64, hidden_size), MLP(hidden_size, 64, 2)

    def collate(self, regions, placements):
        values = torch.zeros(len(regions), 2)
        for row, region, placement in zip(values, regions, placements, strict=True):
            if region.box:
                x1, y1, x2, y2 = placement.box_to_input(region.box)
                row[0], row[1] = (x1 + x2) / 2, (y1 + y2) / 2
        return values, torch.tensor([region.box is not None for region in regions])

    def encode(self, values):
        return self.encoder(values)

    def decode(self, state, features, image_index=None):
        return self.decoder(state).sigmoid()

    def loss_terms(self, prediction, values):
        return {"point": (prediction - values).abs().mean()}

    def restore(self, prediction, placement, threshold=0.5):
        x, y = prediction.tolist()
        return {"point": placement.box_from_input((x, y, x, y))[:2]}


class PointByHand(Point):
    """Its own networks, a squared error, and the placement's arithmetic spelled out."""

    def __init__(self, hidden_size, feature_size, grid):
        Signal.__init__(self, hidden_size, feature_size, grid)
        self.first, self.second = nn.Linear(2, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.third, self.fourth = nn.Linear(hidden_size, 64), nn.Linear(64, 2)

    def collate(self, regions, placements):
        rows = []
        for region, placement in zip(regions, placements, strict=True):
            left, top, w, h = placement.inner
            x1, y1, x2, y2 = region.box or (0, 0, 0, 0)
            rows.append([(left + (x1 + x2) / 2 * w) / placement.size, (top + (y1 + y2) / 2 * h) / placement.size])
        return torch.tensor(rows), torch.tensor([bool(region.box) for region in regions])

    def encode(self, values):
        return self.second(self.first(values).tanh())

    def decode(self, state, features, image_index=None):
        return torch.sigmoid(self.fourth(self.third(state).relu()))

    def loss_terms(self, prediction, values):
        return {"point": nn.functional.mse_loss(prediction, values)}

    def restore(self, prediction, placement, threshold=0.5):
        left, top, w, h = placement.inner
        x, y = (prediction * placement.size).tolist()
        return {"point": ((x - left) / w, (y - top) / h)}


class PointInWaves(Point):
    """Encodes with fixed waves, and keeps within [0, 1] by clamping a linear output."""

    def __init__(self, hidden_size, feature_size, grid):
        Signal.__init__(self, hidden_size, feature_size, grid)
        self.register_buffer("rates", torch.tensor([1.0, 2.0, 4.0]))
        self.mix, self.out = nn.Linear(14, hidden_size), MLP(hidden_size, 64, 2)

    def encode(self, values):
        angles = (values[:, :, None] * self.rates).flatten(1)
        return self.mix(torch.cat([values, angles.sin(), angles.cos()], 1))

    def decode(self, state, features, image_index=None):
        return (torch.tanh(self.out(state)) + 1) / 2


class OnTheOriginal(Point):
    def collate(self, regions, placements):
        boxes = torch.tensor([region.box or (0.0,) * 4 for region in regions])
        return (boxes[:, :2] + boxes[:, 2:]) / 2, torch.tensor([region.box is not None for region in regions])

    def restore(self, prediction, placement, threshold=0.5):
        return {"point": prediction.tolist()}


class NotBrought(Point):
    def restore(self, prediction, placement, threshold=0.5):
        return {"point": tuple(prediction.tolist())}


class AlwaysPresent(Point):
    def collate(self, regions, placements):
        values, present = super().collate(regions, placements)
        return values, torch.ones_like(present)


class Corner(Point):
    def collate(self, regions, placements):
        boxes = [p.box_to_input(r.box) if r.box else (0.0,) * 4 for r, p in zip(regions, placements, strict=True)]
        return torch.tensor(boxes)[:, :2], torch.tensor([region.box is not None for region in regions])


class Unbounded(Point):
    def decode(self, state, features, image_index=None):
        return self.decoder(state)


class Detached(Point):
    def encode(self, values):
        return self.encoder(values).detach()


class Constant(Point):
    def decode(self, state, features, image_index=None):
        return self.decoder(0 * state).sigmoid()


class OtherName(Point):
    loss_names = ("l1",)


class Sum(Point):
    def loss_terms(self, prediction, values):
        return {"point": (prediction - values).abs()}


RIGHT = {"check_point_signal": [Point, PointByHand, PointInWaves]}
WRONG = {
    "check_point_signal": [
        (OnTheOriginal, "on the original picture"),
        (NotBrought, "leaves the point on the model's square"),
        (AlwaysPresent, "present must be True where"),
        (Corner, "upper left corner"),
        (Unbounded, "sigmoid"),
        (Detached, "training does not reach encoder"),
        (Constant, "training does not reach"),
        (OtherName, "loss_names"),
        (Sum, "one number"),
        (lambda hidden, features, grid: nn.Linear(hidden, 2), "no Signal"),
    ]
}
