"""The nano ViT's pretraining on tags from captions: which coloured shapes a picture holds, not where.

Each token votes for pairs of colour and shape, and a log-sum-exp over tokens says whether the picture holds the pair
(multiple-instance learning): weak labels, as captions give, yet tokens learn what they show.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..backbones.convert import IMAGENET_MEAN, IMAGENET_STD
from ..data.refshapes.levels import COLOURS, SHAPES, SIZES
from ..data.refshapes.render import render
from ..data.refshapes.scene import make_scene
from ..nano_vit import NanoViT
from ..precision import bf16_autocast
from .nano import optimisers
from .state import load_state, save_state
from .words import learning_rate, log_line, set_rate

_COLOURS = tuple(COLOURS)
NUM_TAGS = len(SHAPES) * len(COLOURS) + len(SHAPES) * len(SIZES)


class TagBatches(Dataset):
    """Fresh pictures with their tags: pairs of colour and shape, and of size and shape."""

    def __init__(self, level: str, seed: int, batch_size: int, start: int, steps: int) -> None:
        self.level, self.seed, self.batch_size, self.start, self.steps = level, seed, batch_size, start, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        first = (self.start + i) * self.batch_size
        tags = torch.zeros(self.batch_size, NUM_TAGS)
        pictures = []
        for row in range(self.batch_size):
            scene = make_scene(self.level, "tags", self.seed, first + row)
            pictures.append(torch.from_numpy(render(scene)))
            for thing in scene.things:
                shape = SHAPES.index(thing.shape)
                tags[row, shape * len(COLOURS) + _COLOURS.index(thing.colour)] = 1
                tags[row, len(SHAPES) * len(COLOURS) + shape * len(SIZES) + SIZES.index(thing.size)] = 1
        return torch.stack(pictures), tags


class Tagger(nn.Module):
    """The nano ViT with a vote of each token for each tag."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.tower = NanoViT()
        self.norm = nn.LayerNorm(self.tower.hidden_size)
        self.vote = nn.Linear(self.tower.hidden_size, NUM_TAGS)
        nn.init.constant_(self.vote.bias, -4.0)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """uint8 [B, S, S, 3] to tag logits [B, NUM_TAGS]."""
        pixels = (pictures.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        return self.vote(self.norm(self.tower(pixels)[-1])).float().logsumexp(1)


def train_tags(
    folder: Path, seed: int = 0, steps: int = 2000, batch_size: int = 48, lr: float = 1e-3, level: str = "cpu"
) -> Path:
    """Pretrain the nano ViT and return the folder of its last state; goes on where a killed run stopped."""
    torch.manual_seed(seed)
    model = Tagger()
    opts = optimisers([model], lr)
    modules = nn.ModuleDict({"tagger": model})
    saved = load_state(folder / "tags", modules, opts) or {"step": 0, "seconds": 0.0}
    step, spent, begun = saved["step"], saved["seconds"], time.monotonic()
    for pictures, tags in DataLoader(
        TagBatches(level, seed, batch_size, step, steps - step), batch_size=None, num_workers=1, prefetch_factor=4
    ):
        set_rate(opts, learning_rate(step, steps, lr, 50, 0.4))
        with bf16_autocast():
            logits = model(pictures)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, tags)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in opts:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        step += 1
        if step % 100 == 0 or step == steps:
            said = logits > 0
            hits = (said & (tags > 0)).sum().item()
            state = {"step": step, "seconds": spent + time.monotonic() - begun}
            scores = {"precision": hits / max(1, said.sum().item()), "recall": hits / tags.sum().item()}
            log_line(folder / "tags.jsonl", {**state, **scores, "loss": loss.item()})
            if step % 500 == 0 or step == steps:
                save_state(folder / "tags", modules, opts, state)
    return folder / "tags"
