"""The keys that docs/results.md documents, and whether scores have these and no others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pgpt_lib.project import ROOT

# Code in the meaning of a metric that names none of its own keys.
OTHER_WORDS = {"questions": {"accuracy", "n", "majority"}, "teacher_forced": {"null"}, "failures": {"n"}}
ELSEWHERE = {"generalised"}  # of gRefCOCO alone
SCORE_KEYS = {"n", "missing", "acc@0.5", "miou_box", "ciou", "miou_mask", "p@0.5", "p@0.7", "p@0.9", "emission_rate"}


def documented(heading: str) -> dict[str, str]:
    """The keys of the tables under a heading of docs/results.md, each with the cell that says its meaning."""
    section = (ROOT / "docs/results.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.+?`(?:, `.+?`)*) \| (.+) \|$", section, re.M)
    return {key: meaning for names, meaning in rows for key in re.findall("`([^`]+)`", names)}


def named(meaning: str) -> set[str]:
    """The keys that a meaning names: as code of one word, or in a JSON object."""
    return set(re.findall(r"`([a-z][\w.@]*)`", meaning)) | set(re.findall(r'"(\w+)":', meaning))


def check_metrics(scores: Mapping[str, Any]) -> None:
    """Of an evaluation on RefShapes in which all tasks were asked: keys and their own keys are the documented ones."""
    common, more = documented("Metrics"), documented("What `evaluate` adds")
    assert set(common) == SCORE_KEYS and set(scores) == (SCORE_KEYS | set(more)) - ELSEWHERE
    for key, meaning in more.items():
        if key in ELSEWHERE:
            continue
        if isinstance(scores[key], dict) and key != "reasoning":
            assert set(scores[key]) - {"parse_failure_rate"} <= named(meaning), key
            assert named(meaning) - OTHER_WORDS.get(key, set()) <= set(scores[key]), key
    assert set(scores["reasoning"]) == SCORE_KEYS | {"failures", "parse_failure_rate"}
    assert all(set(entry) == OTHER_WORDS["questions"] for entry in scores["questions"].values())
