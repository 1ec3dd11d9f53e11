"""The sentence that a sweep's intervals make: whom they support, and what stays open."""

from __future__ import annotations

import itertools

import pytest

from pgpt_lib.sweeps.findings import by_chance, finding, tendency
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


def test_with_many_intervals_one_excludes_0_by_chance():
    assert [by_chance(count) for count in (0, 1, 2)] == pytest.approx([0, 0.05, 0.0975])
    assert by_chance(10) == pytest.approx(0.401, abs=0.001)


GAPS = {"leads": UP, "behind": DOWN, "level": WIDE}
CHANGES = {"shrinks": DOWN, "grows": UP, "open": WIDE, "missing": None}
GROWTH = "that text gains on the embedding with more is "
PAPER = {  # how the gaps may lie, to what is said of the paper's claim
    ("leads",): "supported",
    ("behind",): "contradicted here",
    ("level",): "undecided here",
    ("leads", "level"): "supported in part, against leads, undecided against level",
    ("behind", "leads"): "supported in part, against leads, contradicted against behind",
    ("behind", "level"): "contradicted against behind, undecided against level",
    ("behind", "leads", "level"): "supported in part, against leads, contradicted against behind, undecided against",
}
OTHERS = {  # and of the changes, to what is said of text with more; what is missing is as open as what is open
    (): "whether text gains on the embedding with more is open",
    ("shrinks",): f"{GROWTH}supported: it does (shrinks)",
    ("grows",): f"{GROWTH}contradicted: the embedding gains (grows)",
    ("open",): "whether text gains on the embedding with more is open",
    ("grows", "shrinks"): f"{GROWTH}supported in part: it does (shrinks), the embedding gains (grows)",
    ("open", "shrinks"): f"{GROWTH}supported in part: it does (shrinks), the rest is open",
    ("grows", "open"): f"{GROWTH}contradicted in part: the embedding gains (grows), the rest is open",
    (
        "grows",
        "open",
        "shrinks",
    ): f"{GROWTH}supported in part: it does (shrinks), the embedding gains (grows), the rest",
}
VERBS = {"leads": "leads", "behind": "lies behind", "level": "is level within the doubt with"}
TOLD = {"shrinks": "text gains on the embedding", "grows": "the embedding gains on text", "open": "neither is shown",
        "missing": "not measured yet"}  # fmt: skip


def subsets(kinds) -> list[tuple[str, ...]]:
    return [some for count in range(len(kinds) + 1) for some in itertools.combinations(kinds, count)]


@pytest.mark.parametrize("changes", subsets(CHANGES), ids=" ".join)
@pytest.mark.parametrize("gaps", subsets(GAPS)[1:], ids=" ".join)
def test_the_sentence_says_what_the_intervals_decide(gaps, changes):
    """Each gap and change is named by what it does."""
    sentence = finding({name: GAPS[name] for name in gaps}, {name: CHANGES[name] for name in changes})
    first, second, last = sentence.split(". ")
    assert all((f"{verb} {name}" in first) == (name in gaps) for name, verb in VERBS.items())
    assert all(
        (f"{verb} ({name})" in second.replace(" to gain", "")) == (name in changes) for name, verb in TOLD.items()
    )
    if gaps == ("leads",) and changes == ("shrinks",):
        assert last == "So both are supported: the embedding is better with little, and text gains on it with more."
        return
    paper, others = last.removeprefix("So the paper's claim is ").removesuffix(".").split(", and ")
    decided = tuple(sorted({"open" if name == "missing" else name for name in changes}))
    assert paper.startswith(PAPER[tuple(sorted(gaps))]) and others.startswith(OTHERS[decided])
    assert ("in part" in paper) == ("leads" in gaps and len(gaps) > 1)
    assert ("contradicted" in paper) == ("behind" in gaps) and ("supported" in paper) == ("leads" in gaps)


def test_the_sentence_names_every_gap_and_change_of_a_kind():
    sentence = finding({"a": UP, "b": UP, "c": WIDE, "d": DOWN}, {"to a, full": DOWN, "to b, full": DOWN})
    assert sentence.startswith("Under the small budget the embedding leads a and b, lies behind d, is level within the")
    assert "supported in part, against a and b, contradicted against d, undecided against c" in sentence
    assert "With more: text gains on the embedding (to a, full; to b, full). So" in sentence


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_without_a_gap_nothing_is_supported(change):
    assert "nothing is supported" in finding({"a": UP, "b": None}, {"one": change})


def test_two_seeds_decide_no_gap():
    assert "claim is undecided here" in finding({"a": UP._replace(seeds=2), "b": DOWN._replace(seeds=2)}, {})
