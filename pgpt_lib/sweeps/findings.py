"""What intervals of a sweep say in a sentence, so that no prose has to be conditional on them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from .reading import OverSeeds
from .results import LEAST_SEEDS

SHRINKS, GROWS, OPEN, MISSING = "shrinks", "grows", "is open", "is not measured yet"
FLOOR = 0.1  # Acc@0.5, or F1 of several boxes, below which a baseline is idle
CHANCE = 0.05  # of a 95 % interval that excludes 0 where nothing is different


def side(found: OverSeeds | None) -> int | None:
    """1 or -1 where the whole interval of `LEAST_SEEDS` or more lies on that side of 0, 0 where it does not.

    None without cells.
    """
    if found is None:
        return None
    return 0 if found.seeds < LEAST_SEEDS or found.low <= 0 <= found.high else 1 if found.low > 0 else -1


def tendency(change: OverSeeds | None) -> str:
    """What a change of a gap says of it: it `SHRINKS`, `GROWS`, `is open` or was never measured."""
    return {1: GROWS, -1: SHRINKS, 0: OPEN, None: MISSING}[side(change)]


def is_idle(scores: Iterable[float]) -> bool:
    """Whether a baseline with these scores, one a seed, has learnt next to nothing in its budget."""
    return statistics.fmean(scores) < FLOOR


def by_chance(intervals: int) -> float:
    """How likely one or more of so many independent intervals exclude 0 where nothing is different."""
    return 1 - (1 - CHANCE) ** intervals


def finding(gaps: Mapping[str, OverSeeds | None], changes: Mapping[str, OverSeeds | None]) -> str:
    """What the evidence supports: an embedding that leads when little is trained, and text that gains with more.

    The first is what the paper claims, the second what those suggest who found text as good; both may be so.

    Args:
        gaps: the embedding's lead over each other representation under the small budget, negative where it is behind.
        changes: by how much each lead grows with a larger budget, by name. A lead that shrinks, or that lies below 0
            and widens, is a gain of text.
    """
    if None in gaps.values():
        return "The small budget is not measured yet: nothing is supported."
    by_side = {which: [name for name, gap in gaps.items() if side(gap) == which] for which in (1, -1, 0)}
    by_kind = {kind: [n for n, c in changes.items() if tendency(c) == kind] for kind in (SHRINKS, GROWS, OPEN, MISSING)}
    verbs = {1: "leads", -1: "lies behind", 0: "is level within the doubt with"}
    first = ", ".join(f"{verbs[which]} {' and '.join(names)}" for which, names in by_side.items() if names)
    told = {SHRINKS: "text gains on the embedding", GROWS: "the embedding gains on text",
            OPEN: "neither is shown to gain", MISSING: "not measured yet"}  # fmt: skip
    second = ", ".join(f"{told[kind]} {_listed(names)}" for kind, names in by_kind.items() if names) or told[MISSING]
    return f"Under the small budget the embedding {first}. With more: {second}. So {_so(by_side, by_kind)}."


def _so(by_side: Mapping[int, list[str]], by_kind: Mapping[str, list[str]]) -> str:
    if not (by_side[-1] or by_side[0]) and by_kind[SHRINKS] and not any(by_kind[k] for k in (GROWS, OPEN, MISSING)):
        return "both are supported: the embedding is better with little, and text gains on it with more"
    return f"{_of_the_paper(by_side)}, and {_of_the_others(by_kind)}"


def _of_the_paper(by_side: Mapping[int, list[str]]) -> str:
    """What the gaps say of the claim that an embedding learns with little what text does not."""
    leads, behind, level = (by_side[which] for which in (1, -1, 0))
    if not behind and not level:
        return "the paper's claim is supported under the small budget"
    if not leads and not level:
        return "the paper's claim is contradicted here: with little, text is better"
    if not leads and not behind:
        return "the paper's claim is undecided here: with little, neither is shown to be better"
    parts = {"supported in part, against": leads, "contradicted against": behind, "undecided against": level}
    found = ", ".join(f"{kind} {' and '.join(names)}" for kind, names in parts.items() if names)
    return f"the paper's claim is {found}"


def _of_the_others(by_kind: Mapping[str, list[str]]) -> str:
    """What the changes say of those who found text as good with more."""
    text, embedding = by_kind[SHRINKS], by_kind[GROWS]
    rest = ", the rest is open" if by_kind[OPEN] or by_kind[MISSING] else ""
    claim, part = "that text gains on the embedding with more is", " in part" if rest else ""
    if text and embedding:
        return f"{claim} supported in part: it does {_listed(text)}, the embedding gains {_listed(embedding)}{rest}"
    if text:
        return f"{claim} supported{part}: it does {_listed(text)}{rest}"
    if embedding:
        return f"{claim} contradicted{part}: the embedding gains {_listed(embedding)}{rest}"
    return "whether text gains on the embedding with more is open"


def _listed(names: Iterable[str]) -> str:
    """Names that hold commas."""
    return f"({'; '.join(names)})"
