"""Evaluation against hand-computed cases: a model whose answers are scripted, so that every score is known exactly."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace

import big_layouts as layouts
import numpy as np
import pytest
import torch
from results_page import check_metrics

from pgpt_lib.data.phrasings import held_out_phrasing
from pgpt_lib.data.sample import Sample, Turn
from pgpt_lib.errors import InputError
from pgpt_lib.evaluation import Prediction, evaluate, predict, save_predictions, score
from pgpt_lib.evaluation.benchmark_sets import EvaluationSet, benchmark_set
from pgpt_lib.evaluation.by_scene import by_scene
from pgpt_lib.evaluation.checkpoint import refshapes_samples
from pgpt_lib.evaluation.dialogue import phrases_of, region_scores, region_variants, spot_caption_scores, with_variants
from pgpt_lib.evaluation.generalised import generalised_scores
from pgpt_lib.evaluation.grounding import (
    depth_error,
    fill_box,
    filled_ciou,
    none_scores,
    rec_scores,
    set_scores,
    shuffled,
)
from pgpt_lib.evaluation.predictions import TowerFeatures, batches, max_new_tokens, prompt_of
from pgpt_lib.evaluation.scores import FORCED_KEYS, REGION_GIVEN
from pgpt_lib.evaluation.words import caption_scores, false_vis_rates, question_scores
from pgpt_lib.regions import Region, mask_area, mask_to_rle, rle_to_mask
from pgpt_lib.sweeps import results

SIZE = (10, 20)  # height, width


def region(x1: int, y1: int, x2: int, y2: int, depth: float | None = None, mask: bool = True) -> Region:
    """A box in pixels, and the same pixels as its mask."""
    bitmap = np.zeros(SIZE, np.uint8)
    bitmap[y1:y2, x1:x2] = 1
    height, width = SIZE
    box = (x1 / width, y1 / height, x2 / width, y2 / height)
    return Region(box, mask_to_rle(bitmap) if mask else None, depth)


def sample(
    task: str, answer: str, regions: Sequence[Region] = (), image: str = "a", question: str = "?", **extra: object
) -> Sample:
    turns = (Turn("user", question), Turn("assistant", answer, tuple(regions)))
    return Sample(f"{image}/{task}/{question}", image, SIZE, turns, task, extra)


LEFT, RIGHT, HALF = region(0, 0, 10, 10, 0.2), region(10, 0, 20, 10, 0.8), region(0, 0, 5, 10, 0.5)


def rec(true: Region, given: Region | None, image: str = "a", question: str = "?") -> Prediction:
    asked = sample("rec", "<vis>", [true], image, question)
    return Prediction(asked, "none" if given is None else "<vis>", () if given is None else (given,))


class Scripted:
    """A model that answers by heart, and remembers what it was asked."""

    def __init__(self, answers: dict[str, tuple[str, tuple[Region, ...]]]) -> None:
        self.answers, self.asked, self.tower = answers, [], None
        self.chat = SimpleNamespace(vis_id=7)

    def eval(self) -> None:
        pass

    def generate(self, model, samples, features, max_new_tokens):
        self.asked += [(s.turns[-1].text, max_new_tokens) for s in samples]
        assert all(s.turns[-1].role == "user" for s in samples), "a prompt must not hold its answer"
        given = [self.answers[s.turns[-1].text] for s in samples]
        return [SimpleNamespace(text=t, regions=list(regions), parse_failures=0, written=t) for t, regions in given]


def test_rec_scores_by_hand() -> None:
    """IoUs 1, 0.5 (which is not above 0.5), 0 and 0; pixels 100 + 50 + 0 + 0 over 100 + 100 + 200 + 100."""
    scores = rec_scores([rec(LEFT, LEFT), rec(LEFT, HALF), rec(LEFT, RIGHT), rec(RIGHT, None)])
    values = {key: value[0] if isinstance(value, list) else value for key, value in scores.items()}
    assert values == pytest.approx({
        "n": 4, "missing": 0, "acc@0.5": 0.25, "miou_box": 0.375, "ciou": 150 / 500, "miou_mask": 0.375,
        "p@0.5": 0.25, "p@0.7": 0.25, "p@0.9": 0.25, "emission_rate": 0.75,
    })  # fmt: skip
    assert scores["acc@0.5"][1:] == [0.25, 0.25]  # one image: nothing to resample


def test_the_first_of_several_regions_is_the_answer() -> None:
    first, second = (replace(rec(LEFT, LEFT), regions=given) for given in ((LEFT, RIGHT), (RIGHT, LEFT)))
    assert [rec_scores([p])["acc@0.5"][0] for p in (first, second)] == [1, 0]
    assert [rec_scores([p])["ciou"][0] for p in (first, second)] == [1, 0]


def test_no_masks_no_mask_scores() -> None:
    bare = replace(LEFT, mask=None)
    scores = rec_scores([rec(LEFT, bare)])
    assert scores["acc@0.5"][0] == 1 and scores["ciou"] is None


def test_shuffled_scores_each_object_against_anothers_answer() -> None:
    right = [rec(LEFT, LEFT, question="l"), rec(RIGHT, RIGHT, question="r"), rec(RIGHT, RIGHT, question="r2")]
    alone = rec(LEFT, LEFT, image="b")
    exchanged = shuffled([*right, alone])
    assert [p.regions for p in exchanged] == [(RIGHT,), (LEFT,), (LEFT,)]
    assert rec_scores(exchanged)["acc@0.5"][0] == 0
    blind = [rec(LEFT, LEFT, question="l"), rec(RIGHT, LEFT, question="r")]  # always the same object
    assert rec_scores(shuffled(blind))["acc@0.5"][0] == rec_scores(blind)["acc@0.5"][0] == 0.5


def test_filled_boxes() -> None:
    """The true mask is a 5 x 10 half of its 10 x 10 box: filling the true box gives IoU 0.5, an exact mask gives 1."""
    true = Region(LEFT.box, HALF.mask)
    filled = filled_ciou([rec(true, Region(HALF.box, HALF.mask))])
    assert filled["true_box"][0] == 0.5 and filled["predicted_box"][0] == 1
    assert filled_ciou([rec(true, None)])["predicted_box"] is None  # no mask at all to compare
    bitmap = rle_to_mask(fill_box(Region((0.05, 0.1, 0.1, 0.3)), SIZE))
    assert np.argwhere(bitmap).tolist() == [[1, 1], [2, 1]]
    between = rle_to_mask(fill_box(Region((0.08, 0.1, 0.18, 0.3)), SIZE))  # from 1.6 to 3.6: centres 2.5 and 3.5
    assert np.argwhere(between).tolist() == [[1, 2], [1, 3], [2, 2], [2, 3]]


def test_depth_error_beside_the_best_constant() -> None:
    given = [replace(LEFT, depth=0.3), replace(RIGHT, depth=0.8), replace(RIGHT, depth=None)]
    depths = depth_error([rec(LEFT, given[0]), rec(RIGHT, given[1]), rec(RIGHT, given[2]), rec(RIGHT, None)])
    assert (depths["n"], depths["of"]) == (2, 4)
    assert depths["mae"][0] == pytest.approx(0.05)
    assert depths["constant_mae"][0] == pytest.approx(0.3)  # the median, 0.5, is 0.3 from both
    skewed = [rec(replace(LEFT, depth=true), given[0]) for true in (0.0, 0.2, 0.8)]
    assert depth_error(skewed)["constant_mae"][0] == pytest.approx(0.8 / 3)  # the median, 0.2, not the mean
    assert depth_error([rec(LEFT, None)]) == {}


def test_sets_are_matched_one_to_one() -> None:
    """Two of two found, then one region given twice for two targets: 3 matched of 4 given and 4 true."""
    asked = sample("several", "<vis> <vis>", [LEFT, RIGHT])
    both = Prediction(asked, "<vis> <vis>", (RIGHT, LEFT))
    twice = Prediction(asked, "<vis> <vis>", (LEFT, LEFT))
    scores = set_scores([both, twice])
    assert scores["set_precision"][0] == scores["set_recall"][0] == 0.75
    assert scores["merged_iou"][0] == 0.75  # all of the picture, then half of it
    nothing = set_scores([Prediction(asked, "none")])
    assert nothing["set_precision"] is None and nothing["set_recall"][0] == 0 and nothing["merged_iou"][0] == 0


def test_none_is_to_be_said_and_nothing_else() -> None:
    asked = sample("none", "none")
    answers = [Prediction(asked, "none"), Prediction(asked, "<vis>", (LEFT,)), Prediction(asked, "none <vis>", (LEFT,))]
    assert none_scores(answers)["accuracy"][0] == pytest.approx(1 / 3)


def test_questions_by_type_beside_the_majority() -> None:
    asked = [("colour", "red", "red"), ("colour", "red", "blue"), ("colour", "blue", "blue ring")]
    asked.append(("count", "two", "two"))
    given = [Prediction(sample("question", true, type=kind), text) for kind, true, text in asked]
    scores = question_scores(given)
    assert scores["colour"] == {"accuracy": [pytest.approx(1 / 3)] * 3, "n": 3, "majority": pytest.approx(2 / 3)}
    assert scores["count"]["accuracy"][0] == 1 and scores["count"]["majority"] == 1
    assert scores["all"]["accuracy"][0] == 0.5 and scores["all"]["n"] == 4
    assert scores["all"]["majority"] == 0.75  # red for colours, two for counts
    assert question_scores([]) == {}


def test_captions_take_their_references() -> None:
    words = ["a red ring and a blue star", "two green squares side by side", "one small heart on the left"]
    given = [
        Prediction(sample("caption", "x", image=str(i), references=[w, "other words altogether"]), w)
        for i, w in enumerate(words)
    ]
    assert caption_scores(given)["cider"][0] == pytest.approx(5)  # 10 for one reference, 0 for the other


def test_false_vis_counts_regions_and_stray_tokens() -> None:
    none = sample("none", "none")
    by_task = {
        "none": [Prediction(none, "none"), Prediction(none, "<vis>", (LEFT,))],
        "caption": [Prediction(sample("caption", "words"), "a <vis>")],
        "rec": [rec(LEFT, LEFT)],
    }
    rates = false_vis_rates(by_task)
    assert {task: value[0] for task, value in rates.items()} == {"none": 0.5, "caption": 1}


def test_phrases_keep_to_their_regions() -> None:
    text = "<p> a Red  circle </p> <vis> and <p> two stars </p> <vis> <vis> , <p> no region </p> <vis"
    assert phrases_of(text, (LEFT, RIGHT, HALF)) == [("a red circle", LEFT), ("two stars", RIGHT), ("two stars", HALF)]
    assert phrases_of("<vis> <p> a star </p> <vis>", (LEFT, RIGHT)) == [("a star", RIGHT)]
    assert phrases_of("<p> cut off", (LEFT,)) == []


def test_spot_captions_need_words_and_place() -> None:
    text = "<p> a star </p> <vis> , <p> a star </p> <vis> and <p> a ring </p> <vis>"
    truth = sample("spot_caption", text, [LEFT, RIGHT, HALF])
    given = Prediction(truth, "<p> a star </p> <vis> and <p> a star </p> <vis>", (LEFT, LEFT))
    scores = spot_caption_scores([given])  # one star in its place; both stars in words
    assert scores["precision"][0] == 1 / 2 and scores["recall"][0] == 1 / 3 and scores["f1"][0] == pytest.approx(2 / 5)
    assert scores["phrase_f1"][0] == pytest.approx(4 / 5)


def given_region(**extra) -> Sample:
    turns = (Turn("user", "what is <vis> ?", (LEFT,)), Turn("assistant", "a star"))
    return Sample("s", "a", SIZE, turns, "region_caption", extra)


def test_a_region_is_given_as_box_as_mask_and_wrongly() -> None:
    variants = region_variants(given_region(wrong=RIGHT, wrong_answer="a ring"))
    shown = {name: v.turns[0].regions[0] for name, v in variants.items()}
    assert shown == {"box": Region(LEFT.box), "mask": Region(None, LEFT.mask), "wrong": RIGHT}
    assert [v.turns[-1].text for v in variants.values()] == ["a star", "a star", "a ring"]
    assert list(region_variants(given_region())) == ["box", "mask"]
    with pytest.raises(InputError, match="has 0 regions"):
        region_variants(sample("region_caption", "a star"))


def test_region_scores_by_variant() -> None:
    variants = region_variants(given_region(wrong=RIGHT, wrong_answer="a ring"))
    scores = region_scores([Prediction(variants[name], "a star") for name in variants])
    assert (scores["box"][0], scores["mask"][0], scores["wrong"][0]) == (1, 1, 0)
    assert (scores["n_box"], scores["n_wrong"]) == (1, 1)


def test_evaluate_asks_every_question_alone_and_scores_all_tasks() -> None:
    samples = [
        sample("rec", "<vis>", [LEFT], question="left one"),
        sample("rec", "<vis>", [RIGHT], question="right one"),
        sample("caption", "a star", question="describe", references=["a star"]),
        sample("question", "red", question="what colour", type="colour"),
        sample("none", "none", question="the moon"),
        given_region(wrong=RIGHT, wrong_answer="a ring"),
        sample("reasoning", "<vis>", [LEFT], image="b", question="what rolls"),
    ]
    answers = {
        "left one": ("<vis>", (LEFT,)),
        "right one": ("<vis>", (LEFT,)),
        "describe": ("a star", ()),
        "the moon": ("none", ()),
        "what colour": ("red", ()),
        "what is <vis> ?": ("a star", ()),
        "what rolls": ("<vis>", (LEFT,)),
    }
    model, progress = Scripted(answers), []
    done = evaluate(
        model, samples, images=None, features=lambda ids: None, batch_size=2, teacher_forced=False,
        generate=model.generate, on_progress=lambda *at: progress.append(at),
    )  # fmt: skip
    metrics = done.metrics
    assert metrics["n"] == 2 and metrics["acc@0.5"][0] == 0.5 and metrics["shuffled"]["acc@0.5"][0] == 0.5
    assert metrics["questions"]["all"]["accuracy"][0] == metrics["vqa"][0] == metrics["none"]["accuracy"][0] == 1
    assert metrics["region_caption"]["wrong"][0] == 0 and metrics["region_caption"]["mask"][0] == 1
    assert metrics["region_caption"]["words_wrong"][0] == 0.5 and metrics["region_caption"]["words_mask"][0] == 1
    assert metrics["reasoning"]["acc@0.5"][0] == 1
    assert {k: v[0] for k, v in metrics["false_vis"].items()} == {"none": 0, "caption": 0, "question": 0}
    assert len(done.predictions) == 9 and progress[-1] == (9, 9)
    assert dict(model.asked)["describe"] > dict(model.asked)["the moon"]  # captions may be longer
    assert json.loads(json.dumps(metrics)) == metrics


def test_scores_have_their_keys_without_any_rec() -> None:
    metrics = score([Prediction(sample("question", "red", type="colour"), "red")])
    assert metrics["n"] == 0 and metrics["acc@0.5"] is None and metrics["questions"]["all"]["n"] == 1


def test_a_sample_without_an_answer_is_refused() -> None:
    bare = Sample("s7", "a", SIZE, (Turn("user", "?"),), "rec")
    with pytest.raises(InputError, match="s7"):
        predict(Scripted({}), [bare], None, lambda ids: None, generate=lambda *a, **k: [])


def test_batches_visit_each_image_in_one_stretch() -> None:
    samples = [sample("rec", "<vis>", [LEFT], image=str(i % 130), question=f"{i}") for i in range(390)]
    order = list(batches(samples, 50))
    assert sorted(i for b in order for i in b) == list(range(390))
    stretch = [int(samples[i].image_id) // 64 for b in order for i in b]
    assert stretch == sorted(stretch)


def test_tower_runs_once_an_image_and_forgets_the_oldest() -> None:
    class Tower:
        image_size, calls = 20, 0

        def preprocess(self, squares):
            return torch.tensor(np.stack(squares)).float()

        def __call__(self, pixels):
            self.calls += len(pixels)
            return pixels.mean((1, 2))[:, None, None]

    pictures = SimpleNamespace(load_image=lambda i: np.full((*SIZE, 3), int(i), np.uint8))
    tower = Tower()
    features = TowerFeatures(tower, pictures, max_bytes=3 * 6)  # three images of three bf16 numbers
    assert features(["1", "2", "1"]).shape == (3, 1, 1, 3) and tower.calls == 2
    features(["3", "4"])
    features(["3", "2"])
    assert tower.calls == 4
    features(["1"])
    assert tower.calls == 5


def test_predictions_file(tmp_path) -> None:
    first = rec(LEFT, LEFT)
    several = Prediction(sample("several", "<vis> <vis>", [LEFT, RIGHT], sent_id=12), "<vis> <vis>", (LEFT, RIGHT))
    path = tmp_path / "deep" / "predictions.json"
    save_predictions(path, [first, several, Prediction(sample("none", "none"), "none")])
    one, two, three = json.loads(path.read_text())
    assert one["sample_id"] == "a/rec/?" and one["bbox"] == [0, 0, 10, 10] and mask_area(one["segmentation"]) == 100
    assert two["sent_id"] == 12 and [r["bbox"] for r in two["regions"]] == [[0, 0, 10, 10], [10, 0, 10, 10]]
    assert three["bbox"] is None and three["segmentation"] is None and three["text"] == "none"
    assert [p.name for p in path.parent.iterdir()] == ["predictions.json"]


def test_scores_have_the_documented_keys() -> None:
    samples = refshapes_samples("refcoco", "val", 6, 0, "smoke")
    asked = [s for s in samples if s.task not in REGION_GIVEN]
    asked += with_variants(s for s in samples if s.task in REGION_GIVEN)
    right = [Prediction(s, s.turns[-1].text, s.turns[-1].regions) for s in asked]
    check_metrics({**score(right), "teacher_forced": dict.fromkeys((*FORCED_KEYS, "several"))})


def test_addends_by_scene_make_the_scores() -> None:
    samples = refshapes_samples("refcoco", "val", 6, 0, "smoke")
    asked = [s for s in samples if s.task not in REGION_GIVEN]
    asked += with_variants(s for s in samples if s.task in REGION_GIVEN)
    mixed = [
        Prediction(s, s.turns[-1].text, s.turns[-1].regions) if i % 4 else Prediction(s, "red", ())
        for i, s in enumerate(asked)
    ]
    columns, scores = by_scene(mixed), score(mixed)
    assert {"acc@0.5", "miou_box", "ciou", "miou_mask", "questions.all.accuracy", "caption.cider"} < columns.keys()
    assert {"several.set_f1", *(f"{t}.{v}" for t in REGION_GIVEN for v in ("box", "mask", "wrong"))} < columns.keys()
    for path, column in columns.items():
        sums, of = ([float(number) for number in column[name].split()] for name in ("sums", "of"))
        value = results.value({"metrics": {"set": scores}}, f"set.{path}")
        assert 0 < value and sum(sums) / sum(of) == pytest.approx(value, abs=1e-4), path
        assert len(sums) == len(of) <= 6
    rights = [p for p in mixed if p.sample.task == "rec"]
    images = [p.sample.image_id for p in rights]
    assert columns["acc@0.5"]["of"] == " ".join(str(images.count(i)) for i in dict.fromkeys(images))
    fewer = by_scene([p for p in rights if p.sample.image_id != images[0]])
    assert columns["ciou"]["images"] == columns["acc@0.5"]["images"] != fewer["acc@0.5"]["images"]


# ---------------------------------------------------------------- on a real, if tiny, model


@pytest.fixture(scope="module")
def tiny_samples() -> list[Sample]:
    """Questions that the stand-in model can be asked, with answers of one and two regions."""
    from conftest import LEFT as left
    from conftest import RIGHT as right
    from conftest import dialogue

    one = dialogue("one", "a", ("where is the red circle ?", ()), ("<vis>", (left,)))
    two = dialogue("two", "b", ("where is the star and circle ?", ()), ("<vis> <vis>", (left, right)))
    words = dialogue("words", "a", ("how many star ?", ()), ("2", ()))
    before = (("where is <vis> ?", (left,)), ("<vis>", (left,)))
    earlier = dialogue("turns", "b", *before, ("where is it ?", ()), ("<vis>", (right,)))
    tasks = {"one": "rec", "two": "several", "words": "question", "turns": "rec"}
    return [replace(s, task=tasks[s.sample_id], extra={"type": "count"}) for s in (one, two, words, earlier)]


def test_predictions_of_a_model(make_model, features, tiny_samples) -> None:
    from pgpt_lib.evaluation.teacher import predict_teacher_forced
    from pgpt_lib.generation import generate

    model = make_model().train()
    forced = predict_teacher_forced(model, tiny_samples, None, features, batch_size=3)
    assert [len(p.regions) for p in forced] == [1, 2, 0, 1]
    assert [p.text for p in forced] == ["<vis>", "<vis> <vis>", "2", "<vis>"]
    alone = predict_teacher_forced(model, tiny_samples[3:], None, features)
    assert alone[0].first.box == pytest.approx(forced[3].first.box, abs=1e-5)
    free = predict(model, tiny_samples, None, features, batch_size=2)
    [direct] = generate(model, [prompt_of(tiny_samples[0])], features, max_new_tokens("rec", False))
    assert free[0].text == direct.text and len(free[0].regions) == len(direct.regions)


def test_the_first_forced_region_is_the_free_running_one(make_model, features, tiny_samples, monkeypatch) -> None:
    """Both decode the state that predicts the first `<vis>`, which depends on the question alone."""
    from pgpt_lib.evaluation.teacher import predict_teacher_forced
    from pgpt_lib.model import PerceptionGPT

    model = make_model().eval()
    forced = predict_teacher_forced(model, tiny_samples[:1], None, features)
    plain = PerceptionGPT.logits

    def only_vis(self, states, table):
        out = torch.full_like(plain(self, states, table), -1.0)
        out[:, model.chat.vis_id] = 1.0
        return out

    monkeypatch.setattr(PerceptionGPT, "logits", only_vis)
    free = predict(model, tiny_samples[:1], None, features)
    assert free[0].first.box == pytest.approx(forced[0].first.box, abs=1e-5)
    assert free[0].first.mask == forced[0].first.mask


def test_a_signal_of_ones_own_is_decoded_in_both_ways(make_model, features, tiny_samples, monkeypatch) -> None:
    """What it says, a `Region` has no field for."""
    from pgpt_lib.signals import SIGNALS, DepthSignal

    class Tilt(DepthSignal):
        name, loss_names = "tilt", ("tilt",)

        def loss_terms(self, prediction, values):
            return {"tilt": (prediction - values).abs().mean()}

        def restore(self, prediction, placement, threshold=0.5):
            return {"tilt": float(prediction)}

    monkeypatch.setitem(SIGNALS, "tilt", Tilt)
    model = make_model(signals=("box", "tilt"))
    done = evaluate(model, tiny_samples, None, features)
    assert [len(p.regions) for p in done.forced] == [1, 2, 1]
    assert done.metrics["teacher_forced"]["acc@0.5"] is not None


def truth_comes_back(ask: Callable[[list[Sample]], list[Prediction]], sample: Sample) -> bool:
    """Whether the answer's region follows the true one, with which it is to be compared."""
    question, true = sample.turns[-2:]
    moved = replace(sample, turns=(question, replace(true, regions=(Region((0.5, 0.5, 0.75, 0.75)),))))
    return ask([sample])[0].regions != ask([moved])[0].regions


def test_the_truth_is_not_returned_as_the_prediction(make_model, features, tiny_samples, monkeypatch) -> None:
    """The released trainer's evaluation returns the true boxes, which are right by construction."""
    from pgpt_lib.evaluation import predictions, teacher

    def repeat(model, prompts, features, max_new_tokens):  # all that a model could give away: what it is shown
        shown = [prompt.turns[-1] for prompt in prompts]
        return [SimpleNamespace(text=t.text, regions=t.regions, parse_failures=0, written=t.text) for t in shown]

    model, one = make_model(), tiny_samples[0]
    ways = {
        "free": lambda samples: predict(model, samples, None, features, generate=repeat),
        "forced": lambda samples: teacher.predict_teacher_forced(model, samples, None, features),
    }
    assert not any(truth_comes_back(ask, one) for ask in ways.values())
    monkeypatch.setattr(predictions, "prompt_of", lambda sample: sample)  # plant: the truth stays in the prompt
    monkeypatch.setattr(teacher, "_decode", lambda model, samples, *_: [s.turns[-1].regions for s in samples])
    assert all(truth_comes_back(ask, one) for ask in ways.values())


def test_evaluate_runs_on_a_model(make_model, features, tiny_samples) -> None:
    done = evaluate(make_model(), tiny_samples[:3], None, features)
    metrics = done.metrics
    assert metrics["n"] == 1 and metrics["questions"]["count"]["n"] == 1 and metrics["several"]["n"] == 1
    forced = metrics["teacher_forced"]
    assert [p.text for p in done.forced] == ["<vis>", "<vis> <vis>"]
    assert forced["acc@0.5"] is not None and forced["several"]["n"] == 1
    assert set(forced["several"]) == set(metrics["several"]) - {"parse_failure_rate"}
    alone = evaluate(make_model(), tiny_samples[:1], None, features).metrics["teacher_forced"]
    assert "several" not in alone and alone["acc@0.5"] == forced["acc@0.5"]
    assert json.loads(json.dumps(metrics)) == metrics


# ---------------------------------------------------------------- by checkpoint


@pytest.fixture
def on_checkpoint(make_model, monkeypatch):
    """The module that evaluates checkpoints, finding the stand-in model wherever it looks; it answers at random."""
    from pgpt_lib import checkpoint as files
    from pgpt_lib.evaluation import checkpoint as module

    model = make_model()
    state = files.State(model.profile, 0, 1)
    monkeypatch.setattr(module, "find_checkpoint", lambda path: (path, state))
    monkeypatch.setattr(module, "load_checkpoint", lambda path: (model, state))
    monkeypatch.setattr(module, "checkpoint_hash", lambda path: "0")
    return module


def test_a_checkpoint_is_evaluated_on_scenes_of_any_seed(on_checkpoint, tmp_path) -> None:
    out = tmp_path / "predictions.json"
    tasks = ["rec", "question", "none"]
    metrics = on_checkpoint.evaluate_checkpoint(tmp_path, scenes=2, seed=5, tasks=tasks, out=out)
    assert metrics["n"] >= 4 and metrics["level"] == "smoke" and metrics["scenes"] == 2
    assert metrics["questions"]["colour"]["n"] == 2 and 0 <= metrics["emission_rate"][0] <= 1
    assert {r["task"] for r in json.loads(out.read_text())} == set(tasks)


def test_settings_of_an_evaluation_are_checked(on_checkpoint, tmp_path) -> None:
    wrong = {"recc": {"tasks": ["recc"]}, "scenes is 0": {"scenes": 0}, "'x'": {"dataset": "x"}, "'y'": {"split": "y"}}
    for words, settings in wrong.items():
        with pytest.raises(InputError, match=words):
            on_checkpoint.evaluate_checkpoint(tmp_path, **{"scenes": 1, **settings})
    with pytest.raises(InputError, match="--root"):
        on_checkpoint.evaluate_checkpoint(tmp_path, "refer")


def test_photographs_score_as_their_saved_predictions_do(on_checkpoint, tmp_path) -> None:
    from refer_layout import tiny, write_picture

    from pgpt_lib.data.refcoco import RefCOCO
    from pgpt_lib.scoring import score_file

    root = tiny(tmp_path)
    for image_id, (height, width) in RefCOCO(root, "refcoco", "val").sizes.items():
        write_picture(root, int(image_id), np.full((height, width, 3), 90, np.uint8))
    out = tmp_path / "predictions.json"
    metrics = on_checkpoint.evaluate_checkpoint(tmp_path, "refer", root=root, out=out)
    again = score_file(out, root, "refcoco", "val")
    assert metrics["n"] > 0 and {key: metrics[key] for key in again} == again
    assert metrics["questions"] == {} and metrics["level"] is None


def test_no_checkpoint_is_named(tmp_path) -> None:
    from pgpt_lib.evaluation.checkpoint import evaluate_checkpoint

    with pytest.raises(InputError, match="nothing_here"):
        evaluate_checkpoint(tmp_path / "nothing_here")


# ------------------------------------------------------------------------------------------ any number of targets


def generalised(true: Sequence[Region], given: Sequence[Region], image: str = "a", failures: int = 0) -> Prediction:
    task = {0: "none", 1: "rec"}.get(len(true), "several")
    truth, text = (" ".join(["<vis>"] * len(regions)) or "none" for regions in (true, given))
    return Prediction(sample(task, truth, true, image), text, tuple(given), failures)


def test_generalised_scores_by_hand() -> None:
    """IoUs 1 (both halves found), 0.5 (one of two), 0 (missed), 1 (none, rightly), 0 (a region where nothing is)."""
    scores = generalised_scores([
        generalised([LEFT, RIGHT], [RIGHT, LEFT]),
        generalised([LEFT, RIGHT], [LEFT]),
        generalised([LEFT], []),
        generalised([], []),
        generalised([], [HALF]),
    ])  # fmt: skip
    values = {key: value[0] if isinstance(value, list) else value for key, value in scores.items()}
    assert values == pytest.approx({
        "n": 5, "giou": 2.5 / 5, "ciou": (200 + 100) / (200 + 200 + 100 + 0 + 50), "n_acc": 1 / 2, "t_acc": 2 / 3,
        "pr@f1": 2 / 5,
    })  # fmt: skip


def test_a_region_that_cannot_be_read_is_one_that_was_given() -> None:
    unread = generalised_scores([generalised([], [], failures=1)])
    assert unread["n_acc"][0] == unread["giou"][0] == unread["pr@f1"][0] == 0 and unread["ciou"] is None
    spare = generalised_scores([generalised([LEFT], [LEFT], failures=1)])
    assert spare["giou"][0] == 1 and spare["pr@f1"][0] == 0, "one more than was meant"
    assert unread["t_acc"] is None and generalised_scores([])["giou"] is None


def test_boxes_alone_have_no_mask_scores() -> None:
    bare = replace(LEFT, mask=None)
    boxes = generalised_scores([generalised([LEFT], [bare]), generalised([], [])])
    assert boxes["giou"] is boxes["ciou"] is None and boxes["pr@f1"][0] == 1
    untrue = generalised_scores([generalised([bare], [LEFT]), generalised([RIGHT], [RIGHT])])
    assert untrue["giou"][0] == untrue["ciou"][0] == 1, "an object without a true mask is left out"


def test_every_set_of_expressions_is_asked_alike(tmp_path) -> None:
    """RefCOCO, its redrawn copy and gRefCOCO: one phrasing, held out from training, with one article."""
    layouts.refcoco(tmp_path)
    layouts.grefcoco(tmp_path)
    path = tmp_path / "refcoco" / "refs(unc).p"
    path.write_bytes(pickle.dumps([{**ref, "split": "val"} for ref in pickle.loads(path.read_bytes())]))
    shutil.copytree(tmp_path / "refcoco", tmp_path / "refcoco_m" / "refcoco")
    ours, redrawn = (
        [s.turns[0].text for s in benchmark_set(name, tmp_path).samples] for name in ("refcoco/val", "refcoco_m/val")
    )
    phrasing = held_out_phrasing("rec")
    assert ours == redrawn == [phrasing.replace("{x}", words) for words in ("left dog", "dog", "other", *["thing"] * 3)]
    assert benchmark_set("grefcoco/val", tmp_path).samples[0].turns[0].text == phrasing.replace("{x}", "x")


def test_grefcoco_is_scored_as_a_whole(tmp_path) -> None:
    """The set itself knows; the expression of several, of one and of none count alike."""
    layouts.coco(tmp_path)
    layouts.grefcoco(tmp_path)
    path = tmp_path / "grefcoco" / "grefs(unc).json"
    path.write_text(path.read_text().replace('"train"', '"val"'))
    chosen = benchmark_set("grefcoco/val", tmp_path)
    answers = [Prediction(s, s.turns[-1].text, s.turns[-1].regions) for s in chosen.samples]
    scores = chosen.own_scores(answers)["generalised"]
    assert scores.pop("n") == 4 and all(value[0] == 1 for value in scores.values())
    assert EvaluationSet(chosen.samples, chosen.images).own_scores(answers) == {}
