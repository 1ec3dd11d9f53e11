"""Scenes: which objects are where, in integers, drawn from a stream keyed by (purpose, split, seed, index)."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

import numpy as np

from .levels import COLOURS, SIZES, Level, get_level
from .templates import TURNS, solid


def stream(purpose: str, *key: object) -> random.Random:
    """A random stream of its own for every key, so that no result depends on order, batches or threads."""
    text = "/".join(map(str, (purpose, *key)))
    return random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest(), "big"))


@dataclass(frozen=True)
class Thing:
    """One object: its words, its template, and what is seen of it.

    `box` is the bounds of the visible mask in pixels, (x0, y0, x1, y1) with exclusive ends; `area` is the visible
    mask's; `layer` counts from the back: an object whose foot is lower in the picture stands nearer.
    """

    shape: str
    colour: str
    size: str
    material: str
    side: int
    turn: int
    left: int
    top: int
    layer: int
    box: tuple[int, int, int, int]
    area: int

    @property
    def centre(self) -> tuple[int, int]:
        """The visible box's centre in half pixels."""
        return self.box[0] + self.box[2], self.box[1] + self.box[3]

    def template(self) -> np.ndarray:
        """The hard mask before occlusion, cropped to its bounds."""
        return solid(self.shape, self.side, self.turn)


@dataclass(frozen=True)
class Scene:
    """Objects from back to front on a textured ground."""

    key: tuple[str, int, int]  # split, seed, index
    level: Level
    things: tuple[Thing, ...]

    @property
    def image_id(self) -> str:
        """The key as text, with the level: names the picture everywhere."""
        split, seed, index = self.key
        return f"{self.level.name}-{split}-{seed}-{index}"


def make_scene(level: str | Level, split: str, seed: int, index: int) -> Scene:
    """The scene of a key; the same on every platform and in any order of calls."""
    level = get_level(level) if isinstance(level, str) else level
    rng = stream("scene", level.name, split, seed, index)
    words = _words(level, rng)
    while True:
        things = _attempt(level, words, rng)
        if things is not None:
            return Scene((split, seed, index), level, things)


def _words(level: Level, rng: random.Random) -> list[tuple[str, str, str]]:
    """(shape, colour, material) of each object, drawn once, so that what fits easily is not seen more often."""
    words: list[tuple[str, str, str]] = []
    for i in range(rng.randint(*level.objects)):
        shape, colour = rng.choice(level.shapes), rng.choice(tuple(COLOURS))
        if i and rng.randrange(100) < level.repeat_shape:
            shape = rng.choice(words)[0]
        if i and rng.randrange(100) < level.repeat_colour:
            colour = rng.choice(words)[1]
        words.append((shape, colour, "striped" if rng.randrange(100) < level.striped else "plain"))
    return words


def _attempt(level: Level, words: list[tuple[str, str, str]], rng: random.Random) -> tuple[Thing, ...] | None:
    """One try at a scene's sides and places; None if it does not fit."""
    size = level.image_size
    plans: list[tuple[str, str, str, str, int]] = []
    for shape, colour, material in words:
        band = rng.choices(range(3), level.band_weights[len(words)])[0]
        plans.append((shape, colour, SIZES[band], material, rng.randint(*level.bands[band])))
    if 100 * sum(p[4] ** 2 for p in plans) > level.crowding * size * size:
        return None
    placed: list[tuple[int, int, int, int]] = []
    turns: list[int] = []
    for shape, colour, _, _, side in plans:
        turn = rng.randrange(TURNS.get(shape, 1))
        height, width = solid(shape, side, turn).shape
        for _ in range(20):
            x, y = rng.randint(0, size - width), rng.randint(0, size - height)
            box = (x, y, x + width, y + height)
            if all(
                _may_stand(level, box, other, colour == plan[1]) for other, plan in zip(placed, plans, strict=False)
            ):
                placed.append(box)
                turns.append(turn)
                break
        else:
            return None
    order = sorted(range(len(plans)), key=lambda i: placed[i][3])  # what stands lower is nearer, as on a floor
    return _with_visible_parts(level, *([seq[i] for i in order] for seq in (plans, placed, turns)))


def _with_visible_parts(level, plans, placed, turns) -> tuple[Thing, ...] | None:
    """Things with the bounds and areas of what later ones leave visible; None if too much is hidden."""
    things = []
    for i, ((shape, colour, band, material, side), box, turn) in enumerate(zip(plans, placed, turns, strict=True)):
        mask = solid(shape, side, turn)
        area = full = int(np.count_nonzero(mask))
        left, top = box[:2]
        above = [j for j in range(i + 1, len(plans)) if _shared(box, placed[j])]
        if above:
            mask = mask.copy()
            for j in above:
                hide(mask, left, top, solid(plans[j][0], plans[j][4], turns[j]), placed[j])
            area = int(np.count_nonzero(mask))
            if 100 * (full - area) > level.hidden * full:
                return None
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = (left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1)
        things.append(Thing(shape, colour, band, material, side, turn, left, top, i, box, area))
    return tuple(things)


def hide(mask: np.ndarray, left: int, top: int, front: np.ndarray, box: tuple[int, int, int, int]) -> None:
    """Clear from `mask`, whose corner is (left, top), what `front` at `box` covers."""
    x0, y0 = max(left, box[0]), max(top, box[1])
    x1, y1 = min(left + mask.shape[1], box[2]), min(top + mask.shape[0], box[3])
    if x0 < x1 and y0 < y1:
        mask[y0 - top : y1 - top, x0 - left : x1 - left] &= ~front[y0 - box[1] : y1 - box[1], x0 - box[0] : x1 - box[0]]


def _may_stand(
    level: Level, box: tuple[int, int, int, int], other: tuple[int, int, int, int], same_colour: bool
) -> bool:
    """Whether two boxes overlap little enough; not at all in one colour, where nobody could tell them apart."""
    shared = _shared(box, other)
    return shared == 0 if same_colour else 100 * shared <= level.overlap * min(_area(box), _area(other))


def _area(box: tuple[int, int, int, int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _shared(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> int:
    """The area that two boxes share."""
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
