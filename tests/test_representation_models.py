"""Models whose regions are text: one trainer, data stream, decoder and evaluation serves them as it serves `<vis>`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import LEFT, RIGHT, dialogue, make_llm
from test_evaluation import SIZE, region, sample
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from pgpt_lib import checkpoint
from pgpt_lib.backbones import resolve
from pgpt_lib.config import Coordinates, load_profile
from pgpt_lib.data.refshapes import rec_samples
from pgpt_lib.data.sample import Sample
from pgpt_lib.errors import InputError
from pgpt_lib.evaluation import Prediction, evaluate, predict, score
from pgpt_lib.evaluation.failures import failure_kinds, kept_answers, parse_failure_rate
from pgpt_lib.generation import generate
from pgpt_lib.model import PerceptionGPT, build_model
from pgpt_lib.optimisation import build_optimizer, optimiser_step
from pgpt_lib.regions import Region, mask_to_rle


@pytest.fixture(scope="session")
def nano() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(resolve("nano"))


@pytest.fixture(scope="session")
def make(nano, tiny_tower) -> Callable[..., PerceptionGPT]:
    """make("numerical", tied=False, tuning="lora", **coordinates): a tiny model with nano's vocabulary."""

    def build(name: str, tied: bool = False, tuning: str = "lora", **coordinates: object) -> PerceptionGPT:
        llm = {"llm.name": "tiny", "llm.lora_rank": 16, "llm.tuning": tuning}
        profile = load_profile("smoke", {"vision.name": "tiny", "vision.image_size": 32, **llm, "representation": name})
        profile = profile.model_copy(update={"coordinates": Coordinates(**coordinates)})
        return build_model(profile, 0, (make_llm(len(nano), tied), nano), tiny_tower)

    return build


TAUGHT = [
    dialogue("left", "one", ("find the red circle .", ()), ("<vis>", (LEFT,))),
    dialogue("both", "two", ("find all stars .", ()), ("<p> a star </p> <vis> and <vis>", (LEFT, RIGHT))),
    dialogue("given", "one", ("what is <vis> ?", (RIGHT,)), ("a blue square", ())),
    dialogue("none", "two", ("find the moon .", ()), ("none", ())),
]
PROMPTS = [Sample(s.sample_id, s.image_id, s.size, s.turns[:1]) for s in TAUGHT]
KINDS = {
    "numerical": {},
    "vocabulary": {},
    "numerical masks": {"target": "mask", "vertices": 4},
    "vocabulary masks": {"target": "mask", "vertices": 6, "bins": 16},
}


def learn(model: PerceptionGPT, features: Callable, steps: int) -> list[float]:
    """Train on `TAUGHT` at a rate that falls to zero; the loss of each step."""
    batch = model.train().collate(TAUGHT, features)
    optimizer = torch.optim.AdamW(model.trainable_parameters().values(), lr=0.01)
    losses = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / steps)
        output = model(batch)
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(output.loss.item())
    assert set(output.losses) == {"language"} and output.counts["regions"] == 0
    return losses


@pytest.mark.parametrize("name", ["numerical", "vocabulary"])
def test_loss_falls_under_lora(make, features, name) -> None:
    losses = learn(make(name), features, steps=50)
    assert losses[-1] < 0.4 * losses[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_samples_are_learnt_and_decoded(make, features, kind) -> None:
    """Answers parse and regions are as near as can be written; alone, in a batch, with a cache and without."""
    model = make(kind.split()[0], tuning="full", **KINDS[kind])
    losses = learn(model, features, steps=80)
    assert losses[-1] < 0.05 < 2 < losses[0]
    answers = generate(model, PROMPTS, features, 200)
    assert [a.text for a in answers] == [s.turns[1].text for s in TAUGHT]
    assert all(a.parse_failures == 0 for a in answers)
    assert all("<vis>" in a.text and "<vis>" not in a.written for a in answers if a.regions)
    free = predict(model, TAUGHT[:1], None, features)[0]
    assert free.written and "<vis>" not in free.written and free.text.count("<vis>") == len(free.regions)
    for answer, taught in zip(answers, TAUGHT, strict=True):
        for got, true in zip(answer.regions, taught.turns[1].regions, strict=True):
            assert max(abs(a - b) for a, b in zip(got.box, true.box, strict=True)) <= 0.5 / 16 + 0.01
            assert (got.mask is not None) == ("masks" in kind)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        assert generate(model, [prompt], features, 200)[0].token_ids == answer.token_ids
    uncached = generate(model, PROMPTS, features, 200, cached=False)
    assert [a.token_ids for a in uncached] == [a.token_ids for a in answers]
    cut = generate(model, PROMPTS[:1], features, 3)[0]  # a limit that cuts a region off
    assert cut.regions == [] and cut.parse_failures == 1 and "<vis>" not in cut.text


def ring() -> Region:
    """A mask of two contours, so that `<part>` is written."""
    bitmap = np.zeros((32, 32), np.uint8)
    bitmap[4:28, 4:28] = 1
    bitmap[12:20, 12:20] = 0
    return Region(None, mask_to_rle(bitmap))


RING = ring()


def every_token(bins: int) -> list[Sample]:
    """Dialogues whose questions and answers hold every token of a grid."""
    cells = [((i % bins + 0.5) / bins, (i // bins + 0.5) / bins) for i in range(bins**2)]
    points = [Region((*cell, *cell)) for cell in cells]
    pair = [
        dialogue(f"{i}", "one", ("what is <vis> ?", (p,)), ("<p> a star </p> <vis>", (p,)))
        for i, p in enumerate(points)
    ]
    return [*pair, dialogue("mask", "one", ("what is <p> <vis> </p> ?", (RING,)), ("<vis>", (RING,)))]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", ["numerical", "vocabulary"])
def test_every_trainable_row_gets_a_gradient(make, features, name, tied) -> None:
    model = make(name, tied, target="mask", bins=4, vertices=6)
    model(model.collate(every_token(4), features)).loss.backward()
    rows = {n: p for n, p in model.trainable_parameters().items() if "trainable_tokens" in n}
    assert len(rows) == (1 if tied else 2)
    for table, p in rows.items():
        assert len(p) == len(model.chat.representation.tokens)
        assert (p.grad.abs().sum(1) > 0).all(), table
    for n, p in model.trainable_parameters().items():
        assert p.grad is not None and ("lora_A" in n or p.grad.abs().sum() > 0), n


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("tuning", ["lora", "full", "frozen"])
@pytest.mark.parametrize("name", ["numerical", "vocabulary"])
def test_rows_come_back_to_the_bit(make, features, tmp_path: Path, name, tuning, tied) -> None:
    model = make(name, tied, tuning, bins=8)
    optimizer = torch.optim.AdamW(model.trainable_parameters().values(), lr=0.01)
    batch = model.collate(TAUGHT, features)
    model(batch).loss.backward()
    optimizer.step()
    path = checkpoint.save_checkpoint(tmp_path, model, optimizer, checkpoint.State(model.profile, 0, 1))
    fresh = make(name, tied, tuning, bins=8)
    ids = sorted(model.chat.special_ids.values())
    assert not torch.equal(fresh.embedding_tables()[1][ids], model.embedding_tables()[1][ids])
    checkpoint.load_weights(path, fresh)
    for old, new in zip(model.embedding_tables(), fresh.embedding_tables(), strict=True):
        assert torch.equal(old, new)
    assert torch.equal(model.eval()(batch).loss, fresh.eval()(batch).loss)
    state = checkpoint.read_state(path)
    assert state.profile.coordinates == model.profile.coordinates


def test_rows_of_near_places_start_near_each_other(make) -> None:
    model = make("vocabulary", bins=8)
    ids = model.chat.special_ids
    table, base = model.embedding_tables()[0], model.chat.base_vocabulary
    place = [table[ids[f"<loc_{i}>"]] for i in range(64)]
    near = torch.stack([place[i] - place[i + 1] for i in range(64) if i % 8 < 7]).norm(dim=1)
    far = torch.stack([place[i] - place[63 - i] for i in range(16)]).norm(dim=1)
    assert near.mean() < 0.7 * far.mean()
    words = table[:base]
    offsets = torch.stack(place) - words.mean(0)
    assert 0.1 < offsets.std() / words.std() < 1  # no farther from the mean than words are
    assert len(torch.stack(place).unique(dim=0)) == 64


def test_dialogues_beyond_the_models_positions_are_refused(make, features) -> None:
    model = make("numerical", target="mask", vertices=32)
    with pytest.raises(InputError, match="data.turns"):
        model.collate(TAUGHT, features)


@pytest.mark.parametrize("name", ["numerical", "vocabulary"])
def test_one_trainer_serves_all(make, features, name) -> None:
    model = make(name, bins=8)
    assert not model.signals and model.mask_fusion is None
    counts = {n: p.numel() for n, p in model.trainable_parameters().items()}
    rows = sum(n for key, n in counts.items() if "trainable_tokens" in key)
    assert rows == 2 * 64 * len(model.chat.representation.tokens)
    optimizer = build_optimizer(model.trainable_parameters(), model.profile.training)
    batches = [model.collate(TAUGHT[:2], features), model.collate(TAUGHT[2:], features)]
    figures = optimiser_step(Accelerator(cpu=True), model, optimizer, batches, model.profile)
    assert set(figures.losses) == {"language"} and figures.regions == figures.emitted == 0 and figures.grad_norm > 0


# ---------------------------------------------------------------- evaluation


def answer(text: str, given: Region | None, failures: int = 0, image: str = "a", true: Region | None = None, **extra):
    asked = sample("rec", "<vis>", [true or OBJECTS[0]], image, **{"others": OBJECTS[1:], **extra})
    return Prediction(asked, text, () if given is None else (given,), failures)


OBJECTS = (region(0, 0, 10, 4), region(0, 6, 10, 10), region(14, 0, 20, 10))


def test_three_ways_to_fail_by_hand() -> None:
    predictions = [
        answer("<vis>", OBJECTS[0]),  # right
        answer("[ 0 . 1", None, 1),  # format: cut off
        answer("none", None),  # format: no region
        answer("<vis>", OBJECTS[1]),  # another object
        answer("<vis>", region(0, 3, 10, 8)),  # overlaps both, the other one more
        answer("<vis>", region(0, 0, 4, 4)),  # the right object, IoU 0.4
        answer("<vis>", region(0, 0, 5, 4)),  # IoU 0.5 is not above 0.5
        answer("<vis>", region(11, 1, 13, 2)),  # touches none, nearest to the third
        answer("<vis>", region(4, 4, 6, 5)),  # touches none, nearest to the right one
    ]
    assert failure_kinds(predictions) == {"format": 2, "wrong_object": 3, "imprecise": 3}
    assert parse_failure_rate(predictions)[0] == pytest.approx(1 / 9)
    metrics = score(predictions)
    assert metrics["failures"] == {"format": 2, "wrong_object": 3, "imprecise": 3}
    assert metrics["parse_failure_rate"][0] == pytest.approx(1 / 9) and len(metrics["parse_failure_rate"]) == 3
    assert sum(metrics["failures"].values()) == metrics["n"] * (1 - metrics["acc@0.5"][0])


def test_kept_answers_show_what_was_written_beside_what_was_read() -> None:
    given = [replace(answer("<vis>", OBJECTS[1]), written="[ 0 . 0 ]"), answer("[ 0 . 1", None, 1)]
    first, second = kept_answers([*given, answer("<vis>", OBJECTS[0])], 2)
    assert first == {
        "image": "a", "question": "?", "written": "[ 0 . 0 ]", "true": [0, 0, 0.5, 0.4], "read": [0, 0.6, 0.5, 1],
        "failure": "wrong_object",
    }  # fmt: skip
    assert (second["read"], second["failure"]) == (None, "format")


def test_failures_need_the_scenes_other_objects() -> None:
    bare = Prediction(sample("rec", "<vis>", [OBJECTS[0]]), "none")
    assert failure_kinds([bare]) == {} and "failures" not in score([bare])
    assert score([bare])["parse_failure_rate"] == [0, 0, 0]
    assert parse_failure_rate([]) is None


def test_a_malformed_region_counts_as_a_region_where_none_is_right() -> None:
    asked = sample("none", "none")
    metrics = score([Prediction(asked, "[ 0 . 1 ]", (), 1)])
    assert metrics["false_vis"]["none"][0] == 1 and metrics["none"]["parse_failure_rate"][0] == 1


def test_refshapes_samples_know_their_scene() -> None:
    for drawn in rec_samples("refcoco", "val", 3, 0, "smoke"):
        assert drawn.turns[1].regions[0] not in drawn.extra["others"] and len(drawn.extra["others"]) >= 1
    perfect = [Prediction(s, "<vis>", s.turns[1].regions) for s in rec_samples("refcoco", "val", 3, 0, "smoke")]
    assert failure_kinds(perfect) == {"format": 0, "wrong_object": 0, "imprecise": 0}
    swapped = [Prediction(p.sample, "<vis>", p.sample.extra["others"][:1]) for p in perfect]
    assert failure_kinds(swapped) == {"format": 0, "wrong_object": len(swapped), "imprecise": 0}


@pytest.mark.parametrize("kind", ["numerical", "vocabulary masks"])
def test_evaluation_serves_text_too(make, features, kind) -> None:
    model = make(kind.split()[0], **KINDS[kind])
    asked = [
        sample("rec", "<vis>", [OBJECTS[0]], "one", "find it .", others=OBJECTS[1:]),
        sample("several", "<vis> <vis>", OBJECTS[:2], "one", "find all ."),
        sample("region_question", "red", image="one", question="what is it ?"),
    ]
    asked[2] = Sample("q", "one", SIZE, TAUGHT[2].turns, "region_question", {"wrong": RIGHT, "wrong_answer": "a"})
    metrics = evaluate(model, asked, None, features).metrics
    assert metrics["teacher_forced"] == dict.fromkeys(("acc@0.5", "miou_box", "ciou", "miou_mask"))
    assert {"parse_failure_rate", "failures"} <= set(metrics) and "parse_failure_rate" in metrics["several"]
    assert metrics["region_question"]["n_mask"] == 1
    assert json.loads(json.dumps(metrics)) == metrics
    [free] = predict(model, asked[:1], None, features)
    assert free.text.count("<vis>") == len(free.regions)
