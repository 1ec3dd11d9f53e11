"""What students hand in, which may be anything, made into a notebook that can be graded."""

from __future__ import annotations

import json
import os
import stat
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from ..errors import InputError
from ..files import digest, printable

Notebook = nbformat.NotebookNode
LARGEST = 50 * 2**20


class NotGradable(ValueError):
    """What was handed in cannot be graded; the message says what it is."""


@dataclass(frozen=True)
class Submission:
    """A student's folder for an assignment; `file`, which may be anything, is None where nothing was handed in."""

    student: str
    assignment: str
    file: Path | None

    @property
    def fault(self) -> str:
        """Why it cannot be read, in words; empty where it can. Only a file of its own, and no huge one, is opened."""
        if self.file is None:
            return "no notebook was handed in"
        name = printable(self.file.name)
        own = 2 if self.file.parent.name == self.assignment else 1  # the folders above that are the student's
        try:
            if any(place.is_symlink() for place in (self.file, *self.file.parents[:own])):
                return f"{name} is a link, no file of its own"
            found = self.file.lstat()
            if stat.S_ISDIR(found.st_mode):
                with os.scandir(self.file):  # fails where it cannot be looked into
                    return f"{name} is a folder"
            if not stat.S_ISREG(found.st_mode):
                return f"{name} is a pipe or a device, no file of its own"
            if found.st_size > LARGEST:
                return f"{name} has {found.st_size / 2**20:.0f} MB: hand it in without outputs"
            with self.file.open("rb"):
                return ""
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"

    @property
    def content(self) -> str:
        """A digest of what was handed in, or why there is none."""
        fault = self.fault
        if fault or self.file is None:
            return fault
        try:
            return digest(self.file)
        except OSError as error:
            return f"cannot be read: {error.strerror}"


@dataclass
class Prepared:
    """A submission as it is graded, and what had to be put right: grade id to a remark."""

    notebook: Notebook
    remarks: dict[str, str] = field(default_factory=dict)


def find_submissions(folder: Path, assignments: Mapping[str, object]) -> list[Submission]:
    """Everything in nbgrader's layout, `STUDENT/ASSIGNMENT/ASSIGNMENT.ipynb`, sorted.

    An assignment that anybody handed in is expected of every student. A notebook of another name is taken when it is
    the only one in its folder. What cannot be looked at is there too, so that `Submission.fault` names it.

    Raises:
        InputError: the folder itself cannot be read.
    """
    try:
        students = sorted(p for p in folder.iterdir() if os.path.isdir(p) and not p.name.startswith("."))
    except OSError as error:
        raise InputError(f"--submitted {folder} cannot be read: {error.strerror}") from None
    given = [name for name in assignments if any(os.path.lexists(student / name) for student in students)]
    return [Submission(printable(s.name), name, _handed_in(s / name, name)) for s in students for name in given]


def _handed_in(folder: Path, name: str) -> Path | None:
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            return folder
        inside = sorted(folder.iterdir())
    except FileNotFoundError:
        return None
    except OSError:
        return folder
    exact = folder / f"{name}.ipynb"
    if exact in inside:
        return exact
    found = [p for p in inside if p.name.endswith(".ipynb")] or [p for p in inside if not os.path.isdir(p)]
    return found[0] if len(found) == 1 else None


def read_submission(submission: Submission) -> Notebook:
    """The notebook that was handed in.

    Raises:
        NotGradable: nothing, no notebook, or one that cannot be read or is too large.
    """
    fault, file = submission.fault, submission.file
    if fault or file is None:
        raise NotGradable(fault)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # repaired below
            content = json.loads(file.read_bytes().decode("utf-8-sig"))
            if not isinstance(content.get("cells"), list):
                raise ValueError("no cells")
            notebook = nbformat.from_dict(content)
            cells = [_clean(cell) for cell in notebook.cells]
    except OSError as error:
        raise NotGradable(f"{printable(file.name)} cannot be read: {error.strerror}") from None
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        raise NotGradable(f"{printable(file.name)} is not a notebook") from None
    return nbformat.v4.new_notebook(cells=cells)


def prepare(handed_in: Notebook, released: Notebook) -> Prepared:
    """The student's cells in the released notebook's frame.

    Metadata is the release's, whatever the student's editor made of it. Tests are the release's (nbgrader puts the
    hidden ones back). Of cells with one grade id the first counts. What was deleted comes back: a test so that its
    exercise gets its zero, an exercise's cell as the empty stub, with a remark.
    """
    frame = {c.metadata["nbgrader"]["grade_id"]: c for c in released.cells if "nbgrader" in c.metadata}
    cells: list[Notebook] = []
    seen: set[str] = set()
    for cell in handed_in.cells:
        name = cell.metadata.get("grade_id")
        own = frame.get(name) if name not in seen else None
        if own is None:
            cell.metadata = nbformat.from_dict({})
        else:
            seen.add(name)
            cell = _in_frame(cell, own)
        cells.append(cell)
    prepared = Prepared(nbformat.v4.new_notebook(cells=cells, metadata=released.metadata))
    order = list(frame)
    for place, name in enumerate(order):
        if name in seen:
            continue
        before, after = set(order[:place]), set(order[place:])
        first_after = min((i for i, c in enumerate(cells) if _grade_id(c) in after), default=len(cells))
        at = max((i + 1 for i, c in enumerate(cells) if _grade_id(c) in before), default=first_after)
        cells.insert(at, nbformat.from_dict(dict(frame[name])))
        exercise = name.removesuffix("_check")
        remark = "its test was deleted and put back" if name != exercise else "its cell was deleted"
        prepared.remarks[exercise] = prepared.remarks.get(exercise) or remark
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number:03d}"
    prepared.notebook.cells = cells
    return prepared


def _grade_id(cell: Notebook) -> str | None:
    return cell.metadata.get("nbgrader", {}).get("grade_id")


def _in_frame(cell: Notebook, own: Notebook) -> Notebook:
    made = nbformat.from_dict(dict(own))
    if own.metadata["nbgrader"]["solution"]:
        made.source = cell.source
    return made


def _clean(cell: Notebook) -> Notebook:
    """A cell with its kind, its source and its grade id, and nothing else."""
    source = cell.get("source", "")
    source = printable("".join(source) if isinstance(source, list) else str(source))
    make = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    made = make.get(str(cell.get("cell_type")), nbformat.v4.new_raw_cell)(source)
    marks = (cell.get("metadata") or {}).get("nbgrader") or {}
    made.metadata = nbformat.from_dict({"grade_id": str(marks.get("grade_id", ""))})
    return made
