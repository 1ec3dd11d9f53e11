"""Metrics by hand on small cases, their intervals, and sets of boxes against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgpt_lib.metrics import (
    SentenceRecord,
    SetRecord,
    bootstrap,
    iou_matrix,
    iou_xywh,
    match_boxes,
    rate,
    summarise,
    summarise_sets,
)

quick = settings(max_examples=40, deadline=None)  # a busy machine is not an error
seeds = st.integers(0, 2**32 - 1)


def value(metric: object) -> float:
    assert isinstance(metric, list)
    return metric[0]


def test_summary_by_hand() -> None:
    scores = summarise(
        [
            SentenceRecord("a", 0.9, mask=(80, 100), mask_given=True),
            SentenceRecord("a", 0.5, mask=(50, 100), mask_given=True),  # 0.5 is not above 0.5, nor for the mask
            SentenceRecord("b", 0.6, mask=(0, 40)),  # a box without a mask
            SentenceRecord("b", 0.0, emitted=False, mask=(0, 60)),  # no region
            SentenceRecord("c", 0.0, emitted=False, missing=True, mask=(0, 100)),
        ]
    )
    assert list(scores)[:2] == ["n", "missing"] and scores["n"] == 5 and scores["missing"] == 1
    assert value(scores["acc@0.5"]) == pytest.approx(2 / 5)
    assert value(scores["miou_box"]) == pytest.approx(2.0 / 5)
    assert value(scores["ciou"]) == pytest.approx(130 / 400)
    assert value(scores["miou_mask"]) == pytest.approx(1.3 / 5)
    assert value(scores["p@0.5"]) == value(scores["p@0.7"]) == pytest.approx(1 / 5)
    assert value(scores["p@0.9"]) == 0
    assert value(scores["emission_rate"]) == pytest.approx(3 / 5)


def test_mask_metrics_are_null_without_masks() -> None:
    truth_only = summarise([SentenceRecord("a", 1.0, mask=(0, 10))])
    prediction_only = summarise([SentenceRecord("a", 1.0, mask_given=True)])
    for scores in (truth_only, prediction_only):
        assert all(scores[key] is None for key in ("ciou", "miou_mask", "p@0.5", "p@0.7", "p@0.9"))
        assert scores["acc@0.5"] == [1, 1, 1]


def test_sentences_without_a_true_mask_are_left_out_of_mask_metrics() -> None:
    with_mask = SentenceRecord("a", 1.0, mask=(6, 10), mask_given=True)
    scores = summarise([with_mask, SentenceRecord("b", 1.0, mask_given=True)])
    assert value(scores["ciou"]) == value(scores["miou_mask"]) == 0.6 and value(scores["p@0.5"]) == 1


def test_an_empty_true_mask_scores_nothing() -> None:
    scores = summarise([SentenceRecord("a", 0.0, mask=(0, 0), mask_given=True)])
    assert scores["miou_mask"] == [0, 0, 0] and scores["ciou"] is None, "no pixel to divide by"


def test_no_records() -> None:
    scores = summarise([])
    assert scores["n"] == 0 and scores["acc@0.5"] is None
    assert summarise_sets([])["set_f1"] is None
    assert rate([], []) is None


@quick
@given(seeds, st.integers(1, 60), st.integers(1, 12))
def test_intervals_hold_their_value_and_repeat(seed: int, entries: int, images: int) -> None:
    rng = np.random.default_rng(seed)
    keys = [str(k) for k in rng.integers(images, size=entries)]
    hits, weights = rng.random(entries) * rng.integers(2, size=entries), rng.integers(0, 3, entries)
    result = bootstrap(keys, {"ratio": (hits * weights, weights)}, resamples=200)["ratio"]
    if weights.sum() == 0:
        assert result is None
    else:
        assert result is not None
        v, low, high = result
        assert v == pytest.approx((hits * weights).sum() / weights.sum())
        assert 0 <= low <= v <= high <= 1 + 1e-9
        assert bootstrap(keys, {"ratio": (hits * weights, weights)}, resamples=200)["ratio"] == result
    if len(set(keys)) == 1 and result is not None:
        assert result == pytest.approx([result[0]] * 3), "one image: nothing to draw"


def test_sentences_of_one_image_are_drawn_together() -> None:
    """With a single image there is nothing to draw, however many sentences it has."""
    sentences = [SentenceRecord("a", iou, mask=(round(10 * iou), 10), mask_given=True) for iou in (0.9, 0.1, 0.6, 0.2)]
    scores = summarise(sentences) | summarise_sets([SetRecord("a", k, 2, 2, (k, 4)) for k in range(3)])
    metrics = {key: value for key, value in scores.items() if isinstance(value, list)}
    assert len(metrics) == 12 and all(m == pytest.approx([m[0]] * 3) for m in metrics.values()), metrics
    assert value(scores["acc@0.5"]) == value(scores["set_f1"]) == 0.5


def test_an_interval_does_not_hang_on_the_names_of_images() -> None:
    hits = np.random.default_rng(0).random(30) < 0.5
    numbers = [i // 2 for i in range(30)]
    names = [[str(k) for k in numbers], [f"{99 - k}.png" for k in numbers], [f"scene-{k:03}" for k in numbers]]
    assert rate(names[0], hits) == rate(names[1], hits) == rate(names[2], hits)


def test_interval_covers_and_resamples_images() -> None:
    """95 of 100 intervals hold the truth; and sentences that repeat within an image do not narrow them."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        hits = (rng.random(60) < 0.7).astype(float)
        v = rate([str(i) for i in range(60)], hits)
        assert v is not None
        covered += v[1] <= 0.7 <= v[2]
    assert 0.88 <= covered / 200 <= 0.99
    once = rate([str(i) for i in range(60)], hits)
    repeated = rate([str(i) for i in range(60) for _ in range(20)], np.repeat(hits, 20))
    assert once is not None and repeated == pytest.approx(once)


boxes = st.lists(st.tuples(*[st.integers(0, 12)] * 4), max_size=4)


def arrange(raw: list[tuple[int, ...]]) -> np.ndarray:
    corners = np.array(raw, float).reshape(-1, 4)
    return np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)


@quick
@given(boxes, boxes)
def test_both_iou_functions_agree(raw_a: list[tuple[int, ...]], raw_b: list[tuple[int, ...]]) -> None:
    a, b = arrange(raw_a), arrange(raw_b)
    matrix = iou_matrix(a, b)
    assert matrix.shape == (len(a), len(b)) and np.isfinite(matrix).all()
    for i, j in np.ndindex(matrix.shape):
        one, two = ((*box[:2], *(box[2:] - box[:2])) for box in (a[i], b[j]))
        assert iou_xywh(one, two) == pytest.approx(matrix[i, j])
        grid = np.zeros((2, 12, 12), bool)  # whole numbers: counting cells is exact
        for cells, (x1, y1, x2, y2) in zip(grid, (a[i].astype(int), b[j].astype(int)), strict=True):
            cells[y1:y2, x1:x2] = True
        union = grid.any(0).sum()
        if grid[0].any() and grid[1].any():
            assert matrix[i, j] == pytest.approx(grid.all(0).sum() / union)


STRANGE = [(5, 5, 0, 4), (5, 5, 4, 0), (9, 9, -4, -4), (0, 0, 1e300, 1e300), (-1e308, 0, 1e308, 1)]


@pytest.mark.parametrize("box", STRANGE)
def test_strange_boxes_score_0(box: tuple[float, ...]) -> None:
    assert iou_xywh(box, (4.0, 4.0, 4.0, 4.0)) == 0


@quick
@given(boxes, boxes, st.sampled_from([0.2, 0.5]))
def test_matching_is_the_best_of_all(
    raw_a: list[tuple[int, ...]], raw_b: list[tuple[int, ...]], threshold: float
) -> None:
    a, b = arrange(raw_a), arrange(raw_b)
    pairs = match_boxes(a, b, threshold)
    iou = iou_matrix(a, b)
    assert all(iou[pair] > threshold for pair in pairs)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    short, long = sorted((len(a), len(b)))
    table = iou if len(a) <= len(b) else iou.T
    best = (0, 0.0)
    for order in itertools.permutations(range(long), short):
        found = [table[i, j] for i, j in enumerate(order) if table[i, j] > threshold]
        best = max(best, (len(found), round(sum(found), 9)))
    assert (len(pairs), round(sum(iou[pair] for pair in pairs), 9)) == best


def test_more_pairs_come_before_better_pairs() -> None:
    """The nearest pair (IoU 1) would leave one of 0.21; the other way both are above 0.5, though they sum to less."""
    true = np.array([[0, 0, 10, 10], [3.25, 0, 13.25, 10]])
    predicted = np.array([[0, 0, 10, 10], [-3.25, 0, 6.75, 10]])
    assert sorted(match_boxes(predicted, true)) == [(0, 1), (1, 0)]


def test_set_scores_by_hand() -> None:
    records = [SetRecord("a", 2, 3, 2, (50, 100)), SetRecord("b", 0, 0, 3, (0, 70)), SetRecord("c", 1, 1, 1)]
    scores = summarise_sets(records)
    assert value(scores["set_precision"]) == 3 / 4 and value(scores["set_recall"]) == 3 / 6
    assert value(scores["set_f1"]) == pytest.approx(0.6)
    assert value(scores["merged_iou"]) == 0.25
    assert summarise_sets([SetRecord("a", 1, 1, 1)])["merged_iou"] is None
