"""One notebook as a page of the site."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from ..errors import InputError
from ..files import write_bytes, write_text
from ..notebook_sources import FENCE, front_matter

DOCS_LINK = re.compile(r"\]\((?:\.\./)+docs/")  # an executed copy lies deeper than its source
LESSON_LINK = re.compile(r"\]\((?:[\w.-]+/)*(\d\d_\w+)\.ipynb")
MENTION = re.compile(r"\b([Nn]otebook\s)(\d\d)\b")
NO_PROSE = re.compile(r"(```.*?```|<details>.*?</details>|`[^`\n]*`|\[[^\]]*\]\([^)]*\)|^#[^\n]*$)", re.S | re.M)
MARKDOWN = re.compile(r"([\\\[\]*_`<>])")
INJECTED = "injected-parameters"  # papermill's tag of the cell that holds what a run was given


def write_lesson(
    notebook: Path, target: Path, note: str, docs: str, series: Mapping[str, str], current: Path | None = None
) -> list[str]:
    """Write the page of a notebook, and its figures beside it.

    Args:
        notebook: an `.ipynb`, executed or not.
        target: the page, an `.ipynb` in the site's source.
        note: one line of Markdown for the reader on where the outputs come from.
        docs: the folder of docs/ as seen from the page.
        series: for each notebook of the series its page, as seen from this one.
        current: the notebook as it is now; its prose is shown where its code is what was executed.

    Returns:
        the cells, by their first line, whose pictures were left out since nothing says what they show.
    """
    lesson = nbformat.read(notebook, as_version=4)
    if current is not None and is_current(lesson, newest := nbformat.read(current, as_version=4)):
        lesson = _with_outputs(newest, lesson)
    _head(lesson.cells[0], notebook.stem, note)
    wordless = []
    for number, cell in enumerate(lesson.cells):
        if cell.cell_type == "markdown":
            cell.source = _linked(cell.source, docs, {k: v for k, v in series.items() if k != notebook.stem})
            continue
        _fold(cell)
        # `run.figure` always says what it shows; other pictures are half-drawn ones that a cell left open.
        described = [output for output in cell.outputs if not _is_picture(output) or _words(output)]
        if len(described) < len(cell.outputs):
            wordless.append(cell.source.strip().partition("\n")[0])
        cell.outputs = described
        for count, output in enumerate(described):
            _figure(output, target, f"{cell.get('id', number)}_{count}")
    write_text(target, nbformat.writes(lesson) + "\n")
    return wordless


def was_executed(notebook: Path) -> bool:
    """Whether a notebook holds any output."""
    return any(cell.get("outputs") for cell in nbformat.read(notebook, as_version=4).cells)


def is_current(executed: Any, current: Any) -> bool:
    """Whether the code that was executed is that of the notebook as it is now; prose may have changed."""
    return [cell.source for cell in _code(executed)] == [cell.source for cell in _code(current)]


def _code(notebook: Any) -> list[Any]:
    """The code cells that are a notebook's own."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell for cell in code if INJECTED not in cell.metadata.get("tags", ())]


def _with_outputs(current: Any, executed: Any) -> Any:
    """The current notebook with the outputs of a run of the same code, and the parameters that the run was given."""
    for cell, ran in zip(_code(current), _code(executed), strict=True):
        cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
    given = [cell for cell in executed.cells if INJECTED in cell.metadata.get("tags", ())]
    after = [i for i, cell in enumerate(current.cells) if "parameters" in cell.metadata.get("tags", ())]
    for place in after[:1]:
        current.cells[place + 1 : place + 1] = given
    return current


def _linked(text: str, docs: str, series: Mapping[str, str]) -> str:
    """Links to docs/ and to other notebooks from where the page lies, and a link wherever prose names a notebook."""
    text = DOCS_LINK.sub(f"]({docs}/", text)
    text = LESSON_LINK.sub(lambda match: f"]({series[match[1]]}" if match[1] in series else match[0], text)
    pages = {slug[:2]: page for slug, page in series.items()}
    parts = NO_PROSE.split(text)
    for number in range(0, len(parts), 2):
        parts[number] = MENTION.sub(
            lambda match: f"[{match[0]}]({pages[match[2]]})" if match[2] in pages else match[0], parts[number]
        )
    return "".join(parts)


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


def _fold(cell: Any) -> None:
    """Fold solutions, their tests and papermill's parameters, and leave out the `False` of an exercise not begun."""
    tags, marks = list(cell.metadata.get("tags", ())), cell.metadata.get("nbgrader", {})
    what = "a solution" if marks.get("solution") else "its test" if marks.get("grade") else ""
    if what := what or ("this run's parameters" if INJECTED in tags else ""):
        cell.metadata["tags"] = [*tags, "hide-input"]
        prompts = {"code_prompt_show": f"Show {what}", "code_prompt_hide": f"Hide {what}"}
        cell.metadata["mystnb"] = nbformat.from_dict(prompts)
    if "attempt" in tags:
        cell.outputs = [output for output in cell.outputs if output.output_type != "execute_result"]


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
