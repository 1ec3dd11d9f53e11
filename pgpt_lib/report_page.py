"""`index.html` of a run: one static page that needs neither a kernel nor a script."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from .report_sections import Block, Cell, Heading, Listed, Picture, Table, Text, blocks, title

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
.banner { background: #fff4d6; border-left: .4rem solid #d9a400; padding: .6rem 1rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: .5rem 0; font-size: .9rem; }
th, td { border: 1px solid #d0d0d0; padding: .25rem .5rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } caption { text-align: left; font-weight: 600; }
.words td { text-align: left; white-space: normal; } .words code { overflow-wrap: anywhere; }
.interval { color: #666; font-size: .8rem; } figure { margin: 1rem 0; } img { max-width: 100%; height: auto; }
figcaption { color: #444; font-size: .9rem; }
"""
INTERVAL = re.compile(r"(?<= )\[[-+\d.,]+, [-+\d.,]+\]")


def render(report: Mapping[str, Any], results: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """The page of a report.

    Args:
        report: what `pgpt_lib.report.gather` returns.
        results: the notebooks' results, for their figures.
        folder: of the run, where the page is to lie.
    """
    name = _text(title(report))
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}</title><style>{STYLE}</style></head>\n<body>\n<h1>{name}</h1>\n"
        + "\n".join(sections(report, results, folder))
        + "\n</body>\n</html>\n"
    )


def sections(report: Mapping[str, Any], results: Sequence[Mapping[str, Any]], folder: Path | None = None) -> list[str]:
    """What stands below the title, as HTML; arguments as of `report_sections.blocks`."""
    return [_html(block) for block in blocks(report, results, folder)]


def _html(block: Block) -> str:
    match block:
        case Heading():
            return f'<h{block.level} id="{escape(block.anchor)}">{_text(block.text)}</h{block.level}>'
        case Text():
            words, target = block.link or ("", "")
            link = f' <a href="{escape(target)}">{_text(words)}</a>' if block.link else ""
            opened = '<p class="banner">' if block.banner else "<p>"
            return f"{opened}{_text(block.text)}{link}</p>"
        case Picture():
            return (
                f'<figure><img src="{escape(block.file)}" alt="{escape(block.alt)}" loading="lazy">'
                f"<figcaption>{_text(block.alt)}</figcaption></figure>"
            )
        case Table():
            return _table(block)


def _table(table: Table) -> str:
    top = f"<caption>{_text(table.caption)}</caption>" if table.caption else ""
    if table.head:
        top += "<thead><tr>" + "".join(f'<th scope="col">{_text(name)}</th>' for name in table.head) + "</tr></thead>"
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(cell, column == table.strong)}</td>" for column, cell in enumerate(row)) + "</tr>"
        for row in table.rows
    )
    kind = "scroll words" if table.words else "scroll"
    return f'<div class="{kind}"><table>{top}<tbody>{body}</tbody></table></div>'


def _cell(cell: Cell, strong: bool) -> str:
    if isinstance(cell, Listed):
        items = "".join(f"<li>{_item(name, target)}</li>" for name, target in cell.items)
        return f"<details><summary>{_text(cell.title)}</summary><ul>{items}</ul></details>"
    text = INTERVAL.sub(lambda found: f'<span class="interval">{found[0]}</span>', _text(cell))
    return f"<strong>{text}</strong>" if strong else text


def _item(name: str, target: str | None) -> str:
    code = f"<code>{_text(name)}</code>"
    return f'<a href="{escape(target)}">{code}</a>' if target else code


def _text(words: str) -> str:
    """Words between tags; attributes need their quotes escaped too."""
    return escape(words, quote=False)
