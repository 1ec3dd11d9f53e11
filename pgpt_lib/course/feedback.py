"""What a student gets back: the graded notebook as a page, without hidden tests."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import nbgrader_api

HIDDEN = "[hidden]"
PATHS = re.compile(r"/[^\s\"':]*/(?=[^/\s\"':]+\.(?:py|ipynb))")  # where the teacher's files lie


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
                output.evalue = clean(output.evalue)
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
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(work / "feedback" / student / assignment / f"{assignment}.html", target)
