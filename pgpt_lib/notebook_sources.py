"""From `notebooks/src/NN_slug.py` to `notebooks/NN_slug.ipynb`, and the contract that every source keeps.

    python -m pgpt_lib.notebook_sources            # write the notebooks
    python -m pgpt_lib.notebook_sources --check    # fail on drift or a broken contract

A source is jupytext's percent format. The notebook is the full lesson: runnable, without outputs, solutions folded.
In the source an exercise's cells carry short nbgrader marks, `nbgrader={"grade_id": "iou", "solution": true}` for the
solution and `nbgrader={"grade_id": "iou_check", "grade": true, "points": 2}` for its test; the rest is filled in here.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import jupytext
import nbformat
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from . import project
from .errors import InputError, RunError
from .files import write_text
from .notebook_parameters import declared

NOTEBOOKS = project.ROOT / "notebooks"
FENCE = re.compile(r"```yaml\n(.*?)```", re.S)
EXERCISE = re.compile(r"^#+ Exercise \d+: .+ \([★☆]{3}, \d+ minutes?\)$", re.M)
MARKS = {
    "solution": ("### BEGIN SOLUTION", "### END SOLUTION"),
    "grade": ("### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS"),
}
LINES = 10  # of code in a cell of the lesson; exercises may be longer
ASIDE = ('"""', "#", "def ")  # a function's head and docstring, and comments, are not counted
KERNEL = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

Text = Annotated[str, Field(min_length=3)]


class FrontMatter(BaseModel):
    """What the first cell says of its notebook."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: Text
    objectives: list[Text] = Field(min_length=2)
    prerequisites: list[Text] = Field(min_length=1)
    paper: Text
    minutes: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1)
    memory_gb: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1)


def sources(folder: Path = NOTEBOOKS) -> list[Path]:
    """Every source, in the order of the series."""
    return sorted((folder / "src").glob("[0-9][0-9]_*.py"))


def build(source: Path) -> nbformat.NotebookNode:
    """The notebook of a source: no outputs, complete nbgrader metadata, solutions folded, ids from the content."""
    notebook = jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent")
    notebook.metadata = nbformat.from_dict(KERNEL)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        marks = cell.metadata.get("nbgrader")
        if marks is not None:
            cell.metadata["nbgrader"] = nbformat.from_dict(complete(marks))
            if marks.get("solution"):
                cell.metadata["jupyter"] = nbformat.from_dict({"source_hidden": True})
        # An id that depends on the content alone changes with its own cell only, so that diffs stay small.
        content = hashlib.sha256(f"{source.stem}\n{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[content] += 1
        cell["id"] = content if seen[content] == 1 else f"{content}-{seen[content]}"
    nbformat.validate(notebook)
    return notebook


def complete(marks: dict[str, Any]) -> dict[str, Any]:
    """A cell's short nbgrader marks as the whole of nbgrader's metadata."""
    grade, solution = bool(marks.get("grade")), bool(marks.get("solution"))
    full = {"schema_version": 3, "grade_id": marks["grade_id"], "grade": grade, "solution": solution}
    full |= {"locked": not solution, "task": False, "cell_type": "code"}
    return full | ({"points": marks["points"]} if grade else {})


def front_matter(notebook: nbformat.NotebookNode, name: str) -> FrontMatter:
    """The YAML block of the first cell, validated.

    Raises:
        InputError: it is missing, or names the fields that are wrong.
    """
    first = notebook.cells[0]
    block = FENCE.search(first.source) if first.cell_type == "markdown" else None
    if block is None:
        raise InputError(f"{name}: the first cell is no markdown with a ```yaml block")
    try:
        return FrontMatter.model_validate(yaml.safe_load(block.group(1)))
    except (ValidationError, yaml.YAMLError) as error:
        raise InputError(f"{name}: front matter: {error}") from None


def problems(notebook: nbformat.NotebookNode, name: str) -> list[str]:
    """Where a notebook breaks the contract, one sentence each; empty when it keeps it."""
    found = []
    try:
        title = front_matter(notebook, name).title
        if not notebook.cells[0].source.startswith(f"# {name[:2]} · {title}\n"):
            found.append(f"the first heading is not `# {name[:2]} · {title}`")
    except InputError as error:
        found.append(str(error))
    try:
        parameters = declared(notebook, name)
        found += [f"no parameter {need}" for need in ("profile", "out_dir", "seed") if need not in parameters]
        found += [f"parameter {p.name} has no help" for p in parameters.values() if not p.help]
        index = next(i for i, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", ()))
        found += (
            [] if "start(" in _next_code(notebook.cells, index) else ["the cell after the parameters calls no start()"]
        )
        untyped = [line for line in notebook.cells[index].source.splitlines() if ":" not in line.partition("=")[0]]
        found += [f"a parameter without a type: {line}" for line in untyped]
    except RunError as error:
        found.append(str(error))
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if not code or "run.finish(" not in code[-1].source or notebook.cells[-1] is not code[-1]:
        found.append("the last cell does not call run.finish()")
    if not any(".show()" in cell.source for cell in code):
        found.append("no interactive view")
    return found + _lesson(notebook.cells) + _exercises(notebook.cells)


def _next_code(cells: list[nbformat.NotebookNode], index: int) -> str:
    return next((cell.source for cell in cells[index + 1 :] if cell.cell_type == "code"), "")


def _lesson(cells: list[nbformat.NotebookNode]) -> list[str]:
    """A paragraph before each cell, at most ten lines in it, a reading after each figure, nothing executed."""
    found = []
    for before, cell, after in zip([None, *cells[:-1]], cells, [*cells[1:], None], strict=True):
        if cell.cell_type != "code":
            continue
        head = cell.source.strip().splitlines()[0] if cell.source.strip() else "an empty cell"
        if cell.outputs or cell.execution_count is not None:
            found.append(f"outputs below `{head}`")
        exercise = "nbgrader" in cell.metadata or "attempt" in cell.metadata.get("tags", ())
        if not exercise and (before is None or before.cell_type != "markdown"):
            found.append(f"no paragraph before `{head}`")
        lines = [line for line in map(str.strip, cell.source.splitlines()) if line and not line.startswith(ASIDE)]
        if not exercise and len(lines) > LINES:
            found.append(f"{len(lines)} lines in the cell `{head}`, at most {LINES}")
        if "run.figure(" in cell.source and (after is None or after.cell_type != "markdown"):
            found.append(f"no reading of the figure after `{head}`")
    return found


def _exercises(cells: list[nbformat.NotebookNode]) -> list[str]:
    """At least two exercises: header, stub with its check, staged hints, solution, graded test."""
    found = []
    marked = {kind: [c for c in cells if c.metadata.get("nbgrader", {}).get(kind)] for kind in MARKS}
    for kind, (begin, end) in MARKS.items():
        for cell in marked[kind]:
            name = cell.metadata["nbgrader"]["grade_id"]
            marks = re.findall(f"{begin}|{end}", cell.source)
            if not marks or marks != [begin, end] * (len(marks) // 2):
                found.append(f"cell {name} needs one `{begin}` before each `{end}`")
    solutions = [c.metadata["nbgrader"]["grade_id"] for c in marked["solution"]]
    tests = [c.metadata["nbgrader"]["grade_id"] for c in marked["grade"]]
    if len(solutions) < 2:
        found.append(f"{len(solutions)} exercises, at least two are due")
    if [f"{name}_check" for name in solutions] != tests:
        found.append(f"solutions {solutions} and tests {tests} do not go together; a test is named after its solution")
    text = [c.source for c in cells if c.cell_type == "markdown"]
    counts = {
        "headers `### Exercise N: title (★☆☆, 5 minutes)`": sum(len(EXERCISE.findall(t)) for t in text),
        "cells tagged `attempt`": sum("attempt" in c.metadata.get("tags", ()) for c in cells),
        "cells with staged hints (two `<details>` or more)": sum(t.count("<details>") >= 2 for t in text),
    }
    return found + [f"{n} {what} for {len(solutions)} exercises" for what, n in counts.items() if n != len(solutions)]


def main(arguments: list[str] | None = None) -> int:
    """Write or check every notebook; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pgpt_lib.notebook_sources", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail on drift and on broken contracts")
    check = parser.parse_args(arguments).check
    failed, known = 0, set()
    for source in sources():
        notebook, target = build(source), NOTEBOOKS / f"{source.stem}.ipynb"
        known.add(target)
        text = nbformat.writes(notebook) + "\n"
        for problem in problems(notebook, source.stem):
            print(f"{source.name}: {problem}", file=sys.stderr)
            failed += 1
        current = target.read_text(encoding="utf-8") if target.exists() else ""
        if current != text and check:
            print(f"{target.name} differs from its source; run `make notebooks`", file=sys.stderr)
            failed += 1
        elif current != text:
            write_text(target, text)
            print(f"wrote {target.relative_to(project.ROOT)}")
    for stray in set(NOTEBOOKS.glob("*.ipynb")) - known:
        print(f"{stray.name} has no source in notebooks/src", file=sys.stderr)
        failed += 1
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
