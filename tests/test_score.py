"""`score`: the rules for predictions files, by the function and through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import refer_layout as layout

from pgpt_lib.data.refcoco import RefCOCO
from pgpt_lib.data.refshapes.export import write_refshapes
from pgpt_lib.errors import InputError
from pgpt_lib.evaluation import Prediction, save_predictions
from pgpt_lib.evaluation.checkpoint import refshapes_samples
from pgpt_lib.evaluation.grounding import rec_scores
from pgpt_lib.metrics import iou_xywh
from pgpt_lib.regions import Region, mask_to_rle, rle_to_mask, to_rle
from pgpt_lib.scoring import read_predictions, score_file, score_predictions, truths_of

KEYS = ["n", "missing", "acc@0.5", "miou_box", "ciou", "miou_mask", "p@0.5", "p@0.7", "p@0.9", "emission_rate"]
MASK_KEYS = ["ciou", "miou_mask", "p@0.5", "p@0.7", "p@0.9"]
SQUARE = to_rle(layout.SQUARE, 40, 60)  # 400 pixels; sentences 11, 12, 13 (ref 1) and 31 (ref 3) mean it
CROWD_AREA = 400  # sentence 21 (ref 2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return layout.tiny(tmp_path / "data")


def score(root: Path, *predictions: Any, split: str = "val") -> dict[str, Any]:
    return score_predictions(predictions, truths_of(RefCOCO(root, "refcoco", split)))


def value(metric: Any) -> float:
    assert metric[1] <= metric[0] <= metric[2]
    return metric[0]


def test_perfect(root: Path) -> None:
    square = {"ann_id": 101, "bbox": [10, 10, 20, 20], "segmentation": SQUARE}
    crowd = {"ref_id": 2, "bbox": [0, 0, 10, 40], "segmentation": {"size": [40, 60], "counts": [0, 400, 2000]}}
    scores = score(root, square, crowd)
    assert list(scores) == KEYS and (scores["n"], scores["missing"]) == (5, 0)
    assert all(scores[key] == [1, 1, 1] for key in KEYS[2:])


def test_an_id_stands_for_its_sentences(root: Path) -> None:
    box = {"bbox": [10, 10, 20, 20]}
    for ids, covered in (({"sent_id": 11}, 1), ({"ref_id": 1}, 3), ({"ref_id": 3}, 1), ({"ann_id": 101}, 4)):
        scores = score(root, {**ids, **box})
        assert (scores["n"], scores["missing"]) == (5, 5 - covered)
        assert value(scores["acc@0.5"]) == value(scores["emission_rate"]) == covered / 5
    assert score(root, {"sent_id": 11, "ref_id": 1, "ann_id": 101, **box})["missing"] == 4, "the narrowest counts"
    assert score(root, {"sent_id": 11, "ref_id": None, **box})["missing"] == 4, "null is no id"


def test_missing_and_null(root: Path) -> None:
    half = np.zeros((40, 60))
    half[10:30, 10:20] = 1
    scores = score(
        root,
        {"ref_id": 1, "bbox": [10, 10, 10, 20], "segmentation": mask_to_rle(half)},  # half the box, not more than half
        {"sent_id": 31, "bbox": None, "segmentation": None},
    )
    assert (scores["n"], scores["missing"]) == (5, 1)
    assert value(scores["acc@0.5"]) == 0 and value(scores["miou_box"]) == pytest.approx(0.3)
    # Both the null and the missing sentence add their true area to the union, and 0 to the intersection.
    assert value(scores["ciou"]) == pytest.approx(3 * 200 / (3 * 400 + 400 + CROWD_AREA))
    assert value(scores["miou_mask"]) == pytest.approx(0.3) and value(scores["p@0.5"]) == 0
    assert value(scores["emission_rate"]) == pytest.approx(3 / 5)


def test_masks_for_some(root: Path) -> None:
    box = {"bbox": [10, 10, 20, 20]}
    scores = score(root, {"sent_id": 11, **box, "segmentation": SQUARE}, {"sent_id": 12, **box})
    assert value(scores["miou_mask"]) == value(scores["p@0.9"]) == pytest.approx(1 / 5)
    assert value(scores["ciou"]) == pytest.approx(1 / 5)


def test_boxes_only(root: Path) -> None:
    for entry in ({"ref_id": 1, "bbox": [10, 10, 20, 20]}, {"ref_id": 1, "bbox": [0, 0, 1, 1], "segmentation": None}):
        scores = score(root, entry)
        assert all(scores[key] is None for key in MASK_KEYS) and scores["acc@0.5"] is not None
    no_truth = score(root, {"ref_id": 4, "bbox": [0, 0, 9, 9], "segmentation": mask_to_rle(np.eye(50))}, split="testA")
    assert all(no_truth[key] is None for key in MASK_KEYS)
    assert score(root)["ciou"] is None and score(root)["missing"] == 5, "no predictions at all"


def test_boxes_are_scored_as_given(root: Path) -> None:
    scores = score(root, {"ref_id": 4, "bbox": [-2, 5, 20.5, 45.01]}, split="testA")
    assert scores["miou_box"] == [1, 1, 1], "the annotation's own box, beyond the border too"
    outside = score(root, {"ref_id": 1, "bbox": [-100, 10, 130, 20]})
    assert value(outside["miou_box"]) == pytest.approx(0.6 * 20 / 130), "not cut off at the border"
    for box in ([10, 10, 0, 20], [10, 10, -5, 20], [10, 10, 0, 0]):
        scores = score(root, {"ref_id": 1, "bbox": box})
        assert value(scores["miou_box"]) == 0 and value(scores["emission_rate"]) == 3 / 5, "no area scores 0"


def test_a_null_box_voids_its_mask(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    scores = score(root, {"ref_id": 1, "bbox": None, "segmentation": SQUARE}, {"ref_id": 2, "bbox": [0, 0, 10, 40]})
    assert "ref_id 1" in caplog.text and "not scored" in caplog.text
    assert scores["ciou"] is None and value(scores["emission_rate"]) == 1 / 5


BOX = {"ref_id": 1, "bbox": [0, 0, 5, 5]}
BAD: dict[str, tuple[list[Any], str]] = {
    "three numbers": ([{"ref_id": 1, "bbox": [0, 0, 1]}], r"ref_id 1: bbox \[0, 0, 1\]"),
    "nan": ([{"ref_id": 1, "bbox": [float("nan"), 0, 5, 5]}], "ref_id 1: bbox .*nan"),
    "infinite": ([{"ref_id": 1, "bbox": [float("inf"), 0, 5, 5]}], "ref_id 1: bbox"),
    "text": ([{"ref_id": 1, "bbox": "0 0 5 5"}], "ref_id 1: bbox"),
    "no bbox": ([{"ref_id": 1, "segmentation": SQUARE}], "ref_id 1 has no bbox"),
    "unknown": ([{"ref_id": 987654321, "bbox": [0, 0, 5, 5]}], "987654321 is unknown"),
    "other split": ([{"sent_id": 41, "bbox": [0, 0, 5, 5]}], "sent_id 41 is unknown"),
    "twice": ([{"ref_id": 1, "bbox": [0, 0, 5, 5]}] * 2, r"prediction 1, ref_id 1.*\(prediction 0, ref_id 1\)"),
    "twice by two ids": ([{"ann_id": 101, "bbox": None}, {"sent_id": 31, "bbox": None}], "sent_id 31.*already"),
    "at odds": ([{"sent_id": 11, "ref_id": 2, "bbox": None}], "different sentences"),
    "no id": ([{"bbox": [0, 0, 5, 5]}], "prediction 0: expected a whole number"),
    "id as text": ([{"ref_id": "1", "bbox": None}], "prediction 0, ref_id 1: expected a whole number"),
    "id as bool": ([{"ref_id": True, "bbox": None}], "expected a whole number"),
    "no object": ([7], "prediction 0 is 7"),
    "mask of another size": ([{**BOX, "segmentation": mask_to_rle(np.eye(9))}], "ref_id 1: segmentation: .*size"),
    "damaged mask": ([{**BOX, "segmentation": {"size": [40, 60], "counts": "x"}}], "ref_id 1: segmentation: RLE"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_predictions_are_named(root: Path, name: str) -> None:
    entries, message = BAD[name]
    with pytest.raises(InputError, match=message):
        score(root, *entries)


@pytest.mark.parametrize("text", ['[{"ref_id": 1, "bbox": [0,0,1,', "", "{}", "null", "\xff", "[" * 100_000])
def test_bad_files_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cut.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"cut\.json"):
        read_predictions(path)


def test_errors_name_the_file(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    path.write_text('[{"ref_id": 1, "bbox": [0, 0, 1]}]')
    with pytest.raises(InputError, match=r"predictions\.json.*ref_id 1"):
        score_file(path, root, "refcoco", "val")
    with pytest.raises(InputError, match=r"gone\.json"):
        score_file(tmp_path / "gone.json", root, "refcoco", "val")


# ------------------------------------------------------------------------------------------------ command line
def command(*args: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "pgpt_lib", "score", *map(str, args)], capture_output=True, text=True)


def test_command_prints_one_json_object(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps([{"ref_id": 1, "bbox": [10, 10, 20, 20], "segmentation": SQUARE}]))
    where = ("--root", root, "--dataset", "refcoco", "--split", "val")
    for data in ("refer", "refshapes"):
        done = command("--predictions", path, "--data", data, *where, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == score_file(path, root, "refcoco", "val")
    assert "acc@0.5" in command("--predictions", path, "--data", "refer", *where).stdout


def test_command_refuses_bad_input(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.json"
    path.write_text('[{"ref_id": 1,')
    where = ("--root", root, "--dataset", "refcoco", "--split", "val")
    done = command("--predictions", path, "--data", "refer", *where, "--json")
    assert done.returncode == 2 and done.stdout == ""
    assert "cut.json" in done.stderr and "Traceback" not in done.stderr


def test_scoring_loads_no_model_library() -> None:
    heavy = "{'torch', 'transformers', 'PIL', 'scipy'} & sys.modules.keys()"
    code = f"import sys, pgpt_lib.scoring, pgpt_lib.commands.score; print(sorted({heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------------------------------------ real photographs
REALDATA = os.environ.get("PGPT_REALDATA", "")
HAVE_REALDATA = bool(REALDATA) and Path(REALDATA).is_dir()


@pytest.mark.skipif(not HAVE_REALDATA, reason="PGPT_REALDATA names no folder of photographs")
@pytest.mark.parametrize(("dataset", "split"), [("refcoco", "val"), ("refcoco+", "testB"), ("refcocog", "test")])
def test_real_annotations_against_plain_numpy(dataset: str, split: str) -> None:
    """Boxes and masks moved at random, every third object left out, scored a second way: by counting pixels."""
    data, rng = RefCOCO(Path(REALDATA) / "refer", dataset, split), np.random.default_rng(0)
    predictions, ious, inter, union, boxes, missing = [], [], 0, 0, [], 0
    for i, ref in enumerate(data.refs):
        truth, sentences = data.annotations[ref.ann_id], len(ref.sentences)
        bitmap = rle_to_mask(to_rle(truth.segmentation, *data.sizes[ref.image_id])).astype(bool)
        moved = np.roll(bitmap, rng.integers(-20, 20, 2), axis=(0, 1))
        box = [float(v) for v in np.array(truth.bbox) + rng.normal(0, 15, 4)]
        hit = i % 3 > 0
        if hit:
            predictions.append({"ref_id": ref.ref_id, "bbox": box, "segmentation": mask_to_rle(moved)})
        both = int((bitmap & moved).sum()) if hit else 0
        either = int((bitmap | moved).sum()) if hit else int(bitmap.sum())
        inter, union = inter + sentences * both, union + sentences * either
        missing += 0 if hit else sentences
        ious += [both / either] * sentences
        boxes += [iou_xywh(box, truth.bbox) if hit else 0.0] * sentences
    scores = score_predictions(predictions, truths_of(data))
    assert scores["n"] == len(ious) and scores["missing"] == missing > 0
    assert value(scores["ciou"]) == pytest.approx(inter / union)
    assert value(scores["miou_mask"]) == pytest.approx(np.mean(ious))
    assert value(scores["p@0.7"]) == pytest.approx(np.mean(np.array(ious) > 0.7))
    assert value(scores["miou_box"]) == pytest.approx(np.mean(boxes))
    assert value(scores["acc@0.5"]) == pytest.approx(np.mean(np.array(boxes) > 0.5))


# ------------------------------------------------------------ what `evaluate` saved of RefShapes


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of thirty scenes, of which three are val's, testA's and testB's each."""
    root = tmp_path_factory.mktemp("refshapes")
    write_refshapes(root, 30, 5, "smoke")
    return root


def answers(dataset: str, split: str, seed: int, scenes: int = 3) -> list[Prediction]:
    """What a model might answer: boxes beside the truth, masks of other objects, nothing; and a caption."""
    samples = refshapes_samples(dataset, split, scenes, seed, "smoke", ["rec", "caption"])
    regions = [s.turns[1].regions[0] for s in samples if s.task == "rec"]
    found = []
    for i, sample in enumerate(samples):
        if sample.task != "rec" or i % 5 == 4:
            found.append(Prediction(sample, "a star"))
            continue
        x1, y1, x2, y2 = sample.turns[1].regions[0].box
        box = (x1 + 0.01 * (i % 4), y1, min(1, x2 + 0.013 * i), y2)
        mask = (sample.turns[1].regions[0] if i % 2 else regions[i - 1]).mask
        found.append(Prediction(sample, "<vis>", (Region(box=box, mask=mask),)))
    return found


@pytest.mark.parametrize(
    ("dataset", "split"), [("refcoco", "val"), ("refcoco+", "testA"), ("refcocog", "val"), ("refcoco", "train")]
)
def test_answers_about_refshapes_score_as_evaluate_scored_them(
    written: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, dataset: str, split: str
) -> None:
    predictions = answers(dataset, split, 5, 21 if split == "train" else 3)
    save_predictions(tmp_path / "saved.json", predictions)
    scores = score_file(tmp_path / "saved.json", written, dataset, split)
    own = rec_scores([p for p in predictions if p.sample.task == "rec"])
    assert scores["missing"] == 0 and 0 < own["acc@0.5"][0] < 1 and 0 < own["ciou"][0] < 1
    assert list(scores) == list(own) and all(scores[key] == pytest.approx(own[key], rel=1e-12) for key in own)
    assert f"not scored: {len(predictions) - own['n']} answers of other tasks (caption" in caplog.text


def test_answers_about_other_scenes_are_refused(written: Path, tmp_path: Path) -> None:
    for dataset, split, seed, scenes in (("refcoco", "val", 6, 3), ("refcoco+", "val", 5, 3), ("refcoco", "val", 5, 4)):
        save_predictions(tmp_path / "saved.json", answers(dataset, split, seed, scenes))
        with pytest.raises(InputError, match=r"sent_id \d+ is unknown in this data set and split"):
            score_file(tmp_path / "saved.json", written, "refcoco", "val")
    save_predictions(tmp_path / "saved.json", answers("refcocog", "test", 5))
    with pytest.raises(InputError, match="expected a whole number as sent_id"):
        score_file(tmp_path / "saved.json", written, "refcocog", "test")


def test_numbers_of_sentences_do_not_hang_on_the_number_of_scenes(written: Path, tmp_path: Path) -> None:
    write_refshapes(tmp_path, 10, 5, "smoke")
    for dataset in ("refcoco", "refcocog"):
        few, many = ({t.sent_id: t.bbox for t in truths_of(RefCOCO(r, dataset, None))} for r in (tmp_path, written))
        assert len(few) < len(many) and few == {number: many[number] for number in few}
