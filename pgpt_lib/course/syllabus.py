"""The syllabus: what each assignment teaches, needs, takes and is worth."""

from __future__ import annotations

import html
from collections.abc import Sequence

from .assignments import Lesson
from .projects import PROJECTS

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse }} th, td {{ border-bottom: 1px solid #ccc; padding: .2rem .8rem .2rem 0;
text-align: left }}</style></head>
<body>
{body}
</body></html>
"""
TITLE = "Syllabus"


def syllabus_markdown(lessons: Sequence[Lesson]) -> str:
    """The syllabus as Markdown: a table of all assignments, then each with its objectives and exercises."""
    points = sum(exercise.points for lesson in lessons for exercise in lesson.exercises)
    count = sum(len(lesson.exercises) for lesson in lessons)
    lines = [f"# {TITLE}", "", f"{len(lessons)} assignments with {count} exercises, {points:g} points together.", ""]
    lines += ["| assignment | exercises | minutes | points |", "| --- | --- | --- | --- |"]
    for lesson in lessons:
        own = lesson.exercises
        minutes, worth = sum(e.minutes for e in own), sum(e.points for e in own)
        lines.append(f"| {lesson.slug[:2]} · {lesson.front.title} | {len(own)} | {minutes} | {worth:g} |")
    lines += [f"| project: {item.title} | | {item.hours} hours | {item.points} |" for item in PROJECTS]
    longest = max((e.minutes for lesson in lessons for e in lesson.exercises), default=0)
    lines += ["", "Minutes are those of the exercises; reading and running a lesson comes on top."]
    lines += [f"No exercise takes more than {longest} minutes: the projects are the long ones."]
    for lesson in lessons:
        lines += ["", *_section(lesson)]
    return "\n".join(lines) + "\n"


def syllabus_html(lessons: Sequence[Lesson]) -> str:
    """The same as a page."""
    from nbconvert.filters import markdown2html

    return PAGE.format(title=html.escape(TITLE), body=markdown2html(syllabus_markdown(lessons)))


def _section(lesson: Lesson) -> list[str]:
    front = lesson.front
    run = ", ".join(f"{name} {minutes:g}" for name, minutes in front.minutes.items())
    return [
        f"## {lesson.slug[:2]} · {front.title}",
        "",
        "Objectives:",
        "",
        *(f"- {objective}" for objective in front.objectives),
        "",
        f"Prerequisites: {'; '.join(front.prerequisites)}. Paper: {front.paper}. Minutes to run, by profile: {run}.",
        "",
        "| exercise | difficulty | minutes | points |",
        "| --- | --- | --- | --- |",
        *(f"| {e.title} (`{e.name}`) | {e.stars} | {e.minutes} | {e.points:g} |" for e in lesson.exercises),
    ]
