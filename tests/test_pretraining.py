"""The recipe that makes nano: data, answers, resume."""

import json

import pytest
import torch
from torch import nn

from pgpt_lib.backbones import BUNDLED
from pgpt_lib.data.refshapes.questions import SCORED
from pgpt_lib.data.refshapes.scene import make_scene, stream
from pgpt_lib.data.refshapes.world import question_samples
from pgpt_lib.pretraining.dialogues import CURRICULUM, IGNORE, KINDS, PixelBatches, WordBatches, codes, pack, word_grid
from pgpt_lib.pretraining.evaluate import answer_all
from pgpt_lib.pretraining.nano import WordGrid, answer_loss, make_nano, whole_answers
from pgpt_lib.pretraining.words import learning_rate, train_words

torch.manual_seed(0)


def test_a_batch_is_a_function_of_its_step():
    ahead, later = WordBatches(1, 3, 4, 48, 0, 9), WordBatches(1, 3, 4, 48, 5, 4)
    for name, value in ahead[6].items():
        assert torch.equal(value, later[1][name])
    pixels = PixelBatches("cpu", 12, 0, 4, 48, 0, 9)
    assert sorted(torch.cat([pixels[i]["scenes"] for i in range(3)]).tolist()) == list(range(12)), (
        "each scene once an epoch"
    )
    assert torch.equal(pixels[7]["input_ids"], PixelBatches("cpu", 12, 0, 4, 48, 7, 1)[0]["input_ids"])


def test_only_answers_are_supervised():
    code = codes()
    scene = make_scene("cpu", "test", 0, 0)
    ids, labels, answers = pack(scene, stream("test", 0), CURRICULUM[-1][1], 72, code)
    assert len(ids) == len(labels) == len(answers) == 72
    inside = False
    for token, label, answer in zip(ids, labels, answers, strict=True):
        assert (label == (token if inside else IGNORE)) and (answer >= 0) == inside
        inside = (inside or token == code.vocabulary["<assistant>"]) and token != code.vocabulary["<end>"]


def test_word_grid_names_every_object():
    code = codes()
    names = {i: w for w, i in code.vocabulary.items()}
    for index in range(20):
        scene = make_scene("cpu", "test", 0, index)
        seen = {
            tuple(names[int(i)] for i in cell[:3])
            for cell in word_grid(scene, code)
            if names[int(cell[0])] != "<empty>"
        }
        assert seen == {(t.colour, t.shape, t.size) for t in scene.things}


def test_whole_answers_counts_an_answer_wrong_for_one_token():
    right = torch.tensor([True, True, True, False, True])
    answers = torch.tensor([1, 1, 102, 102, 1])
    rows = torch.tensor([0, 0, 0, 0, 1])
    whole, kinds = whole_answers(right, answers, rows)
    assert sorted(zip(kinds.tolist(), whole.tolist(), strict=True)) == [(1, True), (1, True), (2, False)]


@pytest.mark.parametrize("has", [True, False])
def test_questions_are_answered_in_a_precision_that_the_processor_has(has, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has})
    reduced = []

    def visual(ids):
        reduced.append(torch.is_autocast_enabled("cpu"))
        return torch.zeros(len(ids), 4, 32)

    assert len(answer_all(make_nano(32, 2, 2, 64).eval(), visual, question_samples("val", 2, 0))) > 4
    assert set(reduced) == {has}


@torch.no_grad()
def test_teacher_forced_exactness_is_greedy_decoding():
    llm = make_nano(32, 2, 2, 64).eval()
    batch = WordBatches(1, 0, 3, 40, 0, 1)[0]
    grid = WordGrid(32, llm.config.pad_token_id)
    visual = grid(batch["grid"], llm.get_input_embeddings())
    first = batch["labels"][0].ne(IGNORE).nonzero()[0, 0].item()
    prompt = batch["input_ids"][:1, :first]
    start = llm.get_input_embeddings()(torch.tensor([[llm.config.bos_token_id]]))
    written: list[int] = []
    for _ in range(3):
        ids = torch.cat([prompt, torch.tensor([written], dtype=torch.long)], 1)
        embeds = torch.cat([start, visual[:1], llm.get_input_embeddings()(ids)], 1)
        written.append(llm(inputs_embeds=embeds).logits[0, -1].argmax().item())
    for answer, expected in ((written, True), ([*written[:-1], (written[-1] + 1) % 50], False)):
        ids = torch.cat([prompt, torch.tensor([answer])], 1)
        labels = torch.full_like(ids, IGNORE)
        labels[0, first:] = torch.tensor(answer)
        kinds = torch.where(labels >= 0, 0, -1)
        _, hits, marks = answer_loss(llm, visual[:1], {"input_ids": ids, "labels": labels, "answers": kinds})
        assert whole_answers(hits, marks, torch.zeros(3, dtype=torch.long))[0].tolist() == [expected]


def test_learning_rate_warms_up_stays_and_falls():
    rates = [learning_rate(step, 100, 1.0, 10, 0.4) for step in range(100)]
    assert (
        rates[0] == 0.1
        and rates[20] == rates[59] == 1.0
        and 0 < rates[99] < 0.03
        and rates[60:] == sorted(rates[60:], reverse=True)
    )


def test_killed_words_stage_goes_on(tmp_path, monkeypatch):
    from pgpt_lib.pretraining import words

    monkeypatch.setattr(words, "make_nano", lambda: make_nano(32, 1, 2, 64))
    settings = {"batch_size": 4, "length": 40}
    monkeypatch.setattr(words, "SAVE_EVERY", 2)
    whole = train_words(tmp_path / "whole", steps=5, **settings)
    calls = []

    def dying(*args):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        return answer_loss(*args)

    monkeypatch.setattr(words, "answer_loss", dying)
    with pytest.raises(KeyboardInterrupt):
        train_words(tmp_path / "killed", steps=5, **settings)
    monkeypatch.setattr(words, "answer_loss", answer_loss)
    killed = train_words(tmp_path / "killed", steps=5, **settings)
    assert (whole / "modules.safetensors").read_bytes() == (killed / "modules.safetensors").read_bytes()


def test_card_describes_the_bundled_weights():
    import hashlib

    card = json.loads((BUNDLED / "nano" / "card.json").read_text())
    for name, digest in card["sha256"].items():
        assert hashlib.sha256((BUNDLED / name).read_bytes()).hexdigest() == digest, name
    assert sum(p.stat().st_size for p in BUNDLED.rglob("*.safetensors")) < 12e6
    assert set(card["questions"]) == {"all", *SCORED} and all(q["n"] >= 300 for q in card["questions"].values())
    assert card["level"] == "cpu" and card["command"].startswith("python -m pgpt_lib pretrain")


def test_bundled_nano_answers_as_its_card_says():
    """A small sample through the smoke tower, which needs no download."""
    from pgpt_lib.pretraining.pipeline import evaluate_bundled

    card = json.loads((BUNDLED / "nano" / "card.json").read_text())
    measured = evaluate_bundled(40, 3, "nano-vit")["questions"]["all"]
    low, high = measured["accuracy"][1:]
    assert low - 0.03 <= card["smoke"]["questions"]["all"]["accuracy"][0] <= high + 0.03
    assert measured["n"] > 150


def test_kinds_are_fewer_than_a_hundred():
    assert len(KINDS) < 100, "whole_answers packs the kind into two digits"
    assert isinstance(WordGrid(8, 0), nn.Module)
