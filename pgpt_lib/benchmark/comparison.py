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
        `ratios`, of a single token with and without a cache, by language model and kind ("nano box"); `by_llm`, the
        largest of each language model's; `largest` of them all. The last two are 1 where no row has a single token. The
        noise is at least that, and may be more.
    """
    pairs: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["tokens"] == 1:
            pairs.setdefault((row["llm"], row["kind"]), []).append(row["measured"][0])
    ratios = {name: max(found) / min(found) for name, found in pairs.items()}
    by_llm = {row["llm"]: 1.0 for row in rows}
    for (llm, _), ratio in ratios.items():
        by_llm[llm] = max(by_llm[llm], ratio)
    named = {f"{llm} {kind}": ratio for (llm, kind), ratio in ratios.items()}
    return {"ratios": named, "by_llm": by_llm, "largest": max(by_llm.values(), default=1.0)}


def beside_one_token(rows: Sequence[Row]) -> list[float]:
    """Each row's seconds over those of the one token of the same language model, kind and cache; 1 for itself."""
    single = {_same(row): row["measured"][0] for row in rows if row["tokens"] == 1}
    return [row["measured"][0] / single[_same(row)] for row in rows]


def beside_whole(rows: Sequence[Row]) -> list[float | None]:
    """The seconds of one whole decode over the sum of single steps, for each row; None where it has not both."""
    return [row["whole_decode"] and row["whole_decode"] / row["measured"][0] for row in rows]


def _same(row: Row) -> tuple[str, str, bool]:
    return row["llm"], row["kind"], row["cache"]


def explain(row: Row, floor: float = 1.0) -> str | None:
    """Why a row's prediction misses, in a sentence; None within 25 %.

    Whether the miss is larger than the noise, which part is off by how much, what that part's prediction consists of,
    and how far its largest term would have to change. The last is said within the noise too: noise can hide what the
    formula lacks, but does not supply it.

    Args:
        row: with its `causes`.
        floor: of the noise, the largest factor between two measurements of the same work of the row's language model.
    """
    if within(row["ratio"]):
        return None
    measured, predicted = row["parts"]["measured"], row["parts"]["predicted"]
    part = max(measured, key=lambda name: abs(measured[name] - predicted[name]))
    name = f"{row['representation']} {row['kind']}, {row['llm']}, cache {'on' if row['cache'] else 'off'}"
    off, gap = max(row["ratio"], 1 / row["ratio"]), measured[part] - predicted[part]
    share = f"{part} by {gap * 1e3:+.2f} ms, the whole by {(row['measured'][0] - row['predicted']) * 1e3:+.2f} ms"
    doubt = f"{'within' if off <= floor else 'beyond'} the noise of {row['llm']}, {floor:.2f}"
    return (
        f"{name}: off by a factor of {off:.2f}, {doubt} ({share}); {part} takes "
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
