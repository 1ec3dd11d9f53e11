"""One notebook as a page of the site."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import nbformat

from ..errors import InputError
from ..files import write_bytes, write_text
from ..notebook_sources import FENCE, front_matter

DOCS_LINK = re.compile(r"\]\((?:\.\./)+docs/")  # an executed copy lies deeper than its source
MARKDOWN = re.compile(r"([\\\[\]*_`<>])")


def write_lesson(notebook: Path, target: Path, note: str) -> None:
    """Write the page of a notebook, and its figures beside it.

    Args:
        notebook: an `.ipynb`, executed or not.
        target: the page, an `.ipynb` in the site's source.
        note: one line for the reader on where the outputs come from.
    """
    lesson = nbformat.read(notebook, as_version=4)
    _head(lesson.cells[0], notebook.stem, note)
    for cell in lesson.cells:
        if cell.cell_type == "markdown":
            cell.source = DOCS_LINK.sub("](../docs/", cell.source)
            continue
        if "nbgrader" in cell.metadata:  # solutions and their tests stay folded
            cell.metadata["tags"] = [*cell.metadata.get("tags", ()), "hide-input"]
        # `run.figure` always says what it shows; other pictures are half-drawn ones that a cell left open.
        cell.outputs = [output for output in cell.outputs if not _is_picture(output) or _words(output)]
        for number, output in enumerate(cell.outputs):
            _figure(output, target, f"{cell.get('id', lesson.cells.index(cell))}_{number}")
    write_text(target, nbformat.writes(lesson) + "\n")


def was_executed(notebook: Path) -> bool:
    """Whether a notebook holds any output."""
    return any(cell.get("outputs") for cell in nbformat.read(notebook, as_version=4).cells)


def _head(cell: Any, name: str, note: str) -> None:
    """The first cell: its YAML becomes a list for people, and the note on the outputs follows."""
    try:
        facts = front_matter(nbformat.v4.new_notebook(cells=[cell]), name)
    except InputError:  # a notebook of one's own need not follow the series' contract
        cell.source += f"\n\n:::{{note}}\n{note}\n:::\n"
        return
    minutes = ", ".join(f"{value:g} in `{profile}`" for profile, value in facts.minutes.items())
    goals = "\n".join(f"- {goal}" for goal in facts.objectives)
    text = (
        f":::{{note}}\n{note}\n:::\n\n**You will**\n\n{goals}\n\n"
        f"**Helpful before:** {'; '.join(facts.prerequisites)}.\n\n"
        f"**In the paper:** {facts.paper}.\n\n**Minutes:** {minutes}."
    )
    cell.source = FENCE.sub(lambda match: text, cell.source, count=1)


def _is_picture(output: Any) -> bool:
    return "image/png" in output.get("data", {})


def _words(output: Any) -> str:
    """What a picture shows, in words."""
    return str(output.get("metadata", {}).get("image/png", {}).get("alt", ""))


def _figure(output: Any, target: Path, name: str) -> None:
    """Turn a picture among the outputs into a file and Markdown, which unlike an output can say what it shows."""
    if not _is_picture(output):
        return
    file = target.with_suffix("") / f"{name}.png"
    write_bytes(file, base64.b64decode(output["data"]["image/png"]))
    shown = MARKDOWN.sub(r"\\\1", _words(output))
    output["data"] = nbformat.from_dict({"text/markdown": f"![{shown}]({target.stem}/{file.name})"})
    output["metadata"] = nbformat.from_dict({})
