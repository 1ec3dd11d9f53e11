"""The table of a sweep, a row for the cells that differ by their seed alone: `table.json` and `table.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.refshapes.world import SPLITS
from ..evaluation.series import MAIN
from ..files import write_json, write_text
from .results import mean, value

ABSENT = "–"
SETS = [f"refshapes-{dataset}/{split}" for dataset, splits in SPLITS.items() for split in splits[1:]]
COLUMNS = (
    *((f"Acc@0.5 {name.removeprefix('refshapes-')}", f"{name}.acc@0.5") for name in SETS),
    *((f"cIoU {name.removeprefix('refshapes-')}", f"{name}.ciou") for name in SETS),
    ("emission rate", f"{MAIN}.emission_rate"),
    ("parse failures", f"{MAIN}.parse_failure_rate"),
    ("CIDEr", f"{MAIN}.caption.cider"),
    ("questions after", f"{MAIN}.questions.all.accuracy"),
)


def rows(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each choice of factors but the seed, in the order of their first result.

    Each has `cell` (factors), `seeds`, `failed` (seeds whose cell failed), `trainable`, `seconds` (a cell, training),
    `expressions`, `questions before`, and each of `COLUMNS` that any cell has, as [value, low, high] over the seeds.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        key = repr({k: v for k, v in result["cell"].items() if k != "seed"})
        groups.setdefault(key, []).append(result)
    return [_row(members) for members in groups.values()]


def _row(members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    done = [r for r in members if r["status"] == "done"]
    row: dict[str, Any] = {
        "cell": {k: v for k, v in members[0]["cell"].items() if k != "seed"},
        "seeds": [r["cell"]["seed"] for r in done],
        "failed": [r["cell"]["seed"] for r in members if r["status"] == "failed"],
    }
    if not done:
        return row
    row["trainable"] = done[0]["parameters"]["trainable"]
    row["seconds"] = sum(r["seconds"] for r in done) / len(done)
    row["expressions"] = sum(r["expressions"] for r in done) / len(done)
    before = [b for r in done if (b := value({"metrics": {"q": r["before"]}}, "q.questions.all.accuracy")) is not None]
    row["questions before"] = sum(before) / len(before) if before else None
    return {**row, **{title: found for title, path in COLUMNS if (found := mean(done, path)) is not None}}


def write_table(folder: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Write both files; without results none."""
    if results:
        made = rows(results)
        write_json(folder / "table.json", made)
        write_text(folder / "table.md", markdown(made))


def markdown(made: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table for people: means with the half width of their interval; factors that never vary left out.

    A cell that was trained before its plan had a factor has none of it.
    """
    known = list({name: None for row in made for name in row["cell"]})
    factors = [k for k in known if len({str(row["cell"].get(k)) for row in made}) > 1] or known
    titles = ["trainable", "seconds", "questions before", *(title for title, _ in COLUMNS)]
    shown = [title for title in titles if any(row.get(title) is not None for row in made)]
    head = [*factors, "seeds", *shown]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for row in made:
        seeds = str(len(row["seeds"])) + (f", {len(row['failed'])} failed" if row["failed"] else "")
        kind = [str(row["cell"].get(k, ABSENT)) for k in factors]
        lines.append(f"| {' | '.join([*kind, seeds, *(_cell(row.get(title)) for title in shown)])} |")
    note = "Means over seeds ± half of their 95 % interval, which joins seeds and scenes."
    return "\n".join(lines) + f"\n\n{note}\n"


def _cell(found: Any) -> str:
    if found is None:
        return ABSENT
    if isinstance(found, list):
        return f"{found[0]:.3f} ± {(found[2] - found[1]) / 2:.3f}"
    return f"{found:,.0f}" if abs(found) >= 10 else f"{found:.3f}"
