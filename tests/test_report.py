"""The two pages of a run, and what committed reports hold."""

from __future__ import annotations

import json
import re
import subprocess
from html import unescape
from pathlib import Path

import pytest
import toy_sweep
from results_page import documented

from pgpt_lib import project, report_markdown, report_page
from pgpt_lib.files import write_json
from pgpt_lib.report import write_report
from pgpt_lib.report_sections import Heading, Listed, Table, Text, _cell, blocks
from pgpt_lib.sweeps import frames, reading

MACHINE = {"processor": "Toy", "cores": 2, "memory_gb": 4.0, "accelerators": []}
TABLES = {
    "table4": {"ours": {"Token Embed": {"box": 1, "mask": 1}}, "data": "A row with a | and *stars*"},
    "table7": {
        "ours": {"Token Embed, nano, cache": {"box": [0.0123, 0.0119, 0.013]}},
        "data": "Seconds to decode one region, median [quartiles].",
    },
}
METRICS = {"refshapes-refcoco/val": {"acc@0.5": [0.5, 0.25, 0.75], "caption": {"n": 3, "cider": None}, "n": 2}}


def result(slug: str, figures: list[dict], **more) -> dict:
    """A notebook's result, as `notebook.finish` writes it."""
    config = {"data": {"name": "refshapes", "level": "smoke"}, "vision": {"name": "a"}, "llm": {"name": "b"}}
    facts = {
        "slug": slug,
        "profile": "smoke",
        "config": config,
        "commit": "c",
        "machine": MACHINE,
        "versions": {"x": "1"},
    }
    return {
        **facts,
        "seed": 0,
        "seconds": 2.0,
        "checkpoint": None,
        "metrics": {},
        "tables": {},
        "figures": figures,
    } | more


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """A run's folder with two notebooks and one sweep, and its report."""
    folder = tmp_path_factory.mktemp("run")
    toy_sweep.write(folder, "table6")
    for path in (folder / "sweeps" / "table6").glob("rep*.json"):
        write_json(path, json.loads(path.read_text()) | {"machine": MACHINE})
    rows = frames.table6_result(reading.open_sweep("table6", folder, "smoke"))
    figures = [{"file": "figure4.png", "alt": "Scores <by> rank"}, {"file": "gaps.png", "alt": "Differences"}]
    seventh = result("07_representations", figures, tables=TABLES | {"table6": {"ours": rows}})
    fifth = [{"file": "figure5_left.png", "alt": "Strategies"}, {"file": "figure5_right.png", "alt": "Weights"}]
    for each in (seventh, result("08_fusion_ablation", fifth, metrics=METRICS)):
        write_json(folder / each["slug"] / "result.json", each)
    write_report(folder)
    return folder


def words(cell: str) -> str:
    """A cell's text without marks."""
    return re.sub(r"\\(.)", r"\1", unescape(re.sub(r"<[^>]+>", "", cell))).strip()


def html_tables(page: str) -> list[list[list[str]]]:
    """Every table of the page as rows of text, its head first."""
    found = re.findall(r"<table>(.*?)</table>", page, re.S)
    rows = [re.findall(r"<tr>(.*?)</tr>", table, re.S) for table in found]
    return [
        [[words(c) for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)] for row in table] for table in rows
    ]


def markdown_tables(page: str) -> list[list[list[str]]]:
    """The same of Markdown; a head that is empty is left out."""
    tables: list[list[list[str]]] = []
    for paragraph in page.split("\n\n"):
        lines = paragraph.splitlines()
        if lines and lines[0].startswith("|"):
            cells = [[words(c.removeprefix("**").removesuffix("**")) for c in cut(line)] for line in lines]
            assert all(len(row) == len(cells[0]) for row in cells) and set("".join(cells[1])) <= set(":-")
            tables.append([row for row in (cells[0], *cells[2:]) if any(row)])
    return tables


def cut(line: str) -> list[str]:
    """A line's cells; a border that is escaped belongs to the text."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_both_pages_hold_the_same_tables_and_verdicts(out):
    page, text = (out / "index.html").read_text(), (out / "report.md").read_text()
    tables = html_tables(page)
    assert tables == markdown_tables(text) and len(tables) >= 8
    claims = json.loads((out / "report.json").read_text())["claims"]
    [verdicts] = [table for table in tables if table[0][:1] == ["claim"]]
    assert [row[2] for row in verdicts[1:]] == [claim["verdict"] for claim in claims.values()]
    heads = re.findall(r"<h[123][^>]*>(.*?)</h[123]>", page)
    assert [words(head) for head in heads] == [words(head) for head in re.findall(r"^#+ (.*)$", text, re.M)]
    pictures = re.findall(r'<img src="([^"]+)"', page)
    assert pictures == re.findall(r"^!\[.*?\]\((.+)\)$", text, re.M) and len(pictures) == 4 + 3
    assert '<div class="scroll words"><table><tbody><tr><td>machine</td>' in page  # wraps: versions fit on no screen


def test_the_papers_figures_stand_with_ours_and_where_they_were_made(out):
    text = (out / "report.md").read_text()
    figures = text.split("## Figures: ours for the paper's")[1].split("\n## ")[0]
    assert re.findall("### (.*)", figures) == ["Figure 4", "Figure 5"]
    assert "![Scores &lt;by&gt; rank](07_representations/figure4.png)" in figures and "gaps.png" not in figures
    assert "08_fusion_ablation/08_fusion_ablation.ipynb" in figures and "figure5_right.png" in figures


def test_table_6_has_intervals_and_seeds_and_its_sweep_hours_and_hardware(out):
    report = json.loads((out / "report.json").read_text())
    row = report["tables"]["table6"]["ours"]["Embed, rank 8"]
    assert row["seeds"] == 3 and row["refcoco/val"][1] < row["refcoco/val"][0] < row["refcoco/val"][2]
    text = (out / "report.md").read_text()
    assert f"{row['refcoco/val'][0]:.1f} [{row['refcoco/val'][1]:.1f}, {row['refcoco/val'][2]:.1f}]" in text
    assert "### Table 7\n\nSeconds to decode one region, median [quartiles]." in text
    assert "0.01230 [0.01190, 0.01300]" in text and "0.500 [0.250, 0.750]" in text
    facts = report["sweeps"]["table6"]
    files = [json.loads(p.read_text()) for p in (out / "sweeps" / "table6").glob("rep*.json")]
    assert facts["cells"] == len(files) and facts["missing"] == 0 and facts["machines"] == [MACHINE]
    assert facts["hours"] == pytest.approx(sum(f["total_seconds"] for f in files) / 3600)
    assert (
        f"| table6 | {len(files)} of {len(files)} | 0, 1, 2 | {facts['hours']:.1f} | 1 | Toy, 2 cores, 4.0 GB |" in text
    )


def test_points_of_a_curve_stand_apart_and_an_interval_in_brackets():
    assert _cell([[34.0, 0.91], [385, 0.975]]) == "(34, 0.91), (385, 0.975)"
    assert _cell([[0.5, 0.25, 0.75], [0.5, 0.25, 0.75]]) == "0.500 [0.250, 0.750], 0.500 [0.250, 0.750]"
    assert _cell([0, 1, 2]) == "0, 1, 2"


def test_nothing_in_a_text_is_a_mark():
    table = Table(("a|b",), (("<vis> *x* `y`",), (Listed("1 item", (("a_b", None),)),)))
    shown = report_markdown._markdown(table)
    assert shown.splitlines()[0] == "| a\\|b |" and "&lt;vis&gt; \\*x\\* \\`y\\`" in shown
    assert words(cut(shown.splitlines()[2])[0]) == "<vis> *x* `y`" and "<code>a\\_b</code>" in shown
    assert "&lt;vis&gt;" in report_page._html(table) and report_page._html(Text("<b>")) == "<p>&lt;b&gt;</p>"


def test_a_report_without_tables_claims_or_sweeps_has_no_heading_for_them(out):
    report = json.loads((out / "report.json").read_text()) | {"tables": {}, "claims": {}, "sweeps": {}, "profiles": {}}
    heads = [block.text for block in blocks(report, []) if isinstance(block, Heading) and block.level == 2]
    assert heads == ["Metrics", "Notebooks"]


def committed_reports() -> list[str]:
    """The reports under version control."""
    listed = ["git", "ls-files", "reports/*/report.json"]
    try:
        return subprocess.run(listed, cwd=project.ROOT, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return []


@pytest.mark.parametrize("path", committed_reports())
def test_a_committed_report_has_the_documented_keys(path):
    report = json.loads((project.ROOT / path).read_text())
    assert not {key for key in documented("report.json") if "/" not in key} - set(report)
    assert report["profile"] == Path(path).parent.name
    pages = [project.ROOT / path.replace("report.json", name) for name in ("index.html", "report.md")]
    assert all(page.is_file() for page in pages)
