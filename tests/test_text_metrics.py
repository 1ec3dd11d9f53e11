"""CIDEr against stored outputs of the original, VQA accuracy and matches against hand-computed cases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pgpt_lib.errors import InputError
from pgpt_lib.text_metrics import cider, exact_match, majority_accuracy, ptb_tokenize
from pgpt_lib.vqa_metric import normalise_answer, normalise_punctuation, vqa_accuracy

REFERENCE = json.loads((Path(__file__).parent / "data" / "coco_caption_reference.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("sentence", "tokens"), REFERENCE["tokens"])
def test_tokens_equal_the_originals(sentence: str, tokens: str) -> None:
    assert ptb_tokenize(sentence) == tokens


def test_cider_equals_the_original() -> None:
    stored = REFERENCE["cider"]
    mean, each = cider(stored["captions"], stored["references"])
    assert mean == pytest.approx(stored["mean"], abs=1e-12)
    assert each == pytest.approx(stored["each"], abs=1e-12)


def test_cider_of_perfect_captions_is_ten_and_of_others_zero() -> None:
    truths = ["a big red ring here now", "two small blue stars over there", "one green heart behind it all"]
    assert cider(truths, [[t] for t in truths])[0] == pytest.approx(10)
    assert cider(["x y z q"] * 3, [[t] for t in truths])[0] == 0


def test_cider_refuses_what_it_cannot_score() -> None:
    with pytest.raises(InputError, match="0 captions"):
        cider([], [])
    with pytest.raises(InputError, match="2 captions with 1"):
        cider(["a", "b"], [["a"]])
    with pytest.raises(InputError, match="caption 1 .'b'. has no reference"):
        cider(["a", "b"], [["a"], []])


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("The Red Ring.", "red ring"),
        ("two", "2"),
        ("None", "0"),
        ("1,000", "1000"),
        ("3.5", "3.5"),
        ("black/white", "black white"),
        ("isnt", "isn't"),
        ("Couldnt've", "couldn't've"),
        ("y'allll", "y'all'll"),
        ("somebody'd", "somebodyd"),
        ("im", "im"),
        ("lets", "lets"),
        ("white,  black/red", "white black red"),
        ("red,white, blue", "redwhite blue"),
        ("1,000 black/white", "1000 blackwhite"),
        ("t-shirt", "t shirt"),
        ("t - shirt", "t shirt"),
        ("5:30 p.m.", "5:30 pm"),
        ("no. 7", "no 7"),
        (".5", ".5"),
        ("dog\ncat\tpig", "dog cat pig"),
        ("an  apple ,  a pear", "apple pear"),
        ("yes!", "yes"),
        ("well", "well"),
    ],
)
def test_normalised_answers(answer: str, normal: str) -> None:
    assert normalise_answer(answer) == normal


@pytest.mark.parametrize(("matches", "accuracy"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_vqa_accuracy_over_ten_answers(matches: int, accuracy: float) -> None:
    """Nine of the ten count at a time: ((10 - m) * min(1, m/3) + m * min(1, (m - 1)/3)) / 10."""
    humans = ["2"] * matches + ["dog"] * (10 - matches)
    assert vqa_accuracy("Two", humans) == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("answer", "humans", "accuracy"),
    [
        ("none", ["none"] * 10, 0),  # becomes 0, while people's answers stay: the benchmark's quirk
        ("none", ["0"] * 3 + ["none"] * 7, 0.9),
        ("t-shirt", ["t-shirt"] * 10, 0),  # all alike: their punctuation stays, the given answer's does not
        ("t-shirt", ["t-shirt"] * 9 + ["shirt"], 1),
        ("The red, white flag", ["red white flag"] * 4 + ["flag"] * 6, 1),
        ("Red", ["Red"] * 10, 0),  # the files are in lower case
        ("yes", ["yes"] * 2 + ["no"] * 8, 0.6),
    ],
)
def test_vqa_accuracy_by_hand(answer: str, humans: list[str], accuracy: float) -> None:
    assert vqa_accuracy(answer, humans) == pytest.approx(accuracy)


def test_punctuation_looks_at_the_whole_answer() -> None:
    assert normalise_punctuation("a-b - c/d") == "ab  c d"
    assert normalise_punctuation("Mr. X 3.5") == "Mr X 3.5"


def test_vqa_accuracy_of_few_answers() -> None:
    assert vqa_accuracy("the star", ["star"]) == 1
    assert vqa_accuracy("ring", ["star"]) == 0
    with pytest.raises(InputError, match="no human answers"):
        vqa_accuracy("ring", [])


def test_exact_match_takes_the_whole_answer() -> None:
    assert exact_match(" Red  circle", "red circle")
    assert not exact_match("red", "red circle")
    assert not exact_match("", "none")


def test_majority_accuracy() -> None:
    assert majority_accuracy(["red", "blue", "red", "green"]) == 0.5
    assert majority_accuracy([]) == 0
