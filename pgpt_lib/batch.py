"""Samples to tensors: padding, region slots, targets, and which image belongs to which row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from .chat import IGNORE, Chat
from .data.sample import Sample
from .errors import InputError
from .exchanges import PADDING
from .regions import Placement, Region
from .signals.base import Signal

INPUT_SIGNALS = ("box", "mask")  # what a region's input embedding is made of; other signals are only read from states
LoadImages = Callable[[Sequence[str]], Tensor]  # keys of I different images to features or pixel values, I first


@dataclass(frozen=True)
class Batch:
    """B dialogues about I different images, T tokens long, with V region slots.

    Attributes:
        input_ids, labels, image_mask: [B, T]; `labels` are not shifted, `image_mask` marks the image's positions.
        attention_mask: [B, T], False on padding: on the right for training, on the left for generation.
        image_index: [B], the row's image in `features`; -1 for a dialogue without one.
        vis_row, vis_position: [V], where each slot lies in the expanded sequence.
        vis_is_answer: [V], whether the slot is to be decoded (in an answer) or only read (in a question).
        targets: for each signal its values [V, ...] and whether a slot has it [V].
        visible: for each signal whether it is part of the slot's input embedding [V]: present and not dropped.
        regions, placements: V each; how their image lies in the model's square input.
        sample_ids: B, for messages.
        features: [I, L, N, C] raw hidden states of the vision tower, or
        pixel_values: [I, 3, S, S] for the tower itself; both None when no dialogue has an image.
        exchange: [B, T], see `exchanges.kept_apart`, where a dialogue's exchanges do not see each other; else None.
        kept, taught: [B, T], bool, and [K, V], see `losses.distillation_loss`, where a teacher was asked; else None.
    """

    input_ids: Tensor
    labels: Tensor
    attention_mask: Tensor
    image_mask: Tensor
    image_index: Tensor
    vis_row: Tensor
    vis_position: Tensor
    vis_is_answer: Tensor
    targets: Mapping[str, tuple[Tensor, Tensor]]
    visible: Mapping[str, Tensor]
    regions: list[Region]
    placements: list[Placement]
    sample_ids: list[str]
    features: Tensor | None = None
    pixel_values: Tensor | None = None
    exchange: Tensor | None = None
    kept: Tensor | None = None
    taught: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {name: v.to(device) for name, v in values.items() if isinstance(v, Tensor)}
        targets = {name: (v.to(device), p.to(device)) for name, (v, p) in self.targets.items()}
        visible = {name: v.to(device) for name, v in self.visible.items()}
        return replace(self, **moved, targets=targets, visible=visible)


def collate(
    samples: Sequence[Sample],
    chat: Chat,
    signals: Mapping[str, Signal],
    image_size: int,
    features: LoadImages | None = None,
    pixel_values: LoadImages | None = None,
    generation: bool = False,
    input_dropout: float = 0.0,
    generator: torch.Generator | None = None,
    apart: bool = False,
) -> Batch:
    """Make a batch. Each image is loaded once, however many dialogues are about it.

    Args:
        samples: at least one.
        chat: encodes the dialogues.
        signals: those of the model, by name; `model.signals`.
        image_size: side of the vision tower's square input, in pixels.
        features: loads cached hidden states of the tower; or
        pixel_values: loads preprocessed pixels, for the model to run the tower.
        generation: prompts that end with the assistant's header, padded on the left.
        input_dropout: how often one part of a slot's input embedding is left out; see `drop_parts`.
        generator: its seed and a sample's id give the dropout's numbers for that sample. So they do not depend on how
            samples are divided over batches and processes.
        apart: a dialogue's exchanges are not to see each other, in training.

    Raises:
        InputError: no sample, nothing to learn in a training batch, no loader for images, a region without an image.
    """
    if not samples:
        raise InputError("a batch needs at least one sample")
    encoded = [chat.encode(sample, generation) for sample in samples]
    length = max(len(e.input_ids) for e in encoded)

    def pad(rows: list[list], value: int, dtype: torch.dtype = torch.long) -> Tensor:
        filled = []
        for row in rows:
            fill = [value] * (length - len(row))
            filled.append(fill + row if generation else row + fill)
        return torch.tensor(filled, dtype=dtype)

    labels = pad([e.labels for e in encoded], IGNORE)
    if not generation and not (labels != IGNORE).any():
        raise InputError(f"no token of this batch is supervised: samples {[s.sample_id for s in samples]}")

    image_ids = list(dict.fromkeys(sample.image_id for sample in samples if sample.image_id))
    index = {image_id: i for i, image_id in enumerate(image_ids)}
    if image_ids and features is None and pixel_values is None:
        raise InputError(f"sample {samples[0].sample_id}: its batch has images, but no loader for them was given")

    rows, positions, answers, regions, placements = [], [], [], [], []
    for row, (sample, e) in enumerate(zip(samples, encoded, strict=True)):
        if not e.vis:
            continue
        if not sample.image_id:
            raise InputError(f"sample {sample.sample_id} has a region, but no image")
        placement = Placement(*sample.size, image_size)
        shift = length - len(e.input_ids) if generation else 0
        for position, region, is_answer in e.vis:
            rows.append(row)
            positions.append(position + shift)
            answers.append(is_answer)
            regions.append(region)
            placements.append(placement)
    targets = {name: signal.collate(regions, placements) for name, signal in signals.items()}
    present = {name: targets[name][1] for name in INPUT_SIGNALS if name in targets}
    slots = [(sample.sample_id, len(e.vis)) for sample, e in zip(samples, encoded, strict=True)]
    numbers = slot_numbers(slots, 1 + len(present), generator)
    return Batch(
        input_ids=pad([e.input_ids for e in encoded], chat.pad_id),
        labels=labels,
        attention_mask=pad([[True] * len(e.input_ids) for e in encoded], False, torch.bool),
        image_mask=pad([e.image_mask for e in encoded], False, torch.bool),
        image_index=torch.tensor([index.get(sample.image_id, -1) for sample in samples]),
        vis_row=torch.tensor(rows, dtype=torch.long),
        vis_position=torch.tensor(positions, dtype=torch.long),
        vis_is_answer=torch.tensor(answers, dtype=torch.bool),
        targets=targets,
        visible=drop_parts(present, input_dropout, numbers) if input_dropout else present,
        regions=regions,
        placements=placements,
        sample_ids=[sample.sample_id for sample in samples],
        features=features(image_ids) if image_ids and features else None,
        pixel_values=pixel_values(image_ids) if image_ids and pixel_values and not features else None,
        exchange=pad([e.exchange for e in encoded], PADDING) if apart else None,
    )


def slot_numbers(slots: Sequence[tuple[str, int]], columns: int, generator: torch.Generator | None) -> Tensor:
    """Random numbers in [0, 1) for the slots of samples, [V, columns]: a sample's depend on its id and the seed alone.

    Args:
        slots: (sample id, number of slots), in order.
        columns: numbers a slot.
        generator: gives the seed; by default the global one.
    """
    seed = torch.initial_seed() if generator is None else generator.initial_seed()
    rows = [torch.zeros(0, columns)]
    for sample_id, count in slots:
        if count:
            digest = hashlib.sha256(f"{seed}/{sample_id}".encode()).digest()
            own = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
            rows.append(torch.rand(count, columns, generator=own))
    return torch.cat(rows)


def drop_parts(present: Mapping[str, Tensor], rate: float, numbers: Tensor) -> dict[str, Tensor]:
    """Leave out one part of some regions' input embeddings, so that the model reads a box or a mask alone as well.

    Args:
        present: for each signal whether a region has it, [V], bool.
        rate: share of the regions with two or more parts that lose one, drawn evenly; no region loses its only part.
        numbers: [V, 1 + number of signals], random in [0, 1): whether to drop, and which.

    Returns:
        For each signal whether it stays, [V].
    """
    if not present:
        return {}
    parts = torch.stack(list(present.values()), dim=1)  # [V, number of signals]
    lose = numbers[:, 0] < rate
    order = numbers[:, 1:].masked_fill(~parts, -1.0)
    lose &= parts.sum(1) > 1
    dropped = torch.zeros_like(parts).scatter(1, order.argmax(1, keepdim=True), lose[:, None])
    return dict(zip(present, (parts & ~dropped).unbind(1), strict=True))
