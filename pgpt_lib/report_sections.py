"""What a run's report says, block by block. `index.html` and `report.md` are these blocks in two notations."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import project
from .by_profile import rows
from .project import describe

FIGURES = {  # of the paper, in our words
    1: "One box as digits, as location tokens and as one dynamic token.",
    2: "The model: a tower whose layers are fused, a language model, light encoders and decoders of regions.",
    3: "Answers: captions with regions, regions by reasoning, captions and questions of a region.",
    4: "Three representations of a box. Left: full tuning against LoRA; right: by the amount of training data.",
    5: "The tower's layers. Left: ways to fuse them, by task; right: the learned weight of each.",
}
FIGURE = re.compile(r"figure(\d)(_\w+)?\.\w+")  # how a notebook names a figure of the paper


@dataclass(frozen=True)
class Heading:
    """A heading of `level` 2 or 3; the title of the page is 1. Links lead to its `anchor`."""

    level: int
    text: str

    @property
    def anchor(self) -> str:
        """As code hosts make it of a heading in Markdown."""
        return re.sub(r"[^\w -]", "", self.text.lower()).replace(" ", "-")


@dataclass(frozen=True)
class Text:
    """A paragraph, set off as a `banner` or not; `link` is the words and the target of a link that ends it."""

    text: str
    banner: bool = False
    link: tuple[str, str] | None = None


@dataclass(frozen=True)
class Listed:
    """A cell that names files or keys, folded away, each with the target of a link or none."""

    title: str
    items: tuple[tuple[str, str | None], ...]


Cell = str | Listed


@dataclass(frozen=True)
class Table:
    """Rows of plain text. `words`: sentences, not numbers; `strong`: the column that counts."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    words: bool = False
    strong: int | None = None


@dataclass(frozen=True)
class Picture:
    """A figure by its path from the run's folder."""

    file: str
    alt: str


Block = Heading | Text | Table | Picture


def title(report: Mapping[str, Any]) -> str:
    """Of the page."""
    return f"PerceptionGPT, profile {report['profile']}"


def blocks(report: Mapping[str, Any], results: Sequence[Mapping[str, Any]], folder: Path | None = None) -> list[Block]:
    """What stands below the title; links and pictures are relative to the run's folder.

    Args:
        report: what `pgpt_lib.report.gather` returns.
        results: the notebooks' results, for their figures.
        folder: of the run, where the cells of sweeps are to be linked from it.
    """
    return [
        Text(report["data"], banner=True),
        _facts(report),
        *_tables(report["tables"]),
        *_figures(results),
        *_claims(report, folder),
        *_sweeps(report.get("sweeps", {})),
        *_profiles(report.get("profiles", {})),
        Heading(2, "Metrics"),
        Text("Brackets are 95 % intervals."),
        *(block for name, metrics in report["metrics"].items() for block in _metrics(name, metrics)),
        Heading(2, "Notebooks"),
        *(block for result in results for block in _notebook(result, report["seconds"][result["slug"]])),
    ]


def _facts(report: Mapping[str, Any]) -> Table:
    facts = {
        "machine": describe(report["machine"]),
        "time": f"{sum(report['seconds'].values()) / 60:.1f} minutes for {len(report['seconds'])} notebooks",
        "seed": str(report["seed"]),
        "commit": report["commit"],
        "checkpoint": report["checkpoint"] or "none",
        "versions": ", ".join(f"{name} {version}" for name, version in report["versions"].items()),
    }
    return _table((), facts.items(), words=True)


def _tables(tables: Mapping[str, Mapping[str, Any]]) -> Iterator[Block]:
    if tables:
        yield Heading(2, "Tables: ours beside the paper's")
        yield Text("Brackets are 95 % intervals, of times the quartiles.")
    for name, table in sorted(tables.items()):
        yield _table_heading(name)
        if table.get("data"):
            yield Text(table["data"])
        for side, caption in (("ours", "Ours"), ("paper", "Paper")):
            if table.get(side):
                yield _rows(table[side], caption, table.get("paper"))


def _figures(results: Sequence[Mapping[str, Any]]) -> Iterator[Block]:
    """The paper's figures with ours, as far as a notebook of this run made them."""
    made: dict[int, list[tuple[str, Mapping[str, Any]]]] = {}
    for result in results:
        for figure in result["figures"]:
            if (named := FIGURE.fullmatch(figure["file"])) and int(named[1]) in FIGURES:
                made.setdefault(int(named[1]), []).append((result["slug"], figure))
    if made:
        yield Heading(2, "Figures: ours for the paper's")
    for number, found in sorted(made.items()):
        yield Heading(3, f"Figure {number}")
        yield Text(f"In the paper: {FIGURES[number]} Ours:", link=_executed(found[0][0]))
        yield from (_picture(slug, figure) for slug, figure in found)


def _table_heading(name: str) -> Heading:
    return Heading(3, re.sub(r"(?<=[a-z])(?=\d)", " ", name.capitalize()))


def _claims(report: Mapping[str, Any], folder: Path | None) -> Iterator[Block]:
    """Every claim of the paper with its verdict, why, and what that rests on."""
    from .claims import counts

    claims = report.get("claims", {})
    if not claims:
        return
    yield Heading(2, "The paper's claims")
    changed = sum("rule_changed" in claim for claim in claims.values())
    told = f" {changed} rules were changed when the numbers were known; the table says what the earlier ones gave."
    yield Text(f"{counts(claims)}.{told if changed else ''}")
    body = (
        (c["text"], c["section"], c["verdict"], _why(c), _evidence(c["evidence"], report, folder))
        for c in claims.values()
    )
    yield _table(("claim", "section", "verdict", "why", "evidence"), body, words=True, strong=2)


def _why(claim: Mapping[str, Any]) -> str:
    """Why a verdict was given, and what earlier rules gave where the rule was changed when the numbers were known."""
    if "rule_changed" not in claim:
        return str(claim["why"])
    return f"{claim['why']} (rule changed after the numbers: was {', then '.join(claim['before'])})"


def _evidence(items: Sequence[str], report: Mapping[str, Any], folder: Path | None) -> Listed:
    found = tuple((item, _where(item, report, folder)) for item in items)
    return Listed(f"{len(items)} item{'s' * (len(items) != 1)}", found)


def _where(item: str, report: Mapping[str, Any], folder: Path | None) -> str | None:
    """Where evidence lies, from the run's folder: a notebook of the run, a place on the page, or a sweep's cell."""
    if item in report["seconds"]:
        return _executed(item)[1]
    if item in report["tables"]:
        return f"#{_table_heading(item).anchor}"
    if item in report["metrics"]:
        return f"#{Heading(3, item).anchor}"
    cell = project.ROOT / item
    return Path(os.path.relpath(cell, folder)).as_posix() if folder and cell.is_file() else None


def _sweeps(sweeps: Mapping[str, Mapping[str, Any]]) -> Iterator[Block]:
    """What the trainings behind tables 6, figures 4 and 5 and many claims took."""
    if not sweeps:
        return
    yield Heading(2, "Sweeps")
    yield Text("Trainings that were run beforehand: hours of one process, scoring included, added over cells.")
    body = (
        (name, f"{s['cells']} of {s['cells'] + s['missing']}", _cell(s["seeds"]), f"{s['hours']:.1f}",
         _cell(s["threads"]), "; ".join(describe(machine) for machine in s["machines"]))
        for name, s in sweeps.items()
    )  # fmt: skip
    yield _table(("sweep", "cells", "seeds", "hours", "threads", "machine"), body)


def _profiles(found: Mapping[str, Mapping[str, Any] | None]) -> Iterator[Block]:
    """A column a profile; one without a report says so in every row."""
    if found:
        yield Heading(2, "By profile")
        yield _table(("", *found), ((name, *map(_cell, values)) for name, values in rows(found)))


def _metrics(name: str, metrics: Mapping[str, Any]) -> Iterator[Block]:
    flat = {key: value for key, value in metrics.items() if not isinstance(value, Mapping)}
    yield Heading(3, name)
    if flat:
        yield _table((), ((key, _cell(value)) for key, value in flat.items()))
    for key, group in metrics.items():
        if not isinstance(group, Mapping) or not group:
            continue
        if any(isinstance(value, Mapping) for value in group.values()):
            yield _rows({k: v if isinstance(v, Mapping) else {"value": v} for k, v in group.items()}, key)
        else:
            yield _table((), ((k, _cell(v)) for k, v in group.items()), key)


def _notebook(result: Mapping[str, Any], seconds: float) -> Iterator[Block]:
    slug = result["slug"]
    yield Heading(3, slug)
    yield Text(f"{seconds:.0f} s,", link=_executed(slug))
    yield from (_picture(slug, figure) for figure in result["figures"])


def _executed(slug: str) -> tuple[str, str]:
    return "executed notebook", f"{slug}/{slug}.ipynb"


def _picture(slug: str, figure: Mapping[str, Any]) -> Picture:
    return Picture(f"{slug}/{figure['file']}", figure["alt"])


def _rows(rows: Any, caption: str, like: Any = None) -> Block:
    """A table of `{row: {column: value}}`; other shapes are shown as they are.

    Columns that the table `like` has come first, in its order.
    """
    if not isinstance(rows, Mapping) or not all(isinstance(row, Mapping) for row in rows.values()):
        return Text(f"{caption}: {_cell(rows)}")
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    first = list(dict.fromkeys(column for row in (like or {}).values() for column in row))
    columns.sort(key=lambda column: first.index(column) if column in first else len(first))
    body = ((name, *(_cell(row.get(column)) for column in columns)) for name, row in rows.items())
    return _table(("", *columns), body, caption)


def _table(head: Sequence[str], rows: Iterable[Sequence[Cell]], caption: str = "", **how: Any) -> Table:
    return Table(tuple(head), tuple(tuple(row) for row in rows), caption, **how)


def _cell(value: Any) -> str:
    """A value for a person: rounded numbers, intervals in brackets, yes and no, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    if _is_interval(value):
        middle, low, high = (_rounded(v, max(map(abs, value))) for v in value)
        return f"{middle} [{low}, {high}]"
    if isinstance(value, list):
        shown = ", ".join(f"({_cell(v)})" if _is_list(v) else _cell(v) for v in value[:8])
        return shown + (f" … ({len(value)} values)" if len(value) > 8 else "")
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_cell(v)}" for k, v in value.items())
    return str(value)


def _is_list(value: Any) -> bool:
    """A list within a list, as a point of a curve; an interval has brackets already."""
    return isinstance(value, list) and not _is_interval(value)


def _is_interval(value: Any) -> bool:
    """Three numbers, not all of them whole: those are counts or seeds."""
    numbers = isinstance(value, list) and len(value) == 3 and all(isinstance(v, (int, float)) for v in value)
    return numbers and any(isinstance(v, float) for v in value)


def _rounded(value: float, largest: float) -> str:
    """An end of an interval, to the digits that its largest number calls for."""
    return f"{value:.1f}" if largest >= 10 else f"{value:.3f}" if largest >= 0.1 else f"{value:.5f}"
