"""Gathers the pages of the site into one folder, laid out as the repository is, so that links work in both."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import project
from ..errors import InputError
from ..files import read_json, write_text
from ..report_page import sections
from .lessons import was_executed, write_lesson

CONFIG = project.ROOT / "docs" / "site"
PREFERRED = ("cpu", "smoke")
"""Profiles whose reports the notebooks are taken from unless a report is named, the first that is there."""
UNDOCUMENTED = ("__init__", "__main__", "commands", "site")


@dataclass(frozen=True)
class Laid:
    """What was gathered: the report that notebooks came from (None: none), and which of them were executed."""

    report: Path | None
    executed: tuple[str, ...]
    unexecuted: tuple[str, ...]


def choose_report(given: str = "", reports: Path = project.ROOT / "reports") -> Path | None:
    """The folder that executed notebooks are taken from; None when there is none.

    Raises:
        InputError: `given` is no folder with executed notebooks.
    """
    if given:
        folder = Path(given).expanduser().absolute()
        if not _executed(folder):
            raise InputError(f"report {given!r} has no executed NN_slug/NN_slug.ipynb: run `python -m pgpt_lib run`")
        return folder
    return next((reports / name for name in PREFERRED if _executed(reports / name)), None)


def lay_out(source: Path, extra: Path, report: Path | None) -> Laid:
    """Write every page below `source`, and what is copied to the site as it is below `extra`.

    Args:
        source, extra: folders, new.
        report: a run's folder, or None for notebooks without outputs.
    """
    shutil.copy(CONFIG / "index.md", _made(source) / "index.md")
    for page in sorted((project.ROOT / "docs").glob("*.md")):
        shutil.copy(page, _made(source / "docs") / page.name)
    laid = _lessons(source / "notebooks", report)
    folders = {path.parent for path in (project.ROOT / "reports").glob("*/report.json")}
    if report is not None and (report / "report.json").exists():
        folders.add(report)
    _reports(source / "reports", extra / "reports", sorted(folders))
    _api(source / "api")
    return laid


def _executed(folder: Path) -> dict[str, Path]:
    found = (path for path in sorted(folder.glob("[0-9][0-9]_*/*.ipynb")) if path.stem == path.parent.name)
    return {path.stem: path for path in found if was_executed(path)}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _lessons(folder: Path, report: Path | None) -> Laid:
    executed = _executed(report) if report else {}
    sources = {path.stem: path for path in sorted((project.ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
    for slug, path in sources.items():
        if report and slug in executed:
            result = read_json(report / slug / "result.json") or {}
            how = f"in the profile `{result.get('profile', report.name)}` with seed {result.get('seed', 0)}"
            note = f"Executed {how}; the outputs are those of the report `{report.name}`."
        else:
            why = f"the report `{report.name}` has no run of this notebook" if report else "there is no report of a run"
            note = f"Not executed: {why}. `make run` makes the outputs."
        write_lesson(executed.get(slug, path), folder / f"{slug}.ipynb", note)
    return Laid(report, tuple(s for s in sources if s in executed), tuple(s for s in sources if s not in executed))


def _reports(pages: Path, extra: Path, folders: list[Path]) -> None:
    """A page for each report, its figures and notebooks copied along, and a page that lists them."""
    names = []
    for folder in folders:
        report = read_json(folder / "report.json")
        paths = (folder / slug / "result.json" for slug in report["seconds"])
        results: list[dict[str, Any]] = [result for path in paths if (result := read_json(path))]
        for result in results:
            slug = result["slug"]
            for file in [f"{slug}.ipynb", *(figure["file"] for figure in result["figures"])]:
                shutil.copy(folder / slug / file, _made(extra / folder.name / slug) / file)
        body = "\n".join(sections(report, results))
        write_text(
            pages / folder.name / "index.md",
            f"# Profile {report['profile']}\n\n````{{raw}} html\n{body}\n````\n",
        )
        names.append(f"{folder.name}/index")
    listed = "\n".join(names)
    toctree = f"```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```" if names else "There is none yet: `make run` makes one."
    text = "Each run of the series leaves a report: ours beside the paper's numbers, on which data and which machine."
    meaning = "[Results](../docs/results.md) says what every key means."
    write_text(pages / "index.md", f"# Reports\n\n{text} {meaning}\n\n{toctree}\n")


def _api(folder: Path) -> None:
    """A page for each module or package right below `pgpt_lib`; the docstrings are read when Sphinx runs."""
    package = project.ROOT / "pgpt_lib"
    entries = [path for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    names = sorted(path.stem for path in entries if path.stem not in UNDOCUMENTED)
    for name in names:
        modules = [f"pgpt_lib.{name}", *_submodules(package / name)]
        blocks = (f"{m}\n{'=' * len(m)}\n\n.. automodule:: {m}\n   :members:\n   :show-inheritance:\n" for m in modules)
        write_text(folder / f"{name}.rst", "\n".join(blocks))
    listed = "\n".join(f"   {name}" for name in names)
    text = "What notebooks and commands call. The commands themselves: ``python -m pgpt_lib --help``."
    write_text(
        folder / "index.rst", f"The library\n===========\n\n{text}\n\n.. toctree::\n   :maxdepth: 1\n\n{listed}\n"
    )


def _submodules(package: Path) -> list[str]:
    paths = (path for path in sorted(package.rglob("*.py")) if path.name != "__init__.py" or path.parent != package)
    relative = (path.relative_to(project.ROOT).with_suffix("") for path in paths)
    return [".".join(path.parts).removesuffix(".__init__") for path in relative]
