"""What rows of `bench decode` say beside each other: noise, times beside one token's, explanations. No wall time."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pgpt_lib.benchmark import suite
from pgpt_lib.benchmark.comparison import beside_one_token, beside_whole, explain, noise
from pgpt_lib.benchmark.machine import Rates
from pgpt_lib.commands import bench


def made(seconds: float, tokens: int = 1, kind: str = "box", cache: bool = True, llm: str = "nano", **more) -> dict:
    """A row that took so many seconds, 1 of them predicted for `decode` and 1 for `vision`."""
    parts = {"measured": {"vision": 1.0, "decode": seconds - 1}, "predicted": {"vision": 1.0, "decode": 1.0}}
    causes = {"vision": {"products": 1.0}, "decode": {"products": 0.25, "overhead": 0.5, "traffic": 0.25}}
    row = {"representation": "embedding" if tokens == 1 else "numerical", "kind": kind, "llm": llm, "cache": cache}
    measured = {"measured": [seconds, seconds - 0.1, seconds + 0.1], "predicted": 2.0, "ratio": seconds / 2}
    return row | {"tokens": tokens, "parts": parts, "causes": causes} | measured | more


def test_noise_is_what_the_same_token_differs_by_whichever_was_slower():
    rows = [made(2.0), made(2.2, cache=False), made(3.0, kind="mask"), made(2.0, kind="mask", cache=False)]
    rows += [made(9.0, tokens=25), made(90.0, tokens=25, cache=False)]  # other work with a cache than without
    found = noise(rows)
    assert found["ratios"] == pytest.approx({"nano box": 1.1, "nano mask": 1.5})
    assert found["largest"] == found["by_llm"]["nano"] == pytest.approx(1.5)
    assert noise(rows[4:]) == {"ratios": {}, "by_llm": {"nano": 1.0}, "largest": 1.0}
    found = noise([*rows, made(4.0, llm="large"), made(5.0, llm="large", cache=False), made(9.0, 4, llm="none")])
    assert found["by_llm"] == pytest.approx({"nano": 1.5, "large": 1.25, "none": 1.0})


def test_rows_stand_beside_the_one_token_of_their_own_model_kind_and_cache():
    rows = [made(2.0), made(4.0, cache=False), made(3.0, tokens=4), made(3.0, tokens=4, cache=False)]
    rows += [made(10.0, llm="large"), made(9.0, tokens=4, llm="large")]
    assert beside_one_token(rows) == pytest.approx([1, 1, 1.5, 0.75, 1, 0.9])


def test_whole_decodes_stand_beside_the_summed_steps():
    assert beside_whole([made(2.0, whole_decode=2.5), made(2.0, whole_decode=None)]) == [1.25, None]


def test_a_row_within_a_quarter_has_no_explanation_and_one_within_the_noise_says_so():
    assert explain(made(2.5)) is None and explain(made(1.5)) is None
    text = explain(made(2.8), floor=1.45)
    assert text.startswith("embedding box, nano, cache on: off by a factor of 1.40, within the noise of nano, 1.45 (")
    assert "decode by +800.00 ms, the whole by +800.00 ms" in text
    assert text.endswith("which would fit if overhead cost 2.60 times as much")  # noise does not hide what is lacking
    assert "factor of 1.43, within the noise" in explain(made(1.4), floor=1.45)


def test_beyond_the_noise_an_explanation_says_which_part_lacks_what():
    text = explain(made(3.0, tokens=25), floor=1.45)
    assert "off by a factor of 1.50, beyond the noise of nano, 1.45 (decode by +1000.00 ms, " in text
    assert "the whole by +1000.00 ms)" in text
    assert "decode takes 2000.00 ms, predicted 1000.00 (products 25%, overhead 50%, traffic 25%)" in text
    assert text.endswith("which would fit if overhead cost 3.00 times as much")
    assert explain(made(1.2)).endswith("too much even without overhead")
    assert explain(made(3.0, causes={})).endswith("(nothing is counted)")


def test_the_benchmark_explains_its_rows_by_its_own_noise(monkeypatch):
    """With the language models and all rows faked: what is read by name of `bench decode --json`."""
    llm = SimpleNamespace(config=SimpleNamespace(_attn_implementation="sdpa"))
    seconds = {"one": (2.0, 2.7), "several": (2.6, 2.9)}  # with a cache, without

    def faked_row(case, name, cached, rates, budget):
        quiet = name == "smollm2-135m" and case.tokens == 1
        took = 2.0 if quiet else seconds[case.representation][not cached]
        return made(took, case.tokens, cache=cached, llm=name)

    model = SimpleNamespace(llm=llm)
    shape = {"kind": "box", "model": model}
    faked = [SimpleNamespace(representation=name, tokens=n, **shape) for name, n in (("one", 1), ("several", 9))]
    for name, value in {
        "resolve": lambda name: name,
        "base_model": lambda given: given,
        "calibrated": lambda attention: Rates(1e-6, 1e-9),
        "cases": lambda *args, **more: faked,
        "row": faked_row,
        "flop_rate": lambda *args: 1e9,
        "bandwidth": lambda pieces: 1e9,
    }.items():
        monkeypatch.setattr(suite, name, value)
    found = suite.decode_rows(["nano", "smollm2-135m"], 1.0, lambda line: None)
    assert found["noise"]["by_llm"] == pytest.approx({"nano": 1.35, "smollm2-135m": 1.0})
    assert found["noise"]["largest"] == pytest.approx(1.35) and found["seconds_a_row"] == 1.0
    explained = [row["explanation"] for row in found["rows"]]
    assert explained[0] is None and "within the noise" in explained[1] and "within the noise" in explained[2]
    assert "beyond the noise of nano, 1.35" in explained[3] and len(set(explained[:4])) == 4
    # One language model's noise excuses no other: the same misses as nano's, measured without any doubt.
    assert explained[4:6] == [None, None]
    assert all("beyond the noise of smollm2-135m, 1.00" in text for text in explained[6:])
    text = bench._text(found)
    assert explained[3] in text and "differs by a factor of up to 1.35" in text
    keys = {"representation", "kind", "llm", "cache", "measured", "predicted", "ratio", "explanation"}
    assert all(keys <= set(row) for row in found["rows"])
