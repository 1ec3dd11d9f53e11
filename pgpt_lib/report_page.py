"""`index.html` of a run: one static page that needs neither a kernel nor a script."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from .by_profile import rows
from .project import describe

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
.banner { background: #fff4d6; border-left: .4rem solid #d9a400; padding: .6rem 1rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: .5rem 0; font-size: .9rem; }
th, td { border: 1px solid #d0d0d0; padding: .25rem .5rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } caption { text-align: left; font-weight: 600; }
.claims td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.interval { color: #666; font-size: .8rem; } figure { margin: 1rem 0; } img { max-width: 100%; height: auto; }
figcaption { color: #444; font-size: .9rem; }
"""


def render(report: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> str:
    """The page of a report.

    Args:
        report: what `pgpt_lib.report.gather` returns.
        results: the notebooks' results, for their figures.
    """
    title = f"PerceptionGPT, profile {report['profile']}"
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(sections(report, results))
        + "\n</body>\n</html>\n"
    )


def sections(report: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> list[str]:
    """What stands below the title, as HTML; links and pictures are relative to the run's folder."""
    parts = [
        f'<p class="banner">{escape(report["data"])}</p>',
        _facts(report),
        "<h2>Tables: ours beside the paper's</h2>" if report["tables"] else "",
        *(_beside(name, table) for name, table in sorted(report["tables"].items())),
        _claims(report["claims"]) if report.get("claims") else "",
        _profiles(report["profiles"]) if report.get("profiles") else "",
        "<h2>Metrics</h2><p>Brackets are 95 % intervals.</p>",
        *(_metrics(name, metrics) for name, metrics in report["metrics"].items()),
        "<h2>Notebooks</h2>",
        *(_notebook(result, report["seconds"][result["slug"]]) for result in results),
    ]
    return [part for part in parts if part]


def _facts(report: Mapping[str, Any]) -> str:
    facts = {
        "machine": describe(report["machine"]),
        "time": f"{sum(report['seconds'].values()) / 60:.1f} minutes for {len(report['seconds'])} notebooks",
        "seed": str(report["seed"]),
        "commit": report["commit"],
        "checkpoint": report["checkpoint"] or "none",
        "versions": ", ".join(f"{name} {version}" for name, version in report["versions"].items()),
    }
    return _table([], ([name, escape(value)] for name, value in facts.items()))


def _beside(name: str, table: Mapping[str, Any]) -> str:
    note = table.get("data")
    title = re.sub(r"(?<=[a-z])(?=\d)", " ", name.capitalize())
    parts = [f"<h3>{escape(title)}</h3>", f"<p>{escape(note)}</p>" if note else ""]
    parts += [_rows(table[side], label) for side, label in (("ours", "Ours"), ("paper", "Paper")) if table.get(side)]
    return "\n".join(filter(None, parts))


def _rows(rows: Any, caption: str) -> str:
    """A table of `{row: {column: value}}`; other shapes are shown as they are."""
    if not isinstance(rows, Mapping) or not all(isinstance(row, Mapping) for row in rows.values()):
        return f"<p>{escape(caption)}: {_cell(rows)}</p>"
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    body = ([escape(name), *(_cell(row.get(column)) for column in columns)] for name, row in rows.items())
    return _table(["", *columns], body, caption)


def _claims(claims: Mapping[str, Mapping[str, Any]]) -> str:
    """Every claim of the paper with its verdict, why, and what that rests on, folded away."""
    rows = (
        [escape(c["text"]), escape(c["section"]), f"<strong>{escape(c['verdict'])}</strong>",
         f"{escape(c['why'])}{_folded(c['evidence'])}"]
        for c in claims.values()
    )  # fmt: skip
    verdicts = [claim["verdict"] for claim in claims.values()]
    counts = ", ".join(f"{verdicts.count(v)} {v}" for v in sorted(set(verdicts)))
    table = _table(["claim", "section", "verdict", "why"], rows)
    return f'<h2>The paper\'s claims</h2><p>{escape(counts)}.</p><div class="claims">{table}</div>'


def _profiles(found: Mapping[str, Mapping[str, Any] | None]) -> str:
    """A column a profile; one without a report says so in every row."""
    body = ([escape(title), *map(_cell, values)] for title, values in rows(found))
    return f"<h2>By profile</h2>{_table(['', *found], body)}"


def _folded(evidence: Sequence[str]) -> str:
    items = "".join(f"<li><code>{escape(item)}</code></li>" for item in evidence)
    return f"<details><summary>evidence</summary><ul>{items}</ul></details>"


def _metrics(name: str, metrics: Mapping[str, Any]) -> str:
    flat = {key: value for key, value in metrics.items() if not isinstance(value, Mapping)}
    nested = {key: value for key, value in metrics.items() if isinstance(value, Mapping)}
    parts = [f"<h3>{escape(name)}</h3>"]
    if flat:
        parts.append(_table([], ([escape(key), _cell(value)] for key, value in flat.items())))
    for key, group in nested.items():
        if any(isinstance(value, Mapping) for value in group.values()):
            rows = {k: v if isinstance(v, Mapping) else {"value": v} for k, v in group.items()}
            parts.append(_rows(rows, key))
        else:
            parts.append(_table([], ([escape(k), _cell(v)] for k, v in group.items()), key))
    return "\n".join(parts)


def _notebook(result: Mapping[str, Any], seconds: float) -> str:
    slug = result["slug"]
    link = f'<a href="{slug}/{slug}.ipynb">executed notebook</a>'
    figures = "".join(
        f'<figure><img src="{slug}/{escape(f["file"])}" alt="{escape(f["alt"])}" loading="lazy">'
        f"<figcaption>{escape(f['alt'])}</figcaption></figure>"
        for f in result["figures"]
    )
    return f"<h3>{escape(slug)}</h3><p>{seconds:.0f} s, {link}</p>{figures}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """A table whose cells are HTML already; head and caption are plain text."""
    top = f"<caption>{escape(caption)}</caption>" if caption else ""
    if head:
        top += "<thead><tr>" + "".join(f'<th scope="col">{escape(str(h))}</th>' for h in head) + "</tr></thead>"
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>'


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
    if isinstance(value, list) and len(value) == 3 and all(isinstance(v, (int, float)) for v in value):
        return f'{value[0]:.3f} <span class="interval">[{value[1]:.3f}, {value[2]:.3f}]</span>'
    if isinstance(value, list):
        shown = ", ".join(_cell(v) for v in value[:8])
        return shown + (f" … ({len(value)} values)" if len(value) > 8 else "")
    if isinstance(value, Mapping):
        return ", ".join(f"{escape(str(k))} {_cell(v)}" for k, v in value.items())
    return escape(str(value))
