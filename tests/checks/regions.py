"""Solutions of notebooks 00 and 02."""

from __future__ import annotations

import math

import numpy as np
import torch
from pycocotools import _mask as compiled
from pycocotools import mask as coco


def bounds_any(bitmap):
    rows, columns = bitmap.any(axis=1), bitmap.any(axis=0)
    if not rows.any():
        return None
    x, y = np.flatnonzero(columns), np.flatnonzero(rows)
    return [x[0], y[0], x[-1] + 1, y[-1] + 1]


def bounds_loop(bitmap):
    found = [(x, y) for y, row in enumerate(bitmap.tolist()) for x, value in enumerate(row) if value]
    if found:
        xs, ys = zip(*found, strict=True)
        return min(xs), min(ys), max(xs) + 1, max(ys) + 1


def bounds_coco(bitmap):
    x, y, w, h = coco.toBbox(coco.encode(np.asfortranarray(bitmap, np.uint8)))
    return (x, y, x + w, y + h) if w else None


def bounds_compiled(bitmap):
    x, y, w, h = compiled.toBbox(compiled.encode(np.asfortranarray(bitmap[..., None], np.uint8)))[0]
    return (x, y, x + w, y + h) if w else None


def rle_coco(counts, height, width):
    runs = coco.frPyObjects({"counts": counts, "size": [height, width]}, height, width)
    return coco.decode(runs)


def rle_compiled(counts, height, width):
    return compiled.decode([coco.frPyObjects({"counts": counts, "size": [height, width]}, height, width)])[..., 0]


def bounds_argwhere(bitmap):
    places = np.argwhere(bitmap)
    return None if len(places) == 0 else np.concatenate([places.min(0)[::-1], places.max(0)[::-1] + 1])


def bounds_inclusive(bitmap):
    places = np.argwhere(bitmap)
    return None if len(places) == 0 else np.concatenate([places.min(0)[::-1], places.max(0)[::-1]])


def bounds_rows_first(bitmap):
    places = np.argwhere(bitmap)
    return None if len(places) == 0 else np.concatenate([places.min(0), places.max(0) + 1])


def bounds_xywh(bitmap):
    box = bounds_any(bitmap)
    return box and (box[0], box[1], box[2] - box[0], box[3] - box[1])


def bounds_zero(bitmap):
    return bounds_any(bitmap) or (0, 0, 0, 0)


def bounds_careless(bitmap):
    places = np.argwhere(bitmap)
    return np.concatenate([places.min(0)[::-1], places.max(0)[::-1] + 1])


def bounds_erasing(bitmap):
    box = bounds_any(bitmap)
    bitmap[:] = 0
    return box


def rle_repeat(counts, height, width):
    return np.repeat(np.arange(len(counts)) % 2, counts).reshape(width, height).T


def rle_loop(counts, height, width):
    bitmap, place, value = np.zeros((height, width)), 0, 0
    for run in counts:
        for _ in range(run):
            bitmap[place % height, place // height] = value
            place += 1
        value = 1 - value
    return bitmap


def rle_list(counts, height, width):
    flat = [bit for i, run in enumerate(counts) for bit in [i % 2] * run]
    return [[flat[x * height + y] for x in range(width)] for y in range(height)]


def rle_rows(counts, height, width):
    return np.repeat(np.arange(len(counts)) % 2, counts).reshape(height, width)


def rle_ones_first(counts, height, width):
    return 1 - rle_repeat(counts, height, width)


def rle_transposed(counts, height, width):
    return np.repeat(np.arange(len(counts)) % 2, counts).reshape(width, height)


def rle_skips_zero(counts, height, width):
    return rle_repeat([run for run in counts if run > 0], height, width)


def centre_unbind(boxes):
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], dim=-1)


def centre_numpy(boxes):
    boxes = boxes.numpy()
    size = boxes[:, 2:] - boxes[:, :2]
    return np.hstack([boxes[:, :2] + size / 2, size])


def centre_list(boxes):
    return [[0.5 * (a + c), 0.5 * (b + d), c - a, d - b] for a, b, c, d in boxes.tolist()]


def centre_matrix(rows):
    return lambda boxes: boxes @ torch.tensor(rows, dtype=torch.float32).T


def centre_in_place(boxes):
    boxes[:, 2:] -= boxes[:, :2]
    boxes[:, :2] += boxes[:, 2:] / 2
    return boxes


def code_sines(grid, size):
    waves = torch.arange(grid)[:, None] / grid * math.pi * torch.arange(1, size // 4 + 1)
    axis = torch.cat([waves.sin(), waves.cos()], 1)
    x, y = axis[None].expand(grid, grid, -1), axis[:, None].expand(grid, grid, -1)
    return torch.cat([x, y], -1).reshape(grid * grid, size)


def code_transformer(grid, size):
    rates = 10000.0 ** (-np.arange(size // 4) / (size // 4))
    y, x = np.divmod(np.arange(grid * grid), grid)
    return np.concatenate([f(p[:, None] * rates) for p in (x, y) for f in (np.sin, np.cos)], axis=1)


def code_one_hot(grid, size):
    code = torch.zeros(grid, grid, size)
    for i in range(grid):
        code[:, i, i] = code[i, :, size // 2 + i] = 1
    return code.flatten(0, 1)


def code_x_only(grid, size):
    return code_sines(grid, size).view(grid, grid, size)[:1].expand(grid, -1, -1).reshape(grid * grid, size)


def code_scrambled(grid, size):
    """[size, grid, grid] read as if it were [grid, grid, size]."""
    half = torch.arange(grid * grid).view(1, grid, grid) % grid / grid
    code = torch.zeros(grid, grid, size)
    code[:, :, : size // 2] = half[0][:, :, None]
    code[:, grid // 2 :, size // 2 :] = torch.arange(grid)[:, None, None] / grid
    return code.flatten(0, 1)


def code_added(grid, size):
    waves = torch.arange(grid)[:, None] / grid * math.pi * torch.arange(1, size + 1) / 2
    axis = waves.sin()
    return (axis[None] + axis[:, None]).reshape(grid * grid, size) / 2


def code_fast_waves(grid, size):
    waves = torch.arange(grid)[:, None] * math.pi * torch.ones(size // 4)
    axis = torch.cat([waves.sin(), waves.cos()], 1)
    x, y = axis[None].expand(grid, grid, -1), axis[:, None].expand(grid, grid, -1)
    return torch.cat([x, y], -1).reshape(grid * grid, size)


def code_random(grid, size):
    return np.random.default_rng().normal(size=(grid * grid, size))


def code_raw(grid, size):
    return torch.arange(grid * grid)[:, None].expand(-1, size)


RIGHT = {
    "check_mask_bounds": [bounds_any, bounds_loop, bounds_argwhere],
    "check_rle": [rle_repeat, rle_loop, rle_list],
    "check_cxcywh": [centre_unbind, centre_numpy, centre_list],
    "check_position_code": [code_sines, code_transformer, code_one_hot],
}
WRONG = {
    "check_mask_bounds": [
        (bounds_inclusive, "exclusive"),
        (bounds_rows_first, "exchanged rows and columns"),
        (bounds_xywh, "width and height in place"),
        (bounds_zero, "empty mask has no box"),
        (bounds_careless, "raised ValueError for an empty mask"),
        (bounds_erasing, "changes its input"),
        (lambda bitmap: None, "return statement"),
        (bounds_coco, "toBbox, which is the answer already"),
        (bounds_compiled, "toBbox, which is the answer already"),
    ],
    "check_rle": [
        (rle_rows, "rows first"),
        (rle_ones_first, "counts the zeros"),
        (rle_transposed, "transpose"),
        (rle_skips_zero, "first run"),
        (lambda c, h, w: rle_repeat(c, h, w)[:, ::-1], "mirrored from left to right"),
        (rle_coco, "decode, which is the answer already"),
        (rle_compiled, "decode, which is the answer already"),
    ],
    "check_cxcywh": [
        (centre_matrix([[1, 0, 0, 0], [0, 1, 0, 0], [-1, 0, 1, 0], [0, -1, 0, 1]]), "upper left corner"),
        (centre_matrix([[0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]]), "halved"),
        (centre_matrix([[1, 0, 1, 0], [0, 1, 0, 1], [-1, 0, 1, 0], [0, -1, 0, 1]]), "sum of the corners"),
        (centre_matrix([[-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5], [-1, 0, 1, 0], [0, -1, 0, 1]]), "add x1, y1"),
        (
            centre_matrix([[0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5], [0, -1, 0, 1], [-1, 0, 1, 0]]),
            "exchanged width and height",
        ),
        (centre_in_place, "changes its input"),
    ],
    "check_position_code": [
        (code_x_only, "knows x only"),
        (lambda g, s: code_x_only(g, s).view(g, g, s).transpose(0, 1).reshape(g * g, s), "knows y only"),
        (code_scrambled, "order of the axes"),
        (code_added, "share one code"),
        (code_fast_waves, "repeat within the image"),
        (code_random, "two calls"),
        (code_raw, "grows with the place"),
        (lambda g, s: torch.ones(g * g, s), "all cells share one code"),
        (lambda g, s: code_sines(g, s).view(g, g, s), "not one row for each cell"),
    ],
}
