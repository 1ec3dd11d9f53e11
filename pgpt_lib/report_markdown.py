"""`report.md` of a run: what `index.html` says, as a code host shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from .report_sections import Block, Cell, Heading, Listed, Picture, Table, Text, blocks, title


def render(report: Mapping[str, Any], results: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """The report in Markdown, tables as GitHub writes them. Arguments as of `report_page.render`."""
    return "\n\n".join([f"# {_plain(title(report))}", *map(_markdown, blocks(report, results, folder))]) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {_plain(block.text)}"
        case Text():
            link = f" [{block.link[0]}]({block.link[1]})" if block.link else ""
            return f"{'> ' * block.banner}{_plain(block.text)}{link}"
        case Picture():
            return f"![{_plain(block.alt)}]({block.file})"
        case Table():
            return _table(block)


def _table(table: Table) -> str:
    columns = len(table.head or next(iter(table.rows), ()))
    head = table.head or ("",) * columns  # a table needs one
    sides = [":--" if table.words or not column else "--:" for column in range(columns)]
    lines = [head, sides, *([_cell(c, i == table.strong) for i, c in enumerate(row)] for row in table.rows)]
    made = [f"| {' | '.join(_plain(c) if line is head else c for c in line)} |" for line in lines]
    return "\n".join([*([f"**{_plain(table.caption)}**", ""] if table.caption else []), *made])


def _cell(cell: Cell, strong: bool) -> str:
    if isinstance(cell, Listed):
        items = "<br>".join(_item(name, target) for name, target in cell.items)
        return f"<details><summary>{_plain(cell.title)}</summary>{items}</details>"
    return f"**{_plain(cell)}**" if strong else _plain(cell)


def _item(name: str, target: str | None) -> str:
    code = f"<code>{_plain(name)}</code>"
    return f'<a href="{escape(target)}">{code}</a>' if target else code


def _plain(text: str) -> str:
    """Text in which nothing is a mark: of HTML, of emphasis or code, or the border of a cell."""
    for mark in "\\|*_`":
        text = text.replace(mark, f"\\{mark}")
    return escape(text.replace("\n", " "), quote=False)
