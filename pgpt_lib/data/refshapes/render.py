"""Pictures and masks of scenes, in integer arithmetic: the same bytes on every platform."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .levels import COLOURS
from .scene import Scene, Thing, hide, stream
from .templates import FULL, coverage, solid

_GROUNDS = ((128, 128, 128), (140, 125, 105), (105, 125, 140), (118, 132, 112), (135, 112, 128))
_CELL = 16  # side of the coarse texture's cells in pixels


def _noise(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Bytes of a counter-based generator, whose raw stream is fixed by its definition."""
    words = -(-int(np.prod(shape)) // 8)
    raw = np.random.Philox(key=seed).random_raw(words).astype("<u8")
    return raw.view(np.uint8)[: int(np.prod(shape))].reshape(shape)


@lru_cache(maxsize=8)
def _ramp(size: int) -> tuple[np.ndarray, np.ndarray]:
    position = np.arange(size)
    return position // _CELL, (position % _CELL).astype(np.int32)


def background(scene: Scene) -> np.ndarray:
    """A muted ground with coarse patches and fine grain: int32, (size, size, 3)."""
    rng = stream("ground", scene.image_id)
    size = scene.level.image_size
    base = np.array(_GROUNDS[rng.randrange(len(_GROUNDS))], dtype=np.int32)
    cells = -(-size // _CELL) + 1
    coarse = _noise(rng.getrandbits(64), (cells, cells)).astype(np.int32) // 6  # 0 to 42
    at, offset = _ramp(size)
    rows = coarse[at] * (_CELL - offset)[:, None] + coarse[at + 1] * offset[:, None]
    patches = (rows[:, at] * (_CELL - offset) + rows[:, at + 1] * offset) // (_CELL * _CELL)
    grain = _noise(rng.getrandbits(64), (size, size)).astype(np.int32) // 22  # 0 to 11
    return base + (patches + grain - 27)[:, :, None]


def _paint(thing: Thing, rng) -> np.ndarray:
    """The object's own colour at each pixel of its template: int32, (height, width, 3)."""
    cover = coverage(thing.shape, thing.side, thing.turn)
    shade = rng.randint(-12, 12)
    colour = np.array(COLOURS[thing.colour], dtype=np.int32) + shade
    paint = np.broadcast_to(colour, (*cover.shape, 3))
    if thing.material == "striped":
        period = max(6, thing.side // 5)
        y, x = np.ogrid[: cover.shape[0], : cover.shape[1]]
        dark = ((x + y) % period < period // 2)[:, :, None]
        other = colour + 95 if thing.colour == "black" else colour * 11 // 20
        paint = np.where(dark, other, paint)
    return paint


def render(scene: Scene) -> np.ndarray:
    """The picture: uint8, (size, size, 3), RGB."""
    canvas = background(scene)
    rng = stream("paint", scene.image_id)
    for thing in scene.things:
        cover = coverage(thing.shape, thing.side, thing.turn).astype(np.int32)[:, :, None]
        height, width = cover.shape[:2]
        window = canvas[thing.top : thing.top + height, thing.left : thing.left + width]
        window[:] = (_paint(thing, rng) * cover + window * (FULL - cover)) // FULL
    return canvas.clip(0, 255).astype(np.uint8)


def masks(scene: Scene) -> np.ndarray:
    """Each object's visible pixels: bool, (objects, size, size), back to front."""
    size = scene.level.image_size
    out = np.zeros((len(scene.things), size, size), dtype=bool)
    for i, thing in enumerate(scene.things):
        mask = thing.template().copy()
        for front in scene.things[i + 1 :]:
            shape = solid(front.shape, front.side, front.turn)
            box = (front.left, front.top, front.left + shape.shape[1], front.top + shape.shape[0])
            hide(mask, thing.left, thing.top, shape, box)
        out[i, thing.top : thing.top + mask.shape[0], thing.left : thing.left + mask.shape[1]] = mask
    return out
