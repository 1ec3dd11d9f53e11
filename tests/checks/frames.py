"""Solutions of notebooks 00 and 02: boxes and masks in other frames."""

from __future__ import annotations

import numpy as np
import torch

from pgpt_lib.regions import Placement, Region, mask_to_rle


def fractions_plain(bbox, height, width):
    x, y, w, h = bbox
    return max(0, x / width), max(0, y / height), min(1, (x + w) / width), min(1, (y + h) / height)


def fractions_numpy(bbox, height, width):
    corners = np.array([bbox[0], bbox[1], bbox[0] + bbox[2], bbox[1] + bbox[3]])
    return np.clip(corners / [width, height, width, height], 0.0, 1.0)


def fractions_torch(bbox, height, width):
    box = torch.tensor(bbox, dtype=torch.float64).view(2, 2)
    box[1] += box[0]
    return (box / torch.tensor([width, height])).clamp(0, 1).flatten()


def fractions_library(bbox, height, width):
    return Region.from_coco(bbox, None, height, width).box


def fractions_longest(bbox, height, width):
    x, y, w, h = bbox
    return np.clip(np.array([x, y, x + w, y + h]) / max(height, width), 0, 1)


def grid_reshape(mask, cells):
    h, w = mask.shape
    return mask.reshape(cells, h // cells, cells, w // cells).mean(axis=(1, 3))


def grid_loop(mask, cells):
    h, w = mask.shape[0] // cells, mask.shape[1] // cells
    return [[mask[i * h : (i + 1) * h, j * w : (j + 1) * w].mean() for j in range(cells)] for i in range(cells)]


def grid_pool(mask, cells):
    return torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(mask)[None, None], cells)[0, 0]


def grid_library(mask, cells):
    return Placement(*mask.shape, max(mask.shape)).mask_to_input(mask_to_rle(mask.astype(np.uint8)), cells)


def grid_sum(mask, cells):
    h, w = mask.shape
    return mask.reshape(cells, h // cells, cells, w // cells).sum(axis=(1, 3))


def grid_nearest(mask, cells):
    return mask[:: mask.shape[0] // cells, :: mask.shape[1] // cells]


def grid_maximum(mask, cells):
    return torch.nn.functional.adaptive_max_pool2d(torch.from_numpy(mask)[None, None], cells)[0, 0]


RIGHT = {
    "check_fractions": [fractions_plain, fractions_numpy, fractions_torch],
    "check_mask_grid": [grid_reshape, grid_loop, grid_pool],
}
WRONG = {
    "check_fractions": [
        (lambda b, h, w: (b[0] / w, b[1] / h, (b[0] + b[2]) / w, (b[1] + b[3]) / h), "cut it off"),
        (lambda b, h, w: fractions_plain(b, w, h), "exchanged height and width"),
        (lambda b, h, w: np.clip([b[0] / w, b[1] / h, b[2] / w, b[3] / h], 0, 1), "kept width and height"),
        (fractions_longest, "longer side"),
        (lambda b, h, w: fractions_numpy([b[0] - b[2] / 2, b[1] - b[3] / 2, *b[2:]], h, w), "centre"),
        (lambda b, h, w: (b[0], b[1], b[0] + b[2], b[1] + b[3]), "pixels still"),
        (fractions_library, "calls from_coco"),
    ],
    "check_mask_grid": [
        (grid_nearest, "its first"),
        (grid_maximum, "not the maximum"),
        (grid_sum, "divide by how many"),
        (lambda m, c: grid_reshape(m, c).round(), "rounded to 0 and 1"),
        (lambda m, c: grid_reshape(m, c).T, "transposed"),
        (lambda m, c: 1 - grid_reshape(m, c), "uncovered"),
        (lambda m, c: m.reshape(c, -1).mean(1), "bands that run from side to side"),
        (grid_library, "calls mask_to_input"),
    ],
}
