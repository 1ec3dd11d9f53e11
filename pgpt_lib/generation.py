"""Greedy decoding that feeds each decoded region back as the input embedding of its `<vis>` (paper, section 3.1).

transformers' `generate` cannot feed embeddings back, and a model that reads a static row in their place has never been
trained on that. So the loop is our own: batched, padded on the left, with a key-value cache or without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from .adapters import base_model
from .batch import Batch, LoadImages
from .data.sample import Sample
from .model import PerceptionGPT, locate_positions
from .regions import Placement, Region

OF_A_REGION = frozenset(entry.name for entry in fields(Region))


@dataclass
class Answer:
    """One dialogue's answer.

    Attributes:
        text: words and special tokens, one space apart, the end token left out; `<vis>` stands for each region, however
            it was written.
        token_ids: everything emitted, the end token included if it came before the limit.
        regions: in order of appearance, in the frame of the original image.
        states: [k, H], fp32, the state that each emitted `<vis>` was decoded from.
        predictions: for each signal its k raw predictions, in the frame of the model's input.
        parse_failures: regions written as text that could not be read; they stay in `text` as they are.
        written: the text as the model wrote it, with regions that are text in full.
    """

    text: str
    token_ids: list[int]
    regions: list[Region]
    states: Tensor
    predictions: dict[str, Tensor] = field(default_factory=dict)
    parse_failures: int = 0
    written: str = ""


@dataclass
class _Emitted:
    """The `<vis>` tokens of one step: which rows emitted one, and what it was decoded to."""

    rows: Tensor
    states: Tensor
    predictions: dict[str, Tensor]


def run_decoder(
    model: PerceptionGPT, embeds: Tensor, attention_mask: Tensor, positions: Tensor, cache: DynamicCache | None
) -> Tensor:
    """Last hidden states [B, t, H] after the final norm, for t new positions behind those in `cache`, which grows.

    The one place that knows what transformers calls its cache (`cache` since 5.24, `past_key_values` before).
    """
    return model.decoder(
        inputs_embeds=embeds,
        attention_mask=attention_mask,
        position_ids=positions,
        cache=cache,
        use_cache=cache is not None,
    ).last_hidden_state


@torch.no_grad()
def generate(
    model: PerceptionGPT,
    samples: Sequence[Sample],
    features: LoadImages | None = None,
    max_new_tokens: int = 64,
    cached: bool = True,
    pixel_values: LoadImages | None = None,
    threshold: float = 0.5,
) -> list[Answer]:
    """Answer the last turn of each sample, free-running.

    Args:
        model: in evaluation mode; it is put there and back if it is not.
        samples: one batch of dialogues whose last turn is the user's.
        features: loads cached hidden states of the tower for image keys; or
        pixel_values: loads preprocessed pixels.
        max_new_tokens: limit of each answer, the end token included.
        cached: keep keys and values of past tokens; else run the whole sequence for every token (for measurements).
        threshold: the probability from which a pixel belongs to a mask.

    Returns:
        An answer for each sample, in order; no sample's answer depends on its neighbours in the batch.

    Raises:
        InputError: a sample whose last turn is not the user's, or that has images without a loader.
    """
    training = model.training
    model.eval()
    try:
        batch = model.collate(samples, features, pixel_values=pixel_values, generation=True)
        batch = batch.to(next(model.projector.parameters()).device)
        tokens, emitted = _decode_greedily(model, batch, max_new_tokens, cached)
        if not model.readout.feeds_back:
            emitted = _read_at_vis(model, batch, tokens)
    finally:
        model.train(training)
    return [_answer(model, row, sample, tokens[row], emitted, threshold) for row, sample in enumerate(samples)]


def _decode_greedily(
    model: PerceptionGPT, batch: Batch, max_new_tokens: int, cached: bool
) -> tuple[list[list[int]], list[_Emitted]]:
    """The loop: the ids of each row's answer, and the regions decoded on the way."""
    table_in, table_out = model.embedding_tables()
    image_tokens, features = model.see(batch)
    embeds = model.embed(batch, image_tokens, table_in)
    mask = batch.attention_mask
    cache = DynamicCache(config=base_model(model.llm).config) if cached else None
    alive = torch.ones(len(mask), dtype=torch.bool, device=mask.device)
    tokens: list[list[int]] = [[] for _ in range(len(mask))]
    emitted: list[_Emitted] = []
    seen = 0  # positions whose states are not computed again
    for _ in range(max_new_tokens):
        positions = (mask.cumsum(1) - 1).clamp(min=0)  # padding on the left takes no position
        hidden = run_decoder(model, embeds[:, seen:], mask, positions[:, seen:], cache)
        length = mask.shape[1]
        # the next token's position is `length`; the state that predicts it is the one it would be decoded from
        states = hidden[:, locate_positions(length) - seen].float()
        next_ids = model.logits(states, table_out).argmax(-1)
        for row, (token, going) in enumerate(zip(next_ids.tolist(), alive.tolist(), strict=True)):
            if going:
                tokens[row].append(token)
        next_embeds = F.embedding(next_ids, table_in)
        if model.chat.vis_id is not None and model.readout.feeds_back:
            rows = (alive & (next_ids == model.chat.vis_id)).nonzero().flatten()
            if len(rows):
                predictions = model.decode(states[rows], features, batch.image_index[rows])
                emitted.append(_Emitted(rows, states[rows], predictions))
                next_embeds = next_embeds.index_put((rows,), feedback(model, predictions).to(next_embeds.dtype))
        alive &= next_ids != model.chat.end_id
        if not alive.any():
            break
        embeds = torch.cat([embeds, next_embeds[:, None]], dim=1)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        seen = length if cached else 0
    return tokens, emitted


def _read_at_vis(model: PerceptionGPT, batch: Batch, tokens: list[list[int]]) -> list[_Emitted]:
    """The regions of answers that were read as tokens alone, decoded from the states at their `<vis>`, in one pass."""
    ids = pad_sequence([torch.tensor(row) for row in tokens], batch_first=True, padding_value=model.chat.pad_id)
    ids = ids.to(batch.input_ids.device)
    table = model.embedding_tables()[0]
    image_tokens, features = model.see(batch)
    embeds = torch.cat([model.embed(batch, image_tokens, table), F.embedding(ids, table)], dim=1)
    answered = torch.ones_like(ids, dtype=torch.bool)
    mask = torch.cat([batch.attention_mask, answered], dim=1)
    hidden = run_decoder(model, embeds, mask, (mask.cumsum(1) - 1).clamp(min=0), None)[:, -ids.shape[1] :].float()
    is_vis, emitted = answered & (ids == model.chat.vis_id), []
    for step in range(ids.shape[1]):
        rows = is_vis[:, step].nonzero().flatten()
        if len(rows):
            states = hidden[rows, step]
            emitted.append(_Emitted(rows, states, model.decode(states, features, batch.image_index[rows])))
    return emitted


def feedback(model: PerceptionGPT, predictions: dict[str, Tensor]) -> Tensor:
    """The input embeddings [R, H] of regions that were just decoded: enc(dec(h)), box code plus mask code.

    Both codes are there whatever the question asked for: an answer's `<vis>` always decodes to both, and training's
    dropout of parts has shown the model each alone as well.
    """
    values, visible = {}, {}
    for name in model.input_signals:
        values[name] = model.signal(name).to_values(predictions[name])
        visible[name] = torch.ones(len(values[name]), dtype=torch.bool, device=values[name].device)
    return model.region_codes(values, visible)


def _answer(
    model: PerceptionGPT, row: int, sample: Sample, ids: list[int], emitted: list[_Emitted], threshold: float
) -> Answer:
    """Gather one row's part of what the loop produced, and restore its regions to the original image."""
    picks = [(step, int((step.rows == row).nonzero())) for step in emitted if (step.rows == row).any()]
    width = model.projector.position.shape[1]
    states = torch.stack([step.states[i] for step, i in picks]) if picks else torch.zeros(0, width)
    predictions = {
        name: torch.stack([step.predictions[name][i] for step, i in picks]) for name in model.signals if picks
    }
    placement = model.placement(sample)
    rows = [{name: values[k] for name, values in predictions.items()} for k in range(len(picks))]
    decoded = [restored(model, row_of, placement, threshold) for row_of in rows]
    written, representation = model.chat.decode(ids), model.chat.representation
    if representation is None:
        return Answer(written, ids, [], states, predictions, written=written)
    text, failures = representation.mark(written)
    regions = representation.read(written, decoded, sample.size)
    return Answer(text, ids, regions, states, predictions, failures, written)


def restored(model: PerceptionGPT, row: Mapping[str, Tensor], placement: Placement, threshold: float) -> Region:
    """A region in the frame of its original image, from one raw prediction of each signal, by name.

    What a signal says and a `Region` has no field for, as a signal of one's own may, is left out.
    """
    known: dict[str, Any] = {"box": None}
    for name, prediction in row.items():
        known |= model.signal(name).restore(prediction, placement, threshold)
    return Region(**{key: value for key, value in known.items() if key in OF_A_REGION})
