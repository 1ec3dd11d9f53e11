"""What a student gets back: the graded notebook as a page, without hidden tests."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..files import write_text
from ..site.formulas import mathml
from . import nbgrader_api

HIDDEN = "[hidden]"
PATHS = re.compile(r"/[^\s\"':]*/(?=[^/\s\"':]+\.(?:py|ipynb))")  # where the teacher's files lie
MATHJAX = re.compile(r"<!-- Load mathjax -->.*?<!-- End of mathjax configuration -->", re.S)
VERBATIM = re.compile(r"(<(?:pre|code|script|style)\b.*?</(?:pre|code|script|style)>)", re.S)
FORMULA = re.compile(r"(?<!\\)\$\$(.+?)\$\$|(?<![\\$])\$(?![\s$])([^$]+?)(?<![\s\\])\$(?!\d)", re.S)
HINTS = "<style>summary { display: list-item; cursor: pointer }</style>"  # nbgrader's own takes their triangle away
CONTENTS = re.compile(r'(<a href="#(\w+)_check">)Test cell(?=</a>)')
ELSEWHERE = re.compile(r'<a href="\.\./[^"]*"[^>]*>(.*?)</a>', re.S)


def scrub(graded: Any, hidden: Sequence[str], seed: int, without_hidden: Callable[[str], str]) -> None:
    """Take hidden tests out of a graded notebook, sources and outputs, in place.

    A test's traceback shows the test, so only its last line stays. A student's code can print what it saw of a test;
    its lines and the seed are blotted out wherever they appear.
    """
    secrets = sorted({*hidden, *(line.replace("checks.grading_seed()", str(seed)) for line in hidden)}, key=len)[::-1]
    patterns = [re.compile(re.escape(line)) for line in secrets] + [re.compile(rf"(?<!\d){seed}(?!\d)")]

    def clean(text: str) -> str:
        for pattern in patterns:
            text = pattern.sub(HIDDEN, text)
        return PATHS.sub("", text)

    for cell in graded.cells:
        marks = cell.metadata.get("nbgrader", {})
        if marks.get("grade"):
            cell.source = without_hidden(cell.source)
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                last = f"{output.ename}: {output.evalue}"
                output.traceback = [clean(last) if marks.get("grade") else clean("\n".join(output.traceback))]
                output.ename, output.evalue = clean(output.ename), clean(output.evalue)
            elif output.output_type == "stream":
                output.text = clean(output.text)
            else:
                for kind, data in output.get("data", {}).items():
                    if isinstance(data, str) and not kind.startswith("image/"):
                        output["data"][kind] = clean(data)


def write_feedback(work: Path, student: str, assignment: str, target: Path) -> None:
    """nbgrader's feedback page of a graded notebook."""
    api = nbgrader_api.open_course(work)
    nbgrader_api.check(api.generate_feedback(assignment, student, force=True), "write the feedback")
    page = work / "feedback" / student / assignment / f"{assignment}.html"
    write_text(target, on_its_own(page.read_text(encoding="utf-8")))


def write_refusal(target: Path, assignment: str, of: float, why: str) -> None:
    """The page of what could not be graded: its 0 of `of` points, and the reason."""
    title = html.escape(assignment)
    head = f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>'
    body = f"<body><h1>{title} (Score: 0.0 / {of:.1f})</h1><p>{html.escape(why)}</p></body></html>"
    write_text(target, f"{head}\n{body}\n")


def on_its_own(page: str) -> str:
    """A feedback page that needs nothing but itself.

    nbgrader's page fetches a script to draw formulas, so that they are raw LaTeX without a network, and a foreign
    host learns who reads feedback. They become MathML here. Links to files beside the lesson lead nowhere from a page
    that is handed back, and become plain words. Each line of the scores at its head names its exercise, where nbgrader
    says "Test cell".
    """
    page = CONTENTS.sub(r"\1\2", MATHJAX.sub("", page))
    parts = VERBATIM.split(page.replace("</head>", f"{HINTS}</head>", 1))
    return "".join(p if i % 2 else ELSEWHERE.sub(r"\1", FORMULA.sub(_drawn, p)) for i, p in enumerate(parts))


def _drawn(match: re.Match[str]) -> str:
    """A formula's MathML; what a student wrote and LaTeX does not know stays as it is."""
    try:
        return mathml(html.unescape(match[1] or match[2]), as_block=bool(match[1]))
    except (SyntaxError, ValueError, LookupError, TypeError, AttributeError):
        return match[0]
