from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest
import torch
from conftest import LEFT, RIGHT, dialogue
from torch import Tensor

from pgpt_lib import generation
from pgpt_lib.data.sample import Sample, Turn
from pgpt_lib.errors import InputError
from pgpt_lib.generation import Answer, generate
from pgpt_lib.model import PerceptionGPT
from pgpt_lib.regions import box_iou, mask_iou

LOGITS = PerceptionGPT.logits
PROMPTS = [
    dialogue("rec", "one", ("where is the red circle ?", ())),
    dialogue("given", "two", ("what is <vis> ?", (RIGHT,))),
    dialogue("long", "one", ("how many star ?", ()), ("2", ()), ("where is the large blue square and none ?", ())),
    dialogue("words", "", ("what is red ?", ())),
]


@pytest.fixture(scope="module")
def model(make_model) -> PerceptionGPT:
    """Random weights, made talkative: LoRA is switched on, and `<vis>` is emitted now and then."""
    model = make_model().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.copy_(torch.randn(p.shape, generator=generator) * 0.1)
    return model


@pytest.fixture
def script(model: PerceptionGPT, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Dictates what all rows or each row emits, by wrapping `logits`: states and feedback stay the model's own."""

    def dictate(*said: list[str]) -> None:
        ids = [model.chat.tokenizer.convert_tokens_to_ids(tokens) for tokens in said]
        steps = count()

        def forced(self: PerceptionGPT, states: Tensor, table: Tensor) -> Tensor:
            logits, step = LOGITS(self, states, table), next(steps)
            for row, dictated in enumerate(ids * len(logits) if len(ids) == 1 else ids):
                if step < len(dictated):
                    logits[row, dictated[step]] = 1e3
            return logits

        monkeypatch.setattr(PerceptionGPT, "logits", forced)

    return dictate


def same(one: list[Answer], two: list[Answer], atol: float = 1e-4) -> bool:
    def states(a: Tensor, b: Tensor) -> bool:
        return a.shape == b.shape and torch.allclose(a, b, atol=atol)

    return all(a.token_ids == b.token_ids and states(a.states, b.states) for a, b in zip(one, two, strict=True))


def test_cached_equals_uncached(model, features) -> None:
    one = generate(model, PROMPTS, features, max_new_tokens=12)
    two = generate(model, PROMPTS, features, max_new_tokens=12, cached=False)
    assert same(one, two)
    assert any(len(a.token_ids) > 2 for a in one)


def test_cached_equals_uncached_with_regions(model, features, script) -> None:
    said = ["<vis>", "and", "<vis>", "<vis>", "<end>"]
    answers = []
    for cached in (True, False):
        script(said)
        answers.append(generate(model, PROMPTS[:3], features, cached=cached))
    assert same(*answers) and answers[0][0].states.shape == (3, 64)
    for a, b in zip(*answers, strict=True):
        assert torch.allclose(a.predictions["box"], b.predictions["box"], atol=1e-4)
        assert torch.allclose(a.predictions["mask"], b.predictions["mask"], atol=1e-3)


SAID = [["<end>"], ["and", "<vis>", "<vis>", "<end>"], ["<vis>", "and", "a", "<vis>", "<end>"]]


def regions_equal_those_alone(model: PerceptionGPT, features: Callable, script: Callable, said=SAID) -> bool:
    """Whether rows of different lengths, images and numbers of regions answer together as each does alone."""
    script(*said)
    together = generate(model, PROMPTS[: len(said)], features)
    assert [len(answer.regions) for answer in together] == [tokens.count("<vis>") for tokens in said]
    equal = True
    for prompt, tokens, answer in zip(PROMPTS, said, together, strict=False):
        script(tokens)
        alone = generate(model, [prompt], features)[0]
        equal &= same([answer], [alone])
        for name in ("box", "mask") if answer.regions else ():
            equal &= torch.allclose(answer.predictions[name], alone.predictions[name], atol=1e-3)
    return equal


def test_batch_equals_single(model, features, script, monkeypatch) -> None:
    free = generate(model, PROMPTS, features, max_new_tokens=8)
    assert same(free, [generate(model, [p], features, max_new_tokens=8)[0] for p in PROMPTS])
    assert regions_equal_those_alone(model, features, script)
    decode = PerceptionGPT.decode
    images = model.collate(PROMPTS[: len(SAID)], features, generation=True).image_index
    monkeypatch.setattr(  # plant, as in the released code: regions are those of the rows that emit, images of the first
        PerceptionGPT, "decode", lambda self, states, seen, index: decode(self, states, seen, images[: len(index)])
    )
    assert not regions_equal_those_alone(model, features, script)
    together = [["<vis>", "<end>"]] * 3  # where all rows emit at once, the fault does not show
    assert regions_equal_those_alone(model, features, script, together)


def test_batch_equals_single_where_regions_are_read_as_tokens(model, features, script, monkeypatch) -> None:
    monkeypatch.setattr(type(model.readout), "feeds_back", False)
    assert regions_equal_those_alone(model, features, script)


def teacher_forced(model: PerceptionGPT, prompt: Sample, answer: Answer, features: Callable) -> Tensor:
    """The states of the same answer in one pass, with the decoded regions' own codes as its `<vis>` embeddings."""
    text = model.chat.decode(answer.token_ids)
    turn = Turn("assistant", text, (LEFT,) * text.count("<vis>"))
    sample = Sample(prompt.sample_id, prompt.image_id, prompt.size, (*prompt.turns, turn))
    batch = model.collate([sample], features)
    for name in batch.visible:
        values = model.signals[name].to_values(answer.predictions[name])
        batch.targets[name][0][batch.vis_is_answer] = values
        batch.visible[name][:] = True
    return model(batch).states


def test_teacher_forced_states_equal_free_running_states(model, features, script) -> None:
    script(["a", "<vis>", "and", "<vis>", "<vis>", "<end>"])
    answer = generate(model, PROMPTS[:1], features)[0]
    assert torch.allclose(teacher_forced(model, PROMPTS[0], answer, features), answer.states, atol=1e-4)


def second_state_follows_first_region(model: PerceptionGPT, features: Callable, script: Callable, patch) -> bool:
    """Whether the second object's state changes with what the first one was decoded to."""
    states = []
    encode = model.signals["box"].encode
    for shift in (0.0, 0.3):
        with patch.context() as inner:
            inner.setattr(model.signals["box"], "encode", lambda values, s=shift: encode((values + s).clamp(0, 1)))
            script(["<vis>", "<vis>", "<end>"])
            states.append(generate(model, PROMPTS[:1], features)[0].states)
    assert torch.equal(states[0][0], states[1][0])
    return not torch.allclose(states[0][1], states[1][1], atol=1e-6)


def test_second_object_sees_the_first_one_decoded(model, features, script, monkeypatch) -> None:
    assert second_state_follows_first_region(model, features, script, monkeypatch)
    row = model.embedding_tables()[0][model.chat.vis_id].detach()
    monkeypatch.setattr(  # plant: the static row is fed back
        generation, "feedback", lambda model, predictions: row.expand(len(predictions["box"]), -1)
    )
    assert not second_state_follows_first_region(model, features, script, monkeypatch)


def test_decoding_asks_for_the_position_that_training_asks_for(model, features, script, monkeypatch) -> None:
    script(["a", "<vis>", "<end>"])
    answer = generate(model, PROMPTS[:1], features)[0]
    monkeypatch.setattr("pgpt_lib.model.locate_positions", lambda positions: positions)  # plant: training alone differs
    assert not torch.allclose(teacher_forced(model, PROMPTS[0], answer, features), answer.states, atol=1e-4)


def test_rows_stop_on_their_own(model, features, script) -> None:
    script(["<end>"], ["<vis>", "<end>"], ["<vis>", "<vis>", "<end>"])
    answers = generate(model, PROMPTS[:3], features)
    assert [a.text for a in answers] == ["", "<vis>", "<vis> <vis>"]
    assert [len(a.regions) for a in answers] == [0, 1, 2]
    assert [len(a.token_ids) for a in answers] == [1, 2, 3]


def test_limit_stops_an_endless_answer(model, features, script) -> None:
    script(["a"] * 3)
    answer = generate(model, PROMPTS[:1], features, max_new_tokens=3)[0]
    assert answer.text == "a a a" and len(answer.token_ids) == 3 and answer.regions == []


@pytest.mark.parametrize("size", [(32, 32), (20, 50), (90, 30)])
def test_regions_are_in_the_frame_of_the_original_image(model, features, script, size) -> None:
    script(["<vis>", "<end>"])
    prompt = Sample("a", "one", size, (Turn("user", "where is the star ?"),))
    region = generate(model, [prompt], features)[0].regions[0]
    assert region.mask["size"] == list(size)
    assert all(0 <= v <= 1 for v in region.box) and region.box[0] <= region.box[2] and region.box[1] <= region.box[3]
    assert 0 <= region.depth <= 1


def test_mode_and_gradient_are_left_as_they_were(make_model, features) -> None:
    model = make_model().train()
    answer = generate(model, PROMPTS[:1], features, max_new_tokens=2)[0]
    assert model.training and not answer.states.requires_grad


def test_a_dialogue_that_ends_with_an_answer_is_refused(model, features) -> None:
    with pytest.raises(InputError, match="sample done"):
        generate(model, [dialogue("done", "one", ("where ?", ()), ("none", ()))], features)


def test_a_trained_model_says_and_points_what_it_was_taught(make_model, features) -> None:
    """The whole way round: labels, teacher forcing, losses, feedback and restoring fit together."""
    model = make_model(llm__lora_rank=16)
    taught = [
        dialogue("left", "one", ("where is the red circle ?", ()), ("<vis>", (LEFT,))),
        dialogue("both", "two", ("where is the star ?", ()), ("<p> a star </p> <vis> and <vis>", (LEFT, RIGHT))),
        dialogue("given", "one", ("what is <vis> ?", (RIGHT,)), ("a blue square", ())),
        dialogue("none", "two", ("where is <vis> ?", (LEFT,)), ("none", ())),
    ]
    batch = model.train().collate(taught, features)
    optimizer = torch.optim.AdamW(model.trainable_parameters().values(), lr=5e-3)
    for _ in range(70):
        model(batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    prompts = [Sample(s.sample_id, s.image_id, s.size, s.turns[:1]) for s in taught]
    answers = generate(model, prompts, features)
    assert [a.text for a in answers] == [s.turns[1].text for s in taught]
    for answer, sample in zip(answers, taught, strict=True):
        for got, true in zip(answer.regions, sample.turns[1].regions, strict=True):
            assert box_iou(torch.tensor([got.box]), torch.tensor([true.box])).item() > 0.7
            assert mask_iou(got.mask, true.mask) > 0.7
