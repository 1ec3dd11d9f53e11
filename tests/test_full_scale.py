"""Predicted times at 7B and 13B: the formula's parts on a model with round numbers, token counts, shares."""

from __future__ import annotations

import pytest

from pgpt_lib.benchmark.full_scale import CLAIMED, COMPUTE, READ, Size, predict, shares, size_of, written_tokens
from pgpt_lib.config import load_profile
from pgpt_lib.estimate.plan import Card

SIZE = Size(weights=10**9, layers=10, width=100, prompt=200, vision_flop=10**12, head_flop={"box": 0, "mask": 10**11})
COMPUTES = Card("computes", memory=1, tflops=1 / COMPUTE, bandwidth=1e9)  # reading costs nothing there
READS = Card("reads", memory=1, tflops=1e9, bandwidth=1 / READ)  # 1 GB a second, computing costs nothing


@pytest.mark.parametrize(
    ("representation", "kind", "tokens"),
    [
        ("embedding", "box", 1),
        ("embedding", "mask", 1),
        ("vocabulary", "box", 2 + 2),
        ("vocabulary", "mask", 32 + 2),
        ("numerical", "box", 4 * 5 + 3 + 2),
        ("numerical", "mask", 64 * 5 + 63 + 2),
    ],
)
def test_tokens_with_their_wrappers(representation, kind, tokens):
    assert written_tokens(representation, kind) == tokens


def test_one_token_takes_vision_prefill_and_head_whatever_the_cache():
    found = [predict(SIZE, COMPUTES, 1, "mask", cached, head=True) for cached in (True, False)]
    assert found[0] == found[1]
    prefill = (2 * 10**9 * 200 + 4 * 10 * 100 * 200**2) / 1e12
    assert found[0] == pytest.approx({"vision": 1.0, "prefill": prefill, "decode": 0.0, "head": 0.1})


def test_without_a_cache_every_token_sees_and_reads_everything_again():
    parts = predict(SIZE, COMPUTES, 11, "box", cached=False, head=False)
    again = sum(1.0 + (2e9 * n + 4 * 10 * 100 * n**2) / 1e12 for n in range(201, 211))
    assert parts["decode"] == pytest.approx(again) and parts["head"] == 0


def test_with_a_cache_a_step_reads_weights_and_what_is_kept():
    parts = predict(SIZE, READS, 3, "box", cached=True, head=False)
    kept = 2 * 2 * 10 * 100  # bytes a position: keys and values of ten layers in bf16
    assert parts["decode"] == pytest.approx((2 * 2e9 + kept * (201 + 202)) / 1e9)


def test_an_overhead_is_paid_by_each_pass():
    bare, paid = (
        sum(predict(SIZE, COMPUTES, 5, "box", cached=True, head=True, overhead=o).values()) for o in (0.0, 2.0)
    )
    assert paid - bare == pytest.approx(2.0 * (1 + 1 + 4 + 1))  # vision, prefill, four steps, head


def test_shares_are_of_the_same_model_card_and_cache():
    def row(representation, kind, predicted, paper, tokens):
        base = {"llm": "7B", "gpu": "a40", "cache": True}
        return base | {
            "representation": representation, "kind": kind, "predicted": predicted, "paper": paper, "tokens": tokens,
        }  # fmt: skip

    rows = [
        row("embedding", "box", 1.0, 0.15, 1),
        row("embedding", "mask", 2.0, 0.18, 1),
        row("vocabulary", "mask", 8.0, 4.01, 34),
    ]
    (found,) = shares(rows)
    assert found["predicted"] == 0.25 and found["tokens"] == 1 / 34
    assert found["table7"] == pytest.approx(0.18 / 4.01)
    assert round(found["box_time"], 3) == found["claimed"] == CLAIMED["vocabulary"]


def test_sizes_come_from_the_model_itself():
    size = size_of(load_profile("photos"))
    assert size.layers == 30 and size.width == 576
    assert 0.10e9 < size.weights < 0.12e9  # of 135 million, 28 of which are the input embedding
    assert size.vision_flop > 2 * 21e6 * 64  # a product for each weight of DINOv2-S and each of its 64 tokens
    assert size.head_flop["mask"] > size.head_flop["box"] > 0
