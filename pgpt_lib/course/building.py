"""`course build`: a course folder for nbgrader, solution notebooks, and the syllabus."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat

from .. import notebook_sources, project
from ..errors import InputError, RunError
from ..files import write_text
from . import nbgrader_api
from .assignments import Lesson, hidden_lines, read_lesson, solution_version
from .projects import PROJECTS, project_page
from .syllabus import syllabus_html, syllabus_markdown

MARK = "course.made"  # says that a folder may be written over
OWN = ("source", "release", "solutions", "projects")
CONFIG = '''"""nbgrader's settings for this course; `nbgrader` and its formgrader read them in this folder."""

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "{course}"
c.CourseDirectory.solution_directory = "solutions"
c.Execute.timeout = {seconds}  # seconds a cell; nbgrader's own 30 are too few for a first import
c.ExecutePreprocessor.timeout = {seconds}
c.ClearSolutions.code_stub = {{"python": 'raise NotImplementedError("your turn")'}}
c.OverwriteCells.add_missing_cells = True
'''


def read_lessons(only: Sequence[str] = (), profile: str = "smoke") -> list[Lesson]:
    """The lessons with exercises, or some of them.

    Raises:
        InputError: a name in `only` that is no notebook with exercises.
    """
    lessons = {
        source.stem: source
        for source in notebook_sources.sources()
        if notebook_sources.MARKS["grade"][0] in source.read_text(encoding="utf-8")
    }
    for name in only:
        if name not in lessons:
            raise InputError(f"assignment {name!r} is unknown; there are {', '.join(lessons)}")
    return [read_lesson(source, profile) for name, source in lessons.items() if not only or name in only]


def build_course(
    out: Path, profile: str = "smoke", only: Sequence[str] = (), log: Callable[[str], None] = print
) -> dict[str, Any]:
    """Write the course folder; what is there of an earlier build is replaced, gradebook and submissions stay.

    Args:
        out: the folder.
        profile: what the assignments' parameters cells say.
        only: some of the assignments, by the notebooks' names; by default all.
        log: takes one line of progress.

    Returns:
        `assignments`, `exercises`, `points`, and the folder `out`.

    Raises:
        InputError: `out` is a file, or a folder that is not empty and no course; an unknown assignment or profile.
        RunError: nbgrader failed, or something of a solution is left in what students get.
    """
    from ..config import load_profile

    load_profile(profile)
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).exists():
        raise InputError(f"--out {out} is not empty and holds no course of ours; name another folder")
    lessons = read_lessons(only, profile)
    for name in OWN:
        shutil.rmtree(out / name, ignore_errors=True)
    write_text(out / MARK, f"{project.commit()}\n")
    settings = CONFIG.format(course=nbgrader_api.COURSE, seconds=nbgrader_api.CELL_SECONDS)
    write_text(out / "nbgrader_config.py", settings)
    for lesson in lessons:
        name = f"{lesson.slug}/{lesson.slug}.ipynb"
        write_text(out / "source" / name, nbformat.writes(lesson.graded) + "\n")
        write_text(out / "solutions" / name, nbformat.writes(solution_version(lesson.graded)) + "\n")
    _release(out, lessons, log)
    for item in PROJECTS:
        write_text(out / "projects" / f"{item.slug}.md", project_page(item))
    write_text(out / "syllabus.md", syllabus_markdown(lessons))
    write_text(out / "syllabus.html", syllabus_html(lessons))
    exercises = [exercise for lesson in lessons for exercise in lesson.exercises]
    return {
        "out": str(out),
        "assignments": [lesson.slug for lesson in lessons],
        "exercises": len(exercises),
        "points": sum(exercise.points for exercise in exercises),
    }


def _release(out: Path, lessons: Sequence[Lesson], log: Callable[[str], None]) -> None:
    """nbgrader's own step from source to release, and our look at what came out."""
    from traitlets.config import Config

    extra = Config()
    extra.ClearSolutions.code_stub = {"python": 'raise NotImplementedError("your turn")'}
    api = nbgrader_api.open_course(out.absolute(), extra)
    for number, lesson in enumerate(lessons, 1):
        log(f"assignment {number} of {len(lessons)}: {lesson.slug}")
        nbgrader_api.check(api.generate_assignment(lesson.slug, force=True), f"make the assignment {lesson.slug}")
        text = (out / "release" / lesson.slug / f"{lesson.slug}.ipynb").read_text(encoding="utf-8")
        left = leaks(lesson, text)
        if left:
            raise RunError(f"the assignment {lesson.slug} would show students {left[0]!r}")


def leaks(lesson: Lesson, released: str) -> list[str]:
    """Lines of solutions and hidden tests, and marks, that a released notebook (its JSON text) still holds.

    A line that the lesson itself shows elsewhere is no secret, nor is one too short to say anything.
    """
    secret = set(hidden_lines(lesson.graded))
    shown: set[str] = set()
    for cell in lesson.graded.cells:
        lines = [line.strip() for line in cell.source.splitlines()]
        kind = cell.metadata.get("nbgrader", {})
        if kind.get("solution"):
            inside = False
            for line in lines:
                inside = inside or line == notebook_sources.MARKS["solution"][0]
                (secret if inside else shown).add(line)
                inside = inside and line != notebook_sources.MARKS["solution"][1]
        elif not kind:
            shown |= set(lines)
    secret = {line for line in secret - shown if len(line) > 12 and not line.startswith("#")}
    marks = [mark for pair in notebook_sources.MARKS.values() for mark in pair]
    return [line for line in (*sorted(secret), *marks) if _as_json(line) in released]


def _as_json(line: str) -> str:
    import json

    return json.dumps(line, ensure_ascii=False)[1:-1]
