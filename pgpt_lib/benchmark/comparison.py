"""What rows of `bench decode` say beside each other: the run's noise, what tokens cost, why a prediction misses.

Rows are those of `decode_rows`. A region of one token takes the same work with a key-value cache and without, but for
filling the cache: its two rows are one work measured twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .decoding import within

Row = Mapping[str, Any]


def noise(rows: Sequence[Row]) -> dict[str, Any]:
    """By how much the same work differs between two measurements: the slower median over the faster one.

    Returns:
        `ratios`, of a single token with and without a cache, by language model and kind ("nano box"); `largest` of
        them, 1 where no row has a single token. The noise is at least that, and may be more.
    """
    pairs: dict[str, list[float]] = {}
    for row in rows:
        if row["tokens"] == 1:
            pairs.setdefault(f"{row['llm']} {row['kind']}", []).append(row["measured"][0])
    ratios = {name: max(found) / min(found) for name, found in pairs.items()}
    return {"ratios": ratios, "largest": max(ratios.values(), default=1.0)}


def beside_one_token(rows: Sequence[Row]) -> list[float]:
    """Each row's seconds over those of the one token of the same language model, kind and cache; 1 for itself."""
    single = {_same(row): row["measured"][0] for row in rows if row["tokens"] == 1}
    return [row["measured"][0] / single[_same(row)] for row in rows]


def _same(row: Row) -> tuple[str, str, bool]:
    return row["llm"], row["kind"], row["cache"]


def explain(row: Row, floor: float = 1.0) -> str | None:
    """Why a row's prediction misses, in a sentence; None within 25 %.

    Either the miss is no larger than the run's noise; or which part is off by how much, what that part's prediction
    consists of, and how far its largest term would have to change.

    Args:
        row: with its `causes`.
        floor: of the noise, the largest factor between two measurements of the same work.
    """
    if within(row["ratio"]):
        return None
    measured, predicted = row["parts"]["measured"], row["parts"]["predicted"]
    part = max(measured, key=lambda name: abs(measured[name] - predicted[name]))
    name = f"{row['representation']} {row['kind']}, {row['llm']}, cache {'on' if row['cache'] else 'off'}"
    off, gap = max(row["ratio"], 1 / row["ratio"]), measured[part] - predicted[part]
    share = f"{part} by {gap * 1e3:+.2f} ms, the whole by {(row['measured'][0] - row['predicted']) * 1e3:+.2f} ms"
    if off <= floor:
        return (
            f"{name}: off by a factor of {off:.2f}, within the noise of this run, in which the same work differs by a "
            f"factor of up to {floor:.2f} ({share})"
        )
    return (
        f"{name}: off by a factor of {off:.2f}, beyond the noise of {floor:.2f} ({share}); {part} takes "
        f"{measured[part] * 1e3:.2f} ms, predicted {predicted[part] * 1e3:.2f} {_lack(row, part, gap)}"
    )


def _lack(row: Row, part: str, gap: float) -> str:
    """What a part's prediction consists of, and how far its largest term is from closing the gap of so many seconds."""
    causes, predicted = row["causes"].get(part, {}), row["parts"]["predicted"][part]
    whole = sum(causes.values())
    if not whole or not predicted:
        return "(nothing is counted)"
    shares = ", ".join(f"{cause} {seconds / whole:.0%}" for cause, seconds in causes.items())
    largest = max(causes, key=lambda cause: causes[cause])
    wanted = 1 + gap / (predicted * causes[largest] / whole)
    if wanted <= 0:
        return f"({shares}), too much even without {largest}"
    return f"({shares}), which would fit if {largest} cost {wanted:.2f} times as much"
