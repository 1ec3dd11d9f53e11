"""`score` on captions in COCO's results format and on answers in VQA's, against pycocoevalcap and by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import big_layouts as layouts
import pytest
from pycocoevalcap.cider.cider import Cider

from pgpt_lib.cli import main
from pgpt_lib.data.benchmarks import TABLES, open_benchmark
from pgpt_lib.data.karpathy import Karpathy
from pgpt_lib.data.leakage import protected_pictures
from pgpt_lib.data.phrasings import held_out_phrasing
from pgpt_lib.errors import InputError
from pgpt_lib.evaluation.predictions import Prediction, save_predictions
from pgpt_lib.evaluation.scores import TASKS, score
from pgpt_lib.text_metrics import ptb_tokenize
from pgpt_lib.word_scoring import score_answers, score_captions


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for make in (layouts.coco, layouts.karpathy, layouts.vqa, layouts.refcoco):
        make(folder)
    return folder


def results(tmp_path: Path, *entries: Any) -> Path:
    return layouts.write(tmp_path / "results.json", list(entries))


def test_karpathy_splits(root: Path) -> None:
    train, test = Karpathy(root, "train"), Karpathy(root, "test")
    assert [s.image_id for s in train.samples()] == ["coco/1", "coco/2"], "restval belongs to training"
    first = test.samples()[0]
    assert first.extra["references"] == ["A man rides a red bike.", "A man on a bike in the street."]
    assert [turn.text for turn in first.turns] == [held_out_phrasing("caption"), "A man rides a red bike."]
    assert Karpathy(root, "test", "flickr30k").image_key(0) == "flickr30k/1009434119"
    for bad in (("tset", "coco"), ("test", "cocoa")):
        with pytest.raises(InputError, match=bad[0] if bad[0] == "tset" else bad[1]):
            Karpathy(root, *bad)


def test_karpathy_test_pictures_are_kept_out_of_training(root: Path) -> None:
    assert {"coco/3", "coco/4", "flickr30k/1009434119", "flickr/1009434119"} <= protected_pictures(root)


CAPTIONS = {3: "a man riding a bike", 4: "dogs play in the grass"}


def test_cider_equals_pycocoevalcap(root: Path, tmp_path: Path) -> None:
    path = results(tmp_path, *({"image_id": n, "caption": c} for n, c in CAPTIONS.items()))
    found = score_captions(path, root, "coco", "test")
    references = {e.number: [ptb_tokenize(c) for c in e.captions] for e in Karpathy(root, "test")._records}
    theirs, _ = Cider().compute_score(references, {n: [ptb_tokenize(c)] for n, c in CAPTIONS.items()})
    assert (found["n"], found["missing"]) == (2, 0) and found["cider"][0] == pytest.approx(theirs)
    assert theirs > 0.5, "the case would show a difference"


def test_a_missing_caption_scores_nothing(root: Path, tmp_path: Path) -> None:
    both = score_captions(
        results(tmp_path, *({"image_id": n, "caption": c} for n, c in CAPTIONS.items())), root, "coco", "test"
    )
    one = score_captions(results(tmp_path, {"image_id": 3, "caption": CAPTIONS[3]}), root, "coco", "test")
    none = score_captions(results(tmp_path), root, "coco", "test")
    assert one["missing"] == 1 and 0 < one["cider"][0] < both["cider"][0]
    assert none["missing"] == 2 and none["cider"][0] == 0


@pytest.mark.parametrize("name", [1009434119, "1009434119", "1009434119.jpg"])
def test_flickr30k_pictures_by_number_or_name(root: Path, tmp_path: Path, name: Any) -> None:
    path = results(tmp_path, {"image_id": name, "caption": "a dog runs"})
    assert score_captions(path, root, "flickr30k", "test")["missing"] == 0


@pytest.mark.parametrize("dataset", ["vqav2", "okvqa"])
def test_vqa_by_hand(root: Path, tmp_path: Path, dataset: str) -> None:
    """Question 21: red six times, dark red four; 51: "2" three times, "3" seven."""
    cases = [
        (("Red.", "two"), 1.0, (10 - 3) / 10 + 3 * (2 / 3) / 10),
        (("dark red", "3"), 1.0, 1.0),
        (("blue", "7"), 0.0, 0.0),
    ]
    for (colour, number), first, second in cases:
        path = results(tmp_path, {"question_id": 21, "answer": colour}, {"question_id": 51, "answer": number})
        found = score_answers(path, root, dataset, "val")
        assert found["vqa"][0] == pytest.approx((first + second) / 2)
        assert found["by_type"]["other"][0] == pytest.approx(first)
        assert found["by_type"]["number"][0] == pytest.approx(second)
        assert (found["n"], found["missing"]) == (2, 0)
    partly = score_answers(results(tmp_path, {"question_id": 21, "answer": "red"}), root, dataset, "val")
    assert partly["missing"] == 1 and partly["vqa"][0] == 0.5


BAD: dict[str, tuple[list[Any], str]] = {
    "unknown": ([{"image_id": 9, "caption": "x"}], "image_id 9 is unknown in coco test"),
    "of another split": ([{"image_id": 1, "caption": "x"}], "image_id 1 is unknown"),
    "twice": ([{"image_id": 3, "caption": "x"}] * 2, "result 1: image_id 3 has a result already"),
    "no caption": ([{"image_id": 3}], "result 0 is .*expected"),
    "no text": ([{"image_id": 3, "caption": ["x"]}], "result 0 is .*expected"),
    "no number": ([{"image_id": True, "caption": "x"}], "image_id True is no number"),
    "no object": ([3], "result 0 is 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_results_are_named(root: Path, tmp_path: Path, name: str) -> None:
    entries, message = BAD[name]
    with pytest.raises(InputError, match=f"results.json: .*{message}"):
        score_captions(results(tmp_path, *entries), root, "coco", "test")


def test_unknown_splits_are_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no split 'testA'; Karpathy's are train, val, test"):
        score_captions(results(tmp_path), root, "coco", "testA")
    with pytest.raises(InputError, match="no split 'testA' of 'vqav2'"):
        score_answers(results(tmp_path), root, "vqav2", "testA")


@pytest.mark.parametrize(
    ("data", "dataset", "split", "entry", "key"),
    [
        ("captions", "coco", "test", {"image_id": 3, "caption": "a man"}, "cider"),
        ("vqa", "okvqa", "val", {"question_id": 21, "answer": "red"}, "vqa"),
    ],
)
def test_the_command(
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    data: str,
    dataset: str,
    split: str,
    entry: Any,
    key: str,
) -> None:
    where = ["--data", data, "--root", str(root), "--dataset", dataset, "--split", split, "--json"]
    with pytest.raises(SystemExit) as end:
        main(["score", "--predictions", str(results(tmp_path, entry)), *where])
    assert not end.value.code
    found = json.loads(capsys.readouterr().out)
    assert found["n"] == 2 and found["missing"] == 1 and len(found[key]) == 3
    with pytest.raises(SystemExit) as end:
        main(["score", "--predictions", str(tmp_path / "gone.json"), *where])
    out, err = capsys.readouterr()
    assert end.value.code == 2 and not out and "gone.json" in err


@pytest.mark.parametrize("name", dict.fromkeys(name for names in TABLES.values() for name in names))
def test_every_benchmark_of_the_tables_opens(tmp_path: Path, name: str) -> None:
    layouts.everything(tmp_path)
    layouts.karpathy(tmp_path)
    layouts.picture(tmp_path / "flickr30k" / "images" / "1009434119.jpg")
    samples = open_benchmark(name, tmp_path).samples()
    assert samples and all(sample.task in TASKS for sample in samples), "tasks that evaluations know"


def test_answers_of_a_model_are_scored_by_the_benchmarks_rule(root: Path) -> None:
    samples = open_benchmark("vqav2/val", root).samples()
    found = score([Prediction(samples[0], "Dark red."), Prediction(samples[1], "two")])
    assert found["vqa"][0] == pytest.approx((1 + 0.9) / 2)
    assert set(found["questions"]) == {"all", "other", "number"}


@pytest.mark.parametrize("name", TABLES["table5"])
def test_what_evaluate_saves_scores_the_same_as_a_results_file(tmp_path: Path, name: str) -> None:
    layouts.everything(tmp_path)
    layouts.karpathy(tmp_path)
    layouts.picture(tmp_path / "flickr30k" / "images" / "1009434119.jpg")
    samples = open_benchmark(name, tmp_path).samples()
    given = [Prediction(s, s.turns[-1].text if i % 2 == 0 else "2 dogs") for i, s in enumerate(samples)]
    save_predictions(tmp_path / "saved.json", given)
    dataset, _, split = name.partition("/")
    own, file = score(given), tmp_path / "saved.json"
    if "vqa" in dataset:
        found, want = score_answers(file, tmp_path, dataset, split)["vqa"], own["vqa"]
    else:
        found, want = score_captions(file, tmp_path, dataset, split)["cider"], own["caption"]["cider"]
    assert found == pytest.approx(want)
