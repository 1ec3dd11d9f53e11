"""A model with the interface that the trainer asks for, which trains in milliseconds, and its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pgpt_lib import training
from pgpt_lib.batch import Batch, slot_numbers
from pgpt_lib.config import Profile, load_profile
from pgpt_lib.data.sample import Sample, Turn
from pgpt_lib.losses import IGNORE_INDEX, language_loss
from pgpt_lib.placement import Placement
from pgpt_lib.regions import Region
from pgpt_lib.signals.box import BoxSignal

VOCABULARY, WIDTH, VIS_ID = 12, 16, 11


class ToyLLM(nn.Module):
    """Causal mean of embeddings, a layer with dropout, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.layer = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(0.1)
        self.lm_head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, input_ids: Tensor) -> Tensor:
        embeddings = self.embed_tokens(input_ids)
        steps = torch.arange(1, input_ids.shape[1] + 1)[None, :, None]
        return torch.tanh(self.layer(self.dropout(embeddings.cumsum(1) / steps + embeddings)))


@dataclass
class ToyOutput:
    losses: dict[str, Tensor]
    states: Tensor
    emitted: Tensor


class ToyModel(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.llm = ToyLLM()
            self.signals = nn.ModuleDict({"box": BoxSignal(WIDTH, 4, 2, width=8)})

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.named_parameters())

    def forward(self, batch: Batch) -> ToyOutput:
        hidden = self.llm(batch.input_ids)
        values, present = batch.targets["box"]
        codes = self.signals["box"].embed(values, batch.visible["box"])
        hidden = hidden.index_put((batch.vis_row, batch.vis_position), codes, accumulate=True)
        states = hidden[batch.vis_row, batch.vis_position - 1][batch.vis_is_answer]
        prediction = self.signals["box"].decode(states, states)
        losses = {"language": language_loss(hidden, batch.labels, self.llm.lm_head)}
        losses |= self.signals["box"].losses(prediction, values[batch.vis_is_answer], present[batch.vis_is_answer])
        return ToyOutput(losses, states, self.llm.lm_head(states.detach()).argmax(-1) == VIS_ID)


class ToyStream:
    """Answers of different lengths, two in three with a box."""

    images = None
    epoch_length = 10

    def image_ids(self) -> list[str]:
        return []

    def batch(self, step: int, size: int) -> list[Sample]:
        return [self.sample(step * size + i) for i in range(size)]

    def sample(self, index: int) -> Sample:
        draw = torch.Generator().manual_seed(index)
        words = torch.randint(1, 9, (3,), generator=draw).tolist()
        answer = torch.randint(1, 9, (1 + index % 4,), generator=draw).tolist()
        regions = []
        if index % 3:
            low = torch.rand(2, generator=draw, dtype=torch.float64) * 0.5
            regions = [Region((*low.tolist(), *(low + 0.3).tolist()), None)]
        vis = [VIS_ID] * len(regions)
        turns = (Turn("user", "find"), Turn("assistant", "<vis>" * len(regions), tuple(regions)))
        return Sample(f"toy-{index}", "", (10, 10), turns, extra={"prompt": words, "answer": vis + answer})


def make_batch(samples: Sequence[Sample], draw: torch.Generator) -> Batch:
    """What `collate` makes, without a tokenizer."""
    rows = [s.extra["prompt"] + s.extra["answer"] for s in samples]
    length = max(map(len, rows))
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    labels = torch.full_like(ids, IGNORE_INDEX)
    for number, row in enumerate(rows):
        labels[number, 3 : len(row)] = ids[number, 3 : len(row)]
    vis_row = [i for i, s in enumerate(samples) if VIS_ID in s.extra["answer"]]
    regions = [samples[i].turns[1].regions[0] for i in vis_row]
    placements = [Placement(10, 10, 10) for _ in regions]
    values, present = BoxSignal.collate(None, regions, placements)
    where = torch.tensor(vis_row, dtype=torch.long)
    return Batch(
        input_ids=ids,
        labels=labels,
        attention_mask=ids > 0,
        image_mask=torch.zeros_like(ids, dtype=torch.bool),
        image_index=torch.full((len(samples),), -1),
        vis_row=where,
        vis_position=torch.full_like(where, 3),
        vis_is_answer=torch.ones(len(where), dtype=torch.bool),
        targets={"box": (values, present)},
        visible={"box": present & (slot_numbers([(samples[i].sample_id, 1) for i in vis_row], 1, draw)[:, 0] > 0.1)},
        regions=regions,
        placements=placements,
        sample_ids=[s.sample_id for s in samples],
    )


def toy_profile(steps: int = 20, **training_settings: object) -> Profile:
    defaults = {"steps": steps, "batch_size": 6, "save_every": 4, "log_every": 3, "precision": "fp32"}
    return load_profile("smoke", {f"training.{name}": value for name, value in (defaults | training_settings).items()})


def run_toy(
    out: Path, profile: Profile, seed: int = 1, resume: bool = False, **options: object
) -> training.TrainResult:
    start = training.starting_point(out, profile, seed, resume)
    return training.fit(ToyModel(seed), ToyStream(), make_batch, profile, seed, out, start, progress=False, **options)
