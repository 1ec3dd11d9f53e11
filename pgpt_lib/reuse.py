"""Whether a notebook's earlier result may be kept: everything that it depends on, as digests.

They stand in `OUT/NN_slug/run.json` beside the result, so that a run can say which of them changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from . import project
from .config import Profile
from .files import digest, digest_all, plain, read_json

PRESENTATION = ("cli.py", "__main__.py", "by_profile.py", "report.py", "report_page.py", "commands/")
"""Parts of the library that no result depends on."""


def common_inputs(profile: Profile) -> dict[str, str]:
    """What every notebook's result depends on, each part as a digest."""
    package, data = Path(__file__).parent, project.ROOT / "data"
    code = [p for p in package.rglob("*.py") if not p.relative_to(package).as_posix().startswith(PRESENTATION)]
    bundled = [p for p in data.rglob("*") if p.is_file() and not p.name.startswith(".")]
    return {
        "profile": profile.digest(),
        "library": digest_all(code, package),
        "data": digest_all(bundled, data),
        "versions": _hash(project.versions()),
        "root": _listing(profile.data.root),
    }


def notebook_inputs(source: Path, parameters: Mapping[str, Any]) -> dict[str, str]:
    """What one notebook's result depends on beside `common_inputs`. The run's folder does not count."""
    cells = [(c.cell_type, c.source) for c in nbformat.read(source, as_version=4).cells]
    given = {name: value for name, value in parameters.items() if name != "out_dir"}
    return {"notebook": _hash(cells), "parameters": _hash(given)}


def sweep_inputs(source: Path, out: Path) -> dict[str, str]:
    """What a notebook can read of sweeps, in the run's folder and among our reports; empty for one that reads none.

    Cells that are trained later then lead to a notebook that shows them.
    """
    if "open_sweep(" not in source.read_text(encoding="utf-8"):
        return {}
    homes = [out, *sorted(path for path in project.report_folder("").glob("*") if path.is_dir())]
    return {"sweeps": _hash([digest_all((home / "sweeps").glob("*/*.json"), home) for home in homes])}


def outdated(out: Path, slug: str, inputs: Mapping[str, str]) -> str:
    """Why a notebook must be executed, or an empty string when its result may be kept."""
    folder = out / slug
    record, result = read_json(folder / "run.json"), folder / "result.json"
    if not record:
        return "not done before"
    changed = [name for name, value in inputs.items() if record["inputs"].get(name) != value]
    if changed:
        return f"changed: {', '.join(changed)}"
    if not record["finished"] or not result.exists() or digest(result) != record["result"]:
        return "not finished before"
    for need, seen in record["needs"].items():
        path = out / need / "result.json"
        if not path.exists() or digest(path) != seen:
            return f"{need} has a new result"
    return ""


def _listing(root: str | None) -> str:
    """A digest over names, sizes and times of a data folder's annotation files."""
    if not root:
        return ""
    files = [p for kind in ("*.json", "*.p") for p in Path(root).rglob(kind)]
    return _hash(sorted((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files))


def _hash(value: Any) -> str:
    return hashlib.sha256(repr(plain(value)).encode()).hexdigest()[:16]
