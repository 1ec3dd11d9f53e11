"""Gathers the pages of the site into one folder, laid out as the repository is, so that links work in both."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from .. import project
from ..by_profile import as_markdown, by_profile
from ..course.building import read_lessons
from ..course.projects import PROJECTS, project_page
from ..course.syllabus import syllabus_markdown
from ..errors import InputError
from ..files import read_json, write_text
from ..notebook_sources import FrontMatter, front_matter
from ..report_page import sections
from .docstrings import summary
from .lessons import is_current, was_executed, write_lesson

CONFIG = project.ROOT / "docs" / "site"
PREFERRED = ("cpu", "smoke")
"""Profiles whose reports come first when a notebook was executed in several; the others follow by name."""
BESIDE_PAGES = {".png", ".svg", ".jpg", ".json"}
"""Files below docs/ that its pages show or lead to: pictures, and answers of benchmarks."""
UNDOCUMENTED = ("commands", "site")


@dataclass(frozen=True)
class Laid:
    """What was gathered.

    Attributes:
        executed: for each notebook that is shown with outputs the report that they are from.
        outdated: those of them whose code has changed since; their pages say so.
        unexecuted: the other notebooks.
        wordless: cells whose pictures were left out, since nothing says what they show.
    """

    executed: dict[str, Path]
    outdated: tuple[str, ...]
    unexecuted: tuple[str, ...]
    wordless: tuple[str, ...]


def choose_reports(given: str = "", reports: Path = project.ROOT / "reports") -> list[Path]:
    """The folders that executed notebooks are taken from, the first that has one; `given` alone when it is given.

    Raises:
        InputError: `given` is no folder with executed notebooks.
    """
    if given:
        folder = Path(given).expanduser().absolute()
        if not _executed(folder):
            raise InputError(f"report {given!r} has no executed NN_slug/NN_slug.ipynb: run `python -m pgpt_lib run`")
        return [folder]
    others = sorted(path.name for path in reports.glob("*") if path.is_dir() and path.name not in PREFERRED)
    return [reports / name for name in (*PREFERRED, *others) if _executed(reports / name)]


def lay_out(source: Path, extra: Path, chosen: Sequence[Path]) -> Laid:
    """Write every page below `source`, and what is copied to the site as it is below `extra`.

    Args:
        source, extra: folders, new.
        chosen: folders of runs; a notebook that none of them executed is shown without outputs.
    """
    notebooks = {path.stem: path for path in sorted((project.ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
    _made(extra)
    _docs(source, {slug: front_matter(nbformat.read(path, as_version=4), slug) for slug, path in notebooks.items()})
    _course(source / "course")
    found = {folder: _executed(folder) for folder in chosen}
    shown: dict[str, Path] = {}
    outdated = []
    for slug, path in notebooks.items():
        ran = [folder for folder in found if slug in found[folder]]
        current = [folder for folder in ran if _is_current(found[folder][slug], path)]
        if ran:
            shown[slug] = (current or ran)[0]
        if ran and not current:
            outdated.append(slug)
    reports = {path.parent.name: path.parent for path in sorted((project.ROOT / "reports").glob("*/report.json"))}
    reports |= {folder.name: folder for folder in chosen if (folder / "report.json").exists()}
    wordless = []
    for slug, path in notebooks.items():
        folder = shown.get(slug)
        note = "Not executed here: no report has a run of this notebook. `make run` makes the outputs."
        if folder:
            note = _origin(folder, slug, f"../reports/{folder.name}/index.md", reports)
            if slug in outdated:
                note += f" **The notebook's code has changed since:** this is {_version(folder, slug)}."
        pages = {name: f"{name}.ipynb" for name in notebooks}
        target, lesson = source / "notebooks" / f"{slug}.ipynb", found[folder][slug] if folder else path
        cells = write_lesson(lesson, target, note, "../docs", pages, path)
        wordless += [f"{slug}: {cell}" for cell in cells]
    _reports(source / "reports", extra / "reports", reports, shown, list(notebooks))
    _api(source / "api")
    executed = {slug: shown[slug] for slug in notebooks if slug in shown}
    unexecuted = tuple(slug for slug in notebooks if slug not in shown)
    return Laid(executed, tuple(outdated), unexecuted, tuple(wordless))


def _executed(folder: Path) -> dict[str, Path]:
    found = (path for path in sorted(folder.glob("[0-9][0-9]_*/*.ipynb")) if path.stem == path.parent.name)
    return {path.stem: path for path in found if was_executed(path)}


def _is_current(executed: Path, current: Path) -> bool:
    return is_current(nbformat.read(executed, as_version=4), nbformat.read(current, as_version=4))


def _version(folder: Path, slug: str) -> str:
    commit = (read_json(folder / slug / "result.json") or {}).get("commit")
    return f"that of commit `{str(commit)[:10]}`" if commit else "an earlier version of it"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _origin(folder: Path, slug: str, page: str, reports: Mapping[str, Path]) -> str:
    result = read_json(folder / slug / "result.json") or {}
    how = f"in the profile `{result.get('profile', folder.name)}` with seed {result.get('seed', 0)}"
    name = f"[the report `{folder.name}`]({page})" if reports.get(folder.name) == folder else f"`{folder.name}`"
    return f"Executed {how}; the outputs are those of {name}."


def _docs(source: Path, series: Mapping[str, FrontMatter]) -> None:
    """The first page, and docs/ with what its pages show or lead to."""
    docs = project.ROOT / "docs"
    shutil.copy(CONFIG / "index.md", _made(source) / "index.md")
    files = [path for path in docs.rglob("*") if path.suffix in BESIDE_PAGES and CONFIG not in path.parents]
    for path in [*docs.glob("*.md"), *files]:
        target = source / "docs" / path.relative_to(docs)
        shutil.copy(path, _made(target.parent) / path.name)
    guide = source / "docs" / "which_notebook.md"
    write_text(guide, with_objectives(guide.read_text(encoding="utf-8"), series))


def _course(folder: Path) -> None:
    """The syllabus and the larger assignments, as `course build` writes them."""
    write_text(folder / "syllabus.md", syllabus_markdown(read_lessons()))
    for item in PROJECTS:
        write_text(folder / "projects" / f"{item.slug}.md", project_page(item))


def with_objectives(guide: str, series: Mapping[str, FrontMatter]) -> str:
    """The page `which notebook answers my question`, with the objectives of notebooks that it does not name yet."""
    rows = [
        f"| {goal} | [{slug[:2]} {facts.title}](../notebooks/{slug}.ipynb) |"
        for slug, facts in series.items()
        if f"/{slug}.ipynb" not in guide
        for goal in facts.objectives
    ]
    return "\n".join([guide, "| I want to | notebook |", "| --- | --- |", *rows, ""]) if rows else guide


def _reports(
    pages: Path, extra: Path, folders: Mapping[str, Path], shown: Mapping[str, Path], series: Sequence[str]
) -> None:
    """A page for each report, its figures copied along, its notebooks unless the series shows them; and a list."""
    for name, folder in folders.items():
        report = read_json(folder / "report.json")
        paths = (folder / slug / "result.json" for slug in report["seconds"])
        results: list[dict[str, Any]] = [result for path in paths if (result := read_json(path))]
        for result in results:
            for figure in result["figures"]:
                file = Path(result["slug"]) / figure["file"]
                if (folder / file).exists():  # otherwise the page's picture is found to lead nowhere
                    shutil.copy(folder / file, _made((extra / name / file).parent))
        own = {slug: path for slug, path in _executed(folder).items() if shown.get(slug) != folder}
        known = {slug: f"../../notebooks/{slug}.ipynb" for slug in series} | {slug: f"{slug}.ipynb" for slug in own}
        for slug, path in own.items():
            note = _origin(folder, slug, "index.md", folders)
            write_lesson(path, pages / name / f"{slug}.ipynb", note, "../../docs", known)
        body = "\n".join(sections(report, results))  # the hundreds of cells of sweeps are not taken along, nor linked
        for slug in known:
            body = body.replace(f'href="{slug}/{slug}.ipynb"', f'href="{known[slug].removesuffix(".ipynb")}.html"')
        hidden = "\n".join(["```{toctree}", ":hidden:", "", *own, "```"]) if own else ""
        text = f"# Profile {report['profile']}\n\n````{{raw}} html\n{body}\n````\n\n{hidden}\n"
        write_text(pages / name / "index.md", text)
    listed = "\n".join(f"{name}/index" for name in folders)
    toctree = f"```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```" if folders else "None yet: `make run` makes one."
    text = "Each run of the series leaves a report: ours beside the paper's numbers, on which data and which machine."
    meaning = "[Results](../docs/results.md) says what every key means."
    table = f"## By profile\n\n{as_markdown(by_profile())}"
    write_text(pages / "index.md", f"# Reports\n\n{text} {meaning}\n\n{toctree}\n\n{table}\n")


def _api(folder: Path) -> None:
    """A page for each module or package right below `pgpt_lib`; the docstrings are read when Sphinx runs."""
    package = project.ROOT / "pgpt_lib"
    modules = {path.stem: path for path in package.glob("[a-z]*.py")}
    modules |= {path.parent.name: path for path in package.glob("*/__init__.py")}
    rows, names = [], sorted(modules.keys() - set(UNDOCUMENTED))
    for name in names:
        text = _module(f"pgpt_lib.{name}", "=") + "".join(_module(m, "-") for m in _submodules(package / name))
        write_text(folder / f"{name}.rst", text)
        rows.append(f"   * - :doc:`{name}`\n     - {summary(modules[name])}")
    text = "What notebooks and commands call. The commands themselves: ``python -m pgpt_lib --help``."
    table = "\n".join([".. list-table::", "   :widths: 30 70", "", *rows])
    toctree = "\n".join([".. toctree::", "   :hidden:", "", *(f"   {name}" for name in names)])
    write_text(folder / "index.rst", f"The library\n===========\n\n{text}\n\n{table}\n\n{toctree}\n")


def _module(name: str, line: str) -> str:
    return f"{name}\n{line * len(name)}\n\n.. automodule:: {name}\n   :members:\n   :show-inheritance:\n\n"


def _submodules(package: Path) -> list[str]:
    paths = (path for path in sorted(package.rglob("*.py")) if path.name != "__init__.py" or path.parent != package)
    relative = (path.relative_to(project.ROOT).with_suffix("") for path in paths)
    return [".".join(path.parts).removesuffix(".__init__") for path in relative]
