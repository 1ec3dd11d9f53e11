"""From a lesson's source to what a teacher grades with, what students get, and what they may see afterwards."""

from __future__ import annotations

import ast
import copy
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat

from .. import notebook_sources
from ..notebook_sources import EXERCISE, MARKS, FrontMatter

IMPORT_CHECKS = "from pgpt_lib import checks\n\n"
HEADER = re.compile(r"#+ Exercise \d+: (.+) \(([★☆]+), (\d+) minutes?\)")
PROFILE = re.compile(r'^profile: str = "\w+"', re.M)
Notebook = nbformat.NotebookNode


@dataclass(frozen=True)
class Exercise:
    """One exercise of a lesson: its grade id (the function's name), title, stars, minutes and points."""

    name: str
    title: str
    stars: str
    minutes: int
    points: float


@dataclass(frozen=True)
class Lesson:
    """A notebook as an assignment; `graded` is the teacher's version, with solutions and hidden tests."""

    slug: str
    front: FrontMatter
    exercises: tuple[Exercise, ...]
    graded: Notebook


def read_lesson(source: Path, profile: str = "smoke") -> Lesson:
    """The assignment of a source.

    Args:
        source: `notebooks/src/NN_slug.py`.
        profile: what the parameters cell says, so that a student's laptop can run the lesson.
    """
    slug = source.stem
    notebook = notebook_sources.build(source)
    graded = teachers_version(notebook, profile)
    return Lesson(slug, notebook_sources.front_matter(notebook, slug), tuple(_exercises(notebook)), graded)


def teachers_version(notebook: Notebook, profile: str) -> Notebook:
    """A lesson as nbgrader's source: one stub an exercise, and tests that import the checks themselves.

    The lesson's free try (tagged `attempt`) goes, since the exercise's own cell is the student's now; its imports stay.
    Ids are numbers: the lesson's are made from the text of the solutions.
    """
    made = copy.deepcopy(notebook)
    cells: list[Notebook] = []
    for cell in made.cells:
        tags = cell.metadata.get("tags", ())
        if "attempt" in tags:
            imports = _imports(cell.source)
            if not imports:
                continue
            cell.source, cell.metadata = imports, nbformat.from_dict({})
        if "parameters" in tags:
            cell.source = PROFILE.sub(f'profile: str = "{profile}"', cell.source)
        marks = cell.metadata.get("nbgrader")
        if marks is not None:
            cell.metadata = nbformat.from_dict({"nbgrader": dict(marks)})
            if marks.get("grade"):
                cell.source = IMPORT_CHECKS + cell.source
        cell["id"] = f"cell-{len(cells):03d}"
        cells.append(cell)
    made.cells = cells
    return made


def solution_version(graded: Notebook) -> Notebook:
    """What students may see after the deadline: solutions without marks, and no hidden tests."""
    made = copy.deepcopy(graded)
    for cell in made.cells:
        if "nbgrader" in cell.metadata:
            cell.source = without_hidden(cell.source)
            for mark in MARKS["solution"]:
                cell.source = re.sub(rf"^[ \t]*{re.escape(mark)}\n?", "", cell.source, flags=re.M)
            del cell.metadata["nbgrader"]
    return made


def without_hidden(source: str) -> str:
    """A test cell without its hidden part."""
    return _between(*MARKS["grade"]).sub("", source).rstrip("\n")


def hidden_lines(graded: Notebook) -> list[str]:
    """Every line of the hidden tests, stripped."""
    found = [_between(*MARKS["grade"]).findall(c.source) for c in graded.cells if "nbgrader" in c.metadata]
    lines = [line.strip() for blocks in found for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("###")]


def _between(begin: str, end: str) -> re.Pattern[str]:
    return re.compile(rf"[ \t]*{re.escape(begin)}.*?{re.escape(end)}[ \t]*\n?", re.S)


def _imports(source: str) -> str:
    lines = source.splitlines()
    nodes = [node for node in ast.parse(source).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    kept = ["\n".join(lines[node.lineno - 1 : node.end_lineno]) for node in nodes]
    return "\n".join(
        line for line in kept if line not in (IMPORT_CHECKS.strip(), "from pgpt_lib.exercises import attempt")
    )


def _exercises(notebook: Notebook) -> list[Exercise]:
    """Headers and tests of a lesson, in their common order."""
    headers = [h for c in notebook.cells if c.cell_type == "markdown" for h in EXERCISE.findall(c.source)]
    tests = [c.metadata["nbgrader"] for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade")]
    found = []
    for header, marks in zip(headers, tests, strict=True):
        parts = HEADER.fullmatch(header)
        assert parts is not None  # EXERCISE found it
        title, stars, minutes = parts.groups()
        name = marks["grade_id"].removesuffix("_check")
        found.append(Exercise(name, title, stars, int(minutes), float(marks["points"])))
    return found
