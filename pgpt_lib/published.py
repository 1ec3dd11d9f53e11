"""The committed report of a profile, and a rerun held against it.

A run in `reports/PROFILE` writes over the report on disk, so what was published is read from the last commit. Where
there is no repository, as in a source archive, the folder counts, unless it is the run's own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import project
from .compare import NAMED, compare_reports, read_report
from .errors import InputError
from .files import write_text


def against_published(profile: str, out: Path) -> dict[str, Any] | None:
    """A finished run beside the published report of its profile.

    Args:
        profile: its name.
        out: the run's folder, or its `report.json`.

    Returns:
        What `compare.compare_reports` does, the published report first; None where none is published.
    """
    folder = Path("reports") / profile
    committed = project.committed_files(folder)
    if committed is None:
        there = project.ROOT / folder
        own = out if out.is_dir() else out.parent
        known = (there / "report.json").is_file() and there.resolve() != own.resolve()
        return compare_reports(there, out) if known else None
    if folder / "report.json" not in committed:
        return None
    results = sorted(path for path in committed if path.match("[0-9][0-9]_*/result.json"))
    with tempfile.TemporaryDirectory() as copied:
        for path in (folder / "report.json", *results[-1:]):  # the last result holds the settings
            copy = Path(copied) / path.relative_to(folder)
            copy.parent.mkdir(exist_ok=True)
            write_text(copy, project.committed_text(path))
        return compare_reports(Path(copied), out)


def its_published(report: Path) -> dict[str, Any]:
    """A report beside the published one of its profile.

    Args:
        report: a run's folder, or its `report.json`.

    Returns:
        What `compare.compare_reports` does, the published report first.

    Raises:
        InputError: no report there, or none published of its profile.
    """
    profile = read_report(report).get("profile")
    found = against_published(str(profile), report)
    if found is None:
        raise InputError(f"no report of profile {profile!r} is published: name the one to hold {str(report)!r} against")
    return found


def in_words(found: Mapping[str, Any], out: Path) -> str:
    """The comparison's sentence, and the first of the metrics outside the published interval, by name.

    Args:
        found: of `against_published`.
        out: the run's folder.
    """
    outside = [row["name"] for row in found["metrics"] if row["within"] is False]
    left = len(outside) - NAMED
    more = f", and {left} more (`python -m pgpt_lib compare {out}` lists all)" if left > 0 else ""
    return found["summary"] + (f" Outside: {', '.join(outside[:NAMED])}{more}." if outside else "")
