"""What intervals of a sweep say in a sentence, so that no prose has to be conditional on them."""

from __future__ import annotations

from collections.abc import Mapping

from .reading import OverSeeds
from .results import LEAST_SEEDS

SHRINKS, GROWS, OPEN, MISSING = "shrinks", "grows", "is open", "is not measured yet"


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


def finding(gaps: Mapping[str, OverSeeds | None], changes: Mapping[str, OverSeeds | None]) -> str:
    """What the evidence supports: an embedding that leads when little is trained, and whose lead shrinks with more.

    Both is what the paper and those who found text as good say together.

    Args:
        gaps: the embedding's lead over each other representation under the small budget.
        changes: by how much each lead grows with a larger budget, by name.
    """
    if None in gaps.values():
        return "The small budget is not measured yet: nothing is supported."
    leads = [name for name, gap in gaps.items() if side(gap) == 1]
    behind = [name for name, gap in gaps.items() if side(gap) == -1]
    undecided = [name for name in gaps if name not in (*leads, *behind)]
    first = "Under the small budget the embedding " + ", ".join(
        f"{verb} {' and '.join(names)}"
        for verb, names in (("leads", leads), ("lies behind", behind), ("is level within the doubt with", undecided))
        if names
    )
    by_kind = {kind: [n for n, c in changes.items() if tendency(c) == kind] for kind in (SHRINKS, GROWS, OPEN, MISSING)}
    second = "; ".join(f"the gap {kind}: {', '.join(names)}" for kind, names in by_kind.items() if names)
    return f"{first}; {second}. {_whom(leads, gaps, by_kind)}"


def _whom(leads: list[str], gaps: Mapping[str, object], by_kind: Mapping[str, list[str]]) -> str:
    """Whom that sides with."""
    if len(leads) < len(gaps):
        return "So the paper's own claim is not supported against each of them."
    if by_kind[GROWS]:
        return "So the paper is supported under the small budget, and those who found text as good with more are not."
    if by_kind[SHRINKS] and not by_kind[OPEN] and not by_kind[MISSING]:
        return "So both are supported: the embedding is better with little, and text comes nearer with more."
    if by_kind[SHRINKS]:
        return "So the paper is supported under the small budget, and those who found text as good with more in part."
    return "So the paper is supported under the small budget; whether text comes nearer with more stays open."
