"""Packed exchanges that do not see each other compute what each computes alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import LEFT, MASK_ONLY, RIGHT, dialogue

from pgpt_lib.adapters import base_model
from pgpt_lib.config import load_profile
from pgpt_lib.errors import InputError
from pgpt_lib.exchanges import PADDING, SHARED, attention_mask, kept_apart
from pgpt_lib.model import build_model

PACKED = dialogue(
    "packed",
    "one",
    ("where is the red circle ?", ()),
    ("<vis>", (LEFT,)),
    ("what is <vis> ?", (RIGHT,)),
    ("a blue square", ()),
    ("what is left ?", ()),
    ("<p> a red circle </p> <vis> and <p> a star </p> <vis>", (LEFT, MASK_ONLY)),
)
SHORT = dialogue("short", "two", ("how many star ?", ()), ("2", ()))
ALONE = [replace(PACKED, sample_id=str(i), turns=PACKED.turns[i : i + 2]) for i in (0, 2, 4)]


def test_who_looks_at_whom_and_where_each_stands():
    looks, positions = kept_apart(torch.tensor([[SHARED, SHARED, 1, 1, 2, 2, PADDING]]))
    assert looks.shape == (1, 1, 7, 7) and positions.tolist() == [[0, 1, 2, 3, 2, 3, 2]]
    assert looks[0, 0, 3].tolist() == [True, True, True, True, False, False, False]
    assert looks[0, 0, 5].tolist() == [True, True, False, False, True, True, False]
    assert looks[0, 0, 1].tolist() == [True, True, False, False, False, False, False]
    assert looks[0, 0].diagonal().all()


def test_the_mask_that_is_added_shuts_out_what_is_not_looked_at():
    looks, _ = kept_apart(torch.tensor([[SHARED, 1, 2]]))
    added = attention_mask(looks, "eager")
    assert torch.equal(added == 0, looks) and added[~looks].max() < -1e30
    assert attention_mask(looks, "sdpa") is looks


def test_exchanges_are_numbered(make_model):
    encoded = make_model().chat.encode(PACKED)
    numbers = encoded.exchange
    assert len(numbers) == len(encoded.input_ids) and numbers == sorted(numbers) and set(numbers) == {0, 1, 2, 3}
    assert [numbers[position] for position, _, _ in encoded.vis] == [1, 2, 3, 3]
    assert all(number == SHARED for number, image in zip(numbers, encoded.image_mask, strict=True) if image)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_equals_alone(make_model, features, attention):
    model = make_model().eval()
    base_model(model.llm).set_attn_implementation(attention)
    with torch.no_grad():
        packed = model(model.collate([PACKED, SHORT], features, apart=True))
        alone = model(model.collate([*ALONE, SHORT], features))
        together = model(model.collate([PACKED, SHORT], features))
    torch.testing.assert_close(packed.states, alone.states, atol=1e-5, rtol=1e-4)
    for name, value in alone.losses.items():
        torch.testing.assert_close(packed.losses[name], value, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(packed.states[1:], together.states[1:], atol=1e-3)


def test_gradients_are_finite_with_padding(make_model, features):
    model = make_model()
    model(model.collate([PACKED, SHORT], features, apart=True)).loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_the_trainer_keeps_apart_what_the_profile_says():
    from pgpt_lib import training
    from pgpt_lib.data.streams import build_stream

    for apart in (True, False):
        profile = load_profile("smoke", {"data.turns_apart": apart, "data.train_scenes": 2})
        model = build_model(profile, 0)
        make_batch = training.batch_maker(model, stream := build_stream(profile, 0), False)
        batch = make_batch(stream.batch(0, 2), torch.Generator())
        assert (batch.exchange is not None) == apart


def test_a_format_with_the_image_in_a_question_is_refused(monkeypatch):
    from pgpt_lib import training
    from pgpt_lib.data.streams import build_stream

    profile = load_profile("smoke", {"data.turns_apart": True, "data.train_scenes": 2})
    model = build_model(profile, 0)
    monkeypatch.setattr(model.chat, "template", replace(model.chat.template, image_first=False))
    with pytest.raises(InputError, match="set data.turns_apart to false"):
        training.batch_maker(model, build_stream(profile, 0), False)
