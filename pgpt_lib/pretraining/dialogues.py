"""Dialogues in words about scenes, packed to a fixed length: the only data that nano is pretrained on.

A batch is a pure function of (stage, level, step), so that a killed pretraining goes on exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..data.refshapes.levels import LEVELS, Level
from ..data.refshapes.questions import OTHER, SCORED, ask
from ..data.refshapes.render import masks
from ..data.refshapes.scene import Scene, make_scene, stream
from ..data.refshapes.vocabulary import make_tokenizer
from ..data.refshapes.world import image_id, scene_of

IGNORE = -100
GRID = 8  # cells a side in place of visual tokens
KINDS = (*SCORED, *OTHER)
_EASY = replace(LEVELS["cpu"], name="words", objects=(2, 3), repeat_shape=0, repeat_colour=0, striped=0)

# The curriculum (one entry a level): the scenes and how often each kind of question is asked.
CURRICULUM: tuple[tuple[Level, dict[str, float]], ...] = (
    (_EASY, {"colour": 1, "shape": 1}),
    (_EASY, {"colour": 0.5, "shape": 0.5, "place": 5, "fact shape": 0.2}),
    (LEVELS["cpu"], {"colour": 2, "shape": 2, "place": 5, "existence": 2, "fact shape": 0.3}),
    (
        LEVELS["cpu"],
        {
            "colour": 2,
            "shape": 2,
            "place": 5,
            "size": 2,
            "count": 3.5,
            "existence": 2,
            "naming": 0.7,
            "relation": 2,
            "fine place": 1.2,
            "fact": 0.7,
            "fact shape": 0.3,
            "material": 0.7,
            "order": 0.4,
            "caption": 0.5,
            "list": 0.4,
            "digits": 0.5,
            "ordinal": 0.4,
        },
    ),
)
GATES = (0.95, 0.9, 0.88)  # running accuracy that opens the next level


@dataclass(frozen=True)
class Codes:
    """Words to ids, and the marks of the chat format."""

    vocabulary: dict[str, int]

    def encode(self, text: str) -> list[int]:
        """Ids of words that are separated by blanks and all in the vocabulary."""
        return [self.vocabulary[word] for word in text.split()]


def codes() -> Codes:
    """The codes of the bundled tokenizer."""
    return Codes(make_tokenizer().get_vocab())


def pack(
    scene: Scene, rng, mix: dict[str, float], length: int, code: Codes, simple: bool = False
) -> tuple[list[int], list[int], list[int]]:
    """Questions and answers about one scene until the length is full.

    Args:
        simple: name objects by their words alone.

    Returns:
        ids, labels (answers and end marks only) and for each position the running number of its answer times 100 plus
        its kind's number, or -1; each padded to `length`.
    """
    marks = code.vocabulary
    ids: list[int] = []
    labels: list[int] = []
    answers: list[int] = []
    kinds, weights = list(mix), list(mix.values())
    number = 0
    for _ in range(12):
        kind = rng.choices(kinds, weights)[0]
        question = ask(scene, rng, kind, simple=simple)
        if question is None:
            continue
        prompt = [marks["<user>"], *code.encode(question[1]), marks["<assistant>"]]
        answer = [*code.encode(question[2]), marks["<end>"]]
        if len(ids) + len(prompt) + len(answer) > length:
            if len(ids) > length - 12:
                break
            continue
        ids += prompt + answer
        labels += [IGNORE] * len(prompt) + answer
        answers += [-1] * len(prompt) + [100 * number + KINDS.index(kind)] * len(answer)
        number += 1
    padding = length - len(ids)
    return ids + [marks["<pad>"]] * padding, labels + [IGNORE] * padding, answers + [-1] * padding


def word_grid(scene: Scene, code: Codes) -> np.ndarray:
    """What an ideal tower would say: for each cell the words of the object that covers most of it.

    Returns:
        int64, (GRID * GRID, 5): colour, shape, size, material, and "centre" in the one cell of each object that is
        nearest to its middle (DINOv2 tells it too, and counting rests on it); `<empty>` and padding elsewhere.
    """
    size = scene.level.image_size
    side = size // GRID
    covered = masks(scene).reshape(-1, GRID, side, GRID, side).mean(axis=(2, 4))
    best = covered.argmax(0)
    out = np.full((GRID, GRID, 5), code.vocabulary["<pad>"], dtype=np.int64)
    out[..., 0] = code.vocabulary["<empty>"]
    solid = covered.max(0) >= 0.3
    for i, thing in enumerate(scene.things):
        cells = solid & (best == i)
        cells[np.unravel_index(covered[i].argmax(), covered[i].shape)] = True
        words = [thing.colour, thing.shape, thing.size, thing.material if thing.material == "striped" else "<pad>"]
        out[cells] = [code.vocabulary[word] for word in (*words, "<pad>")]
        own = np.argwhere(cells)
        x, y = thing.centre
        row, column = own[np.abs(2 * side * own + side - (y, x)).sum(1).argmin()]
        out[row, column, 4] = code.vocabulary["centre"]
    return out.reshape(-1, 5)


def _tensors(rows: list[tuple[list[int], list[int], list[int]]]) -> dict[str, Tensor]:
    return {name: torch.tensor([row[i] for row in rows]) for i, name in enumerate(("input_ids", "labels", "answers"))}


class WordBatches(Dataset):
    """Fresh scenes every step, as word grids with dialogues."""

    def __init__(self, level: int, seed: int, batch_size: int, length: int, start: int, steps: int) -> None:
        self.level, self.seed, self.batch_size, self.length, self.start, self.steps = (
            level,
            seed,
            batch_size,
            length,
            start,
            steps,
        )
        self.code = codes()

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        level, mix = CURRICULUM[self.level]
        step = self.start + i
        rows, grids = [], []
        for row in range(self.batch_size):
            index = step * self.batch_size + row
            scene = make_scene(level, "words", self.seed, index)
            grids.append(word_grid(scene, self.code))
            rng = stream("dialogue", "words", self.level, self.seed, index)
            rows.append(pack(scene, rng, mix, self.length, self.code, simple=self.level < len(GATES)))
        return {"grid": torch.from_numpy(np.stack(grids)), **_tensors(rows)}


class PixelBatches(Dataset):
    """New dialogues every step about a fixed set of scenes, whose features are cached."""

    def __init__(
        self,
        level: str,
        scenes: int,
        seed: int,
        batch_size: int,
        length: int,
        start: int,
        steps: int,
        scene_seed: int | None = None,
    ) -> None:
        self.scene_seed = seed if scene_seed is None else scene_seed
        self.level, self.scenes, self.seed, self.batch_size, self.length = level, scenes, seed, batch_size, length
        self.start, self.steps = start, steps
        self.code = codes()
        self.mix = CURRICULUM[-1][1]

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        step = self.start + i
        epoch_steps = self.scenes // self.batch_size
        epoch, place = divmod(step, epoch_steps)
        order = np.random.Generator(np.random.Philox(key=self.seed * 100_003 + epoch)).permutation(self.scenes)
        indices = order[place * self.batch_size : (place + 1) * self.batch_size]
        rows = []
        for index in indices:
            scene = scene_of(image_id(self.level, "pretrain", self.scene_seed, int(index)))
            rng = stream("dialogue", "pixels", self.seed, epoch, int(index))
            rows.append(pack(scene, rng, self.mix, self.length, self.code))
        return {"scenes": torch.from_numpy(indices.astype(np.int64)), **_tensors(rows)}
