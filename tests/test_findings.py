"""The sentence that a sweep's intervals make: whom they support, and what stays open."""

from __future__ import annotations

import pytest

from pgpt_lib.sweeps.findings import finding, tendency
from pgpt_lib.sweeps.reading import OverSeeds

UP, DOWN, WIDE = (OverSeeds(v, v - 0.05, v + 0.05, 3) for v in (0.1, -0.1, 0.01))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (UP, "grows"),
        (DOWN, "shrinks"),
        (WIDE, "is open"),
        (OverSeeds(0.1, 0.0, 0.2, 3), "is open"),  # 0 itself lies in the interval
        (DOWN._replace(seeds=2), "is open"),
        (None, "is not measured yet"),
    ],
)
def test_a_gap_shrinks_or_grows_only_with_its_whole_interval(change, word):
    assert tendency(change) == word


@pytest.mark.parametrize(
    ("gaps", "changes", "end"),
    [
        ((UP, UP), (DOWN, DOWN), "both are supported"),
        ((UP, UP), (DOWN, WIDE), "with more in part"),
        ((UP, UP), (DOWN, None), "with more in part"),
        ((UP, UP), (WIDE, None), "stays open"),
        ((UP, UP), (DOWN, UP), "are not."),
        ((UP, WIDE), (DOWN, DOWN), "not supported against each"),
        ((UP, DOWN), (UP, UP), "not supported against each"),
    ],
)
def test_the_sentence_sides_with_what_the_intervals_decide(gaps, changes, end):
    sentence = finding(dict(zip("ab", gaps, strict=True)), dict(zip(("one", "two"), changes, strict=True)))
    assert end in sentence
    for name, change in zip(("one", "two"), changes, strict=True):
        kind = sentence.split(f"the gap {tendency(change)}: ")[1].split(";")[0]
        assert name in kind


def test_the_sentence_names_who_leads_and_who_does_not():
    sentence = finding({"a": UP, "b": UP, "c": WIDE, "d": DOWN}, {"one": WIDE})
    assert sentence.startswith(
        "Under the small budget the embedding leads a and b, lies behind d, is level within the doubt with c; "
    )
    assert "nothing is supported" in finding({"a": UP, "b": None}, {"one": DOWN})
