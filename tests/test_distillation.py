"""The untuned model as a teacher of the exchanges in words."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import LEFT, RIGHT, dialogue

from pgpt_lib import training
from pgpt_lib.config import load_profile
from pgpt_lib.data.streams import build_stream
from pgpt_lib.distillation import Teacher, in_words
from pgpt_lib.errors import InputError
from pgpt_lib.losses import distillation_loss, supervised_positions
from pgpt_lib.model import build_model
from pgpt_lib.optimisation import target_counts

MIXED = dialogue(
    "mixed",
    "one",
    ("where is the red circle ?", ()),
    ("<vis>", (LEFT,)),
    ("how many star ?", ()),
    ("2", ()),
    ("where is the star ?", ()),
    ("none", ()),
    ("what is <vis> ?", (RIGHT,)),
    ("a blue square", ()),
    ("what is left ?", ()),
    ("a red circle", ()),
)
REGIONS = replace(MIXED, sample_id="regions", image_id="two", turns=MIXED.turns[:2])
WORDS = replace(MIXED, sample_id="words", image_id="three", turns=MIXED.turns[2:4] + MIXED.turns[8:])


def test_what_a_model_without_regions_can_take_part_in():
    assert in_words(MIXED) == [False, True, False, False, True]
    assert in_words(REGIONS) == [False] and in_words(WORDS) == [True, True]


def test_the_teacher_answers_each_exchange_in_words_as_alone(make_model, features):
    model, teacher = make_model(), Teacher(make_model())
    samples = [REGIONS, MIXED, WORDS]
    batch = teacher.teach(model.collate(samples, features, apart=True), samples)
    assert batch.kept.shape == batch.labels.shape and len(batch.taught) == int(batch.kept.sum())
    rows, columns = torch.nonzero(batch.kept, as_tuple=True)
    assert set(rows.tolist()) == {1, 2} and (batch.labels[batch.kept] != -100).all()
    alone = []
    for sample in (MIXED, WORDS):
        for start, known in zip(range(0, len(sample.turns), 2), in_words(sample), strict=True):
            if known:
                one = replace(sample, turns=sample.turns[start : start + 2])
                alone.append(teacher.model.word_probabilities(model.collate([one], features)))
    torch.testing.assert_close(batch.taught, torch.cat(alone), atol=1e-5, rtol=1e-4)
    answers = batch.labels[rows, columns]
    (expected,) = [torch.cat([b.labels[b.labels != -100] for b in [model.collate([MIXED, WORDS], features)]])]
    assert set(answers.tolist()) <= set(expected.tolist())


def test_an_untuned_model_has_nothing_to_make_good_and_a_tuned_one_has(make_model, features):
    model, teacher = make_model().eval(), Teacher(make_model())
    batch = teacher.teach(model.collate([MIXED, REGIONS], features, apart=True), [MIXED, REGIONS])
    with torch.no_grad():
        before = model(batch)
        for name, parameter in model.trainable_parameters().items():
            if "lora_B" in name:
                parameter.add_(0.05)
        after = model(batch)
    assert before.losses["distillation"].abs() < 1e-5 < 1e-3 < after.losses["distillation"]
    assert target_counts(batch, model)["distillation"] == len(batch.taught)
    without = model(replace(batch, kept=None, taught=None))
    assert without.losses.keys() == after.losses.keys() - {"distillation"}


def test_a_batch_without_words_trains(make_model, features):
    model, teacher = make_model(), Teacher(make_model())
    batch = teacher.teach(model.collate([REGIONS], features, apart=True), [REGIONS])
    output = model(batch)
    assert output.losses["distillation"] == 0 and batch.taught.shape == (0, len(model.chat))
    output.loss.backward()


def test_the_divergence_is_a_mean_over_tokens():
    hidden, kept = torch.randn(2, 3, 4, requires_grad=True), torch.zeros(2, 3, dtype=torch.bool)
    kept[0, 1] = kept[1, 2] = True
    taught = torch.randn(2, 5).log_softmax(-1)
    head = torch.nn.Linear(4, 5)
    own = torch.stack([head(hidden[0, 0]), head(hidden[1, 1])]).softmax(-1)
    want = (taught.exp() * (taught - own.log())).sum() / 2
    torch.testing.assert_close(distillation_loss(hidden, kept, taught, head), want)


def test_it_needs_exchanges_that_are_apart(make_model, features):
    with pytest.raises(InputError, match="turns_apart"):
        Teacher(make_model()).teach(make_model().collate([MIXED], features), [MIXED])


def test_the_trainer_asks_the_bundled_model():
    settings = {"data.turns_apart": True, "data.train_scenes": 2, "losses.distillation": 0.5}
    settings["data.tasks"] = {"rec": 1, "question": 1}
    profile = load_profile("smoke", settings)
    model = build_model(profile, 0)
    samples = (stream := build_stream(profile, 0)).batch(0, 2)
    batch = training.batch_maker(model, stream, False)(samples, torch.Generator().manual_seed(0))
    likely = batch.taught.argmax(-1) == batch.labels[batch.kept]
    assert len(likely) > 5 and likely.float().mean() > 0.5, "nano knows most answers, and is asked for the right tokens"
    rows, _ = supervised_positions(batch.labels)
    assert len(likely) < len(rows), "answers with regions are not taught"
