"""What the untuned model says, as a target beside the true words, so that tuning keeps what it could do before.

Learning without forgetting (Li and Hoiem 2016); the paper has no such term. The teacher is asked what needs no region,
each exchange alone, from the same features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .batch import Batch, LoadImages
from .chat import IGNORE
from .data.sample import NO_REGION, Sample
from .errors import InputError
from .model import PerceptionGPT, build_model
from .precision import usable_precision
from .processes import best_device


def untuned(model: PerceptionGPT) -> PerceptionGPT:
    """The model as it was before any tuning, with the same tower: new adapters change nothing yet."""
    return build_model(model.profile, 0, tower=model.tower)


def in_words(sample: Sample) -> list[bool]:
    """For each exchange of a dialogue, whether a model that knows no regions can take part in it."""
    pairs = zip(sample.turns[::2], sample.turns[1::2], strict=True)
    return [not user.regions and not said.regions and said.text != NO_REGION for user, said in pairs]


class Teacher:
    """Answers the exchanges in words of training batches.

    Args:
        model: as it is to stay. It is put into evaluation mode, on the best device.
    """

    def __init__(self, model: PerceptionGPT) -> None:
        self.device = best_device()
        self.model = model.requires_grad_(False).eval().to(self.device)

    def teach(self, batch: Batch, samples: Sequence[Sample]) -> Batch:
        """The batch with `kept` and `taught`.

        Args:
            batch: collated from `samples` with `apart`, and with their features or pixels where they have images.
            samples: dialogues of exchanges.

        Raises:
            InputError: the batch's exchanges see each other, so that no teacher's answer alone is comparable.
        """
        if batch.exchange is None:
            raise InputError("losses.distillation is above 0, which needs data.turns_apart: true")
        flags = [in_words(sample) for sample in samples]
        known = torch.zeros(len(samples), 2 + max(map(len, flags)), dtype=torch.bool)  # padding, shared, exchanges
        for row, its in enumerate(flags):
            known[row, 2 : 2 + len(its)] = torch.tensor(its)
        kept = known.gather(1, batch.exchange + 1) & (batch.labels != IGNORE)
        asked = [_only(s, its) for s, its in zip(samples, flags, strict=True) if any(its)]
        if not asked:
            return replace(batch, kept=kept, taught=torch.zeros(0, len(self.model.chat)))
        return replace(batch, kept=kept, taught=self._answer(batch, samples, asked))

    def _answer(self, batch: Batch, samples: Sequence[Sample], asked: Sequence[Sample]) -> Tensor:
        place = {key: i for i, key in enumerate(dict.fromkeys(s.image_id for s in samples if s.image_id))}

        def loader(values: Tensor) -> LoadImages:
            return lambda keys: values[[place[key] for key in keys]]

        held = {"features": batch.features, "pixel_values": batch.pixel_values}
        given = {name: loader(values) for name, values in held.items() if values is not None}
        questions = self.model.collate(asked, apart=True, **given).to(self.device)
        bf16 = usable_precision(self.model.profile.training.precision, self.device) == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            return self.model.word_probabilities(questions)


def _only(sample: Sample, flags: Sequence[bool]) -> Sample:
    """A dialogue's exchanges that are flagged."""
    turns = [turn for i, keep in enumerate(flags) if keep for turn in sample.turns[2 * i : 2 * i + 2]]
    return replace(sample, turns=tuple(turns))
