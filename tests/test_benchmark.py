"""The decode benchmark: counts and arithmetic of the prediction, and the form of its rows; never wall time."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from conftest import make_llm
from transformers import AutoTokenizer

from pgpt_lib.backbones import resolve
from pgpt_lib.benchmark import decoding, machine
from pgpt_lib.benchmark.decoding import KINDS, cases, count_parts, predict, row, sampled, summed
from pgpt_lib.benchmark.machine import PIECE, Rates, fit, product_seconds
from pgpt_lib.benchmark.suite import llm_name
from pgpt_lib.benchmark.work import Product, Work, count_work
from pgpt_lib.errors import InputError

RATES = Rates(call=1e-6, byte=1e-10)


@pytest.fixture(autouse=True)
def known_machine(monkeypatch):
    """Rates that no test measures."""
    monkeypatch.setattr(product_seconds, "__defaults__", (lambda rows, inner, pieces: 1e9, lambda pieces: 1e9))


def test_a_product_is_counted_once_and_views_move_nothing():
    left, right = torch.randn(5, 7), torch.randn(7, 3)
    work = count_work(lambda: (left @ right).t().reshape(15) + 1)
    assert work.flop == 2 * 5 * 7 * 3
    assert work.product_bytes == 4 * (35 + 21 + 15)
    assert (work.products[0].rows, work.products[0].inner) == (5, 7)
    assert work.calls >= 3
    assert count_work(lambda: left.view(35).view(7, 5)).other_bytes == 0
    assert count_work(lambda: left + 1).other_bytes == 4 * 2 * 35


def test_a_convolution_has_a_row_a_pixel():
    pixels, weight = torch.randn(1, 3, 8, 8), torch.randn(5, 3, 2, 2)
    (product,) = count_work(lambda: torch.nn.functional.conv2d(pixels, weight, stride=2)).products
    assert (product.rows, product.inner, product.flop) == (16, 12, 2 * 16 * 12 * 5)


def test_attention_on_the_cpu_counts_both_of_its_products():
    query, key = torch.randn(1, 2, 6, 8), torch.randn(1, 2, 9, 8)
    work = count_work(lambda: torch.nn.functional.scaled_dot_product_attention(query, key, key))
    assert work.flop == 2 * (2 * 2 * 6 * 9 * 8)


@pytest.mark.parametrize(("flop", "moved", "seconds"), [(2e9, 1e6, 2.0), (1e6, 3e9, 3.0)])
def test_a_product_takes_the_longer_of_flop_and_bytes(flop, moved, seconds):
    assert product_seconds(Work(1, [Product(flop, moved, 8, 64)])) == pytest.approx(seconds)


def test_rates_are_asked_for_the_bytes_of_the_whole_run():
    asked = []
    work = Work(2, [Product(1, n * PIECE, 8, 64) for n in (3, 5)])
    product_seconds(
        work, lambda rows, inner, pieces: asked.append(pieces) or 1e9, lambda pieces: asked.append(pieces) or 1e9
    )
    assert asked == [8, 8, 8]


def test_the_fit_finds_the_rates_that_made_the_seconds():
    works = [
        Work(calls, [Product(1000, 1000, 8, 64)], moved) for calls, moved in ((100, 10**6), (400, 10**6), (100, 10**8))
    ]
    found = fit([(work, RATES.seconds(work)) for work in works])
    assert found.call == pytest.approx(RATES.call, rel=1e-3)
    assert found.byte == pytest.approx(RATES.byte, rel=1e-3)


def test_steps_are_summed_along_straight_lines():
    assert sampled(1) == [] and summed([], [], 1) == 0
    assert sampled(3) == [1, 2] and len(sampled(400)) == 5
    at = sampled(400)
    assert summed(at, [2.0 + 0.5 * i for i in at], 400) == pytest.approx(sum(2 + 0.5 * i for i in range(1, 400)))


@pytest.fixture(scope="module")
def made(tiny_tower):
    """Every case of a tiny language model with nano's vocabulary."""
    nano = AutoTokenizer.from_pretrained(resolve("nano"))
    llm = make_llm(len(nano))
    llm.config.max_position_embeddings = 1024
    names = ("embedding", "numerical", "vocabulary")
    return {(c.representation, c.kind): c for c in cases("tiny", names, lambda: (copy.deepcopy(llm), nano), tiny_tower)}


def test_true_tokens_are_counted(made):
    tokens = {name: case.tokens for name, case in made.items()}
    assert tokens["embedding", "box"] == tokens["embedding", "mask"] == 1
    assert tokens["vocabulary", "box"] == 2 + 2 and tokens["vocabulary", "mask"] == 32 + 2
    assert tokens["numerical", "box"] > 4 * 3 and tokens["numerical", "mask"] > 64 * 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_replayed_step_sees_the_same_with_a_cache_and_without(made, kind):
    case = made["numerical", kind]
    past = case.new_cache()
    with torch.no_grad():
        case.forward(0, case.prompt, past)
        cached = case.forward(case.prompt, case.prompt + 1, past)
        assert torch.allclose(cached, case.forward(0, case.prompt + 1, None), atol=1e-5)
        before = case.step(3, cached=True)
        before(), before()  # the cache is as long as before, or the second call would fail


def test_without_a_cache_a_longer_region_costs_more_than_in_proportion(made):
    def predicted(*name, cached=True):
        return predict(count_parts(made[name], cached), made[name].tokens, RATES)

    on, off = (predicted("vocabulary", "mask", cached=cached) for cached in (True, False))
    assert off["decode"] > on["decode"] and off["vision"] == on["vision"]
    assert predicted("embedding", "box")["decode"] == 0
    assert predicted("embedding", "mask")["head"] > 0 == on["head"]


@pytest.mark.parametrize("cached", [True, False])
def test_a_row_holds_what_the_command_promises(made, cached, monkeypatch):
    monkeypatch.setattr(decoding, "REPEATS", 2)
    got = row(made["vocabulary", "box"], "tiny", cached, RATES, budget=5)
    median, low, high = got["measured"]
    assert 0 < low <= median <= high
    assert got["ratio"] == pytest.approx(median / got["predicted"])
    assert got["predicted"] == pytest.approx(sum(got["parts"]["predicted"].values()))
    assert (got["llm"], got["cache"], got["tokens"]) == ("tiny", cached, 4)
    assert 0 < got["overhead_a_step"] < got["predicted"]
    assert set(got["causes"]) == set(got["parts"]["predicted"])
    assert sum(got["causes"]["prefill"].values()) == pytest.approx(got["parts"]["predicted"]["prefill"])


def test_a_long_region_is_summed_from_steps(made):
    found, method, check = decoding.measure(made["numerical", "mask"], False, budget=0.01)
    assert "summed" in method and check is None and len(found) >= 3
    assert all(np.isfinite(list(parts.values())).all() for parts in found)


class Slow:
    """A region of 400 tokens; `timed` and `whole` tell what they were asked instead of running."""

    tokens = 400
    vision = head = prefill = None

    def __init__(self) -> None:
        self.order: list[str] = []

    def step(self, index, cached):
        return None

    def whole(self, cached):
        self.order.append("whole")
        return {"decode": 3.5, "head": 0.5}


@pytest.mark.parametrize(
    ("budget", "spent", "check", "repeats"),
    [(3.9, 0.0, None, 20), (4.2, 0.0, 4.0, 3), (5.05, 0.0, 4.0, 7), (60.0, 54.95, 4.0, 7), (60.0, 0.0, 4.0, 20)],
)
def test_the_check_comes_first_wherever_it_takes_less_than_the_row_may(monkeypatch, budget, spent, check, repeats):
    case = Slow()

    def timed(run, count, warm=1):
        case.order.append("timed")
        return [0.01] * count

    monkeypatch.setattr(decoding, "timed", timed)
    found, method, whole = decoding.measure(case, False, budget, spent)
    assert (whole, len(found)) == (check, repeats) and "summed" in method
    if check:
        assert case.order.index("whole") == len(sampled(400)) < len(case.order) - 1
    assert sum(found[0].values()) == pytest.approx(0.03 + 399 * 0.01)


def test_the_band_is_a_quarter_to_both_sides_and_two_thirds_are_wanted():
    rows = [{"ratio": ratio} for ratio in (0.75, 1.0, 1.25, 1.26)]
    assert [decoding.within(row["ratio"]) for row in rows] == [True, True, True, False]
    assert decoding.target(rows) == {"within": 3, "of": 4, "wanted": 2 / 3, "met": True}
    assert decoding.target(rows[2:])["met"] is False
    assert decoding.target([{"ratio": r} for r in (1, 1, 2)])["met"] is True


def test_calibrating_models_are_of_other_sizes_than_the_backbones():
    assert not {(4, 128), (30, 576)} & set(machine.SIZES)


@pytest.mark.parametrize(
    ("given", "name"),
    [("smollm2", "smollm2-135m"), ("nano", "nano"), ("./folder", "./folder"), ("owner/model", "owner/model")],
)
def test_a_language_model_is_named_by_its_beginning(given, name):
    assert llm_name(given) == name


@pytest.mark.parametrize("given", ["vicuna", "dinov2", "smolm"])
def test_a_name_that_is_none_or_several_is_refused(given):
    with pytest.raises(InputError, match=f"{given}.*nano, "):
        llm_name(given)
