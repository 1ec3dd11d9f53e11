"""The class's grades in one nbgrader gradebook, so that its formgrader and exports show them."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import nbgrader_api
from .submissions import Submission


def gather(course: Path, work: Path, results: Sequence[tuple[Submission, dict[str, Any]]]) -> None:
    """Write points into a built course's gradebook, and put executed notebooks where nbgrader looks for them.

    Points that a person gave in the formgrader stay beside them.

    Args:
        course: the built course; assignments that it lacks are left out.
        work: where the submissions were graded.
        results: of every submission.
    """
    nbgrader_api.open_course(course)  # finds nbgrader, or says that it is missing
    from nbgrader.api import Gradebook, MissingEntry

    url = f"sqlite:///{course / 'gradebook.db'}"
    with warnings.catch_warnings(), Gradebook(url, nbgrader_api.COURSE) as book:
        warnings.filterwarnings("ignore", "Object of type")  # SQLAlchemy about nbgrader's order of adding
        for submission, result in results:
            name, student = submission.assignment, submission.student
            try:
                book.find_assignment(name)
            except MissingEntry:
                continue
            book.update_or_create_student(student)
            book.update_or_create_submission(name, student)
            points = {f"{row['name']}_check": row["points"] for row in result["exercises"]}
            for grade in book.find_submission_notebook(name, name, student).grades:
                grade.auto_score, grade.needs_manual_grade = points.get(grade.name, 0.0), False
            book.db.commit()
            executed = work / student / name / "autograded" / nbgrader_api.STUDENT / name / f"{name}.ipynb"
            if executed.is_file():
                target = course / "autograded" / student / name / executed.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(executed, target)
