"""What each profile reached, side by side: a column a profile, "not run" where it has no report.

    python -m pgpt_lib.by_profile [--check]     # writes the table in docs/results.md, or says whether it is right

Every number comes from a `report.json`, those of that page from reports under version control. `smoke` has a column on
the page of its own report alone: its scores mean nothing.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from . import project
from .config import load_profile, profile_names
from .files import read_json, write_text

PAGE = project.ROOT / "docs" / "results.md"
COLUMNS = ("cpu", "photos", "gpu", "gpu-refcoco", "paper-7b", "paper-7b-code", "paper-13b")
MAIN = ("refshapes-refcoco/val", "photos/unseen", "tuned-refcoco/val", "refcoco/val")  # the first that a report has
NOT_RUN = "not run"
ROWS = {
    "models": "language model, vision tower",
    "split": "scored on",
    "n": "sentences",
    "acc@0.5": "Acc@0.5",
    "ciou": "cIoU",
    "emission_rate": "emission",
    "minutes": "minutes, all notebooks",
    "peak_memory_gb": "peak memory of a card, GB",
    "mfu": "MFU",
    "machine": "machine",
}
MARKS = "<!-- made by python -m pgpt_lib.by_profile -->", "<!-- end -->"


def by_profile(own: Mapping[str, Any] | None = None, reports: Path | None = None) -> dict[str, dict[str, Any] | None]:
    """Each profile's figures, by the keys of `ROWS`; None for a profile that has no report.

    Args:
        own: a report in place of the one of its profile, as it is being gathered.
        reports: a folder with a folder for each profile; by default the project's.
    """
    folder = reports or project.ROOT / "reports"
    found: dict[str, Any] = {name: read_json(folder / name / "report.json") for name in COLUMNS}
    if own is not None:
        found[own["profile"]] = dict(own)
    return {name: figures(report) if report else None for name, report in found.items()}


def published() -> dict[str, dict[str, Any] | None]:
    """As `by_profile`, of the reports under version control: a run that wrote over one on disk is not meant."""
    texts = {name: project.staged_text(Path("reports", name, "report.json")) for name in COLUMNS}
    return {name: figures(json.loads(text)) if text else None for name, text in texts.items()}


def figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report's headline: its main split's scores, its time, what its training took of a card, its machine."""
    metrics = report["metrics"]
    split = next((name for name in MAIN if name in metrics), None)
    scores = metrics[split] if split else {}
    training = metrics.get("05_training", {}).get("training", {})
    return {
        "split": split,
        **{key: scores.get(key) for key in ("n", "acc@0.5", "ciou", "emission_rate")},
        "minutes": sum(report["seconds"].values()) / 60,
        **{key: training.get(key) for key in ("peak_memory_gb", "mfu")},
        "machine": project.describe(report["machine"]),
    }


def models(profile: str) -> str:
    """A profile's two backbones."""
    settings = load_profile(profile)
    return f"{settings.llm.name}, {settings.vision.name}"


def rows(found: Mapping[str, Mapping[str, Any] | None]) -> Iterable[tuple[str, list[Any]]]:
    """The table by line: a title, and a value for each profile, `NOT_RUN` for one without a report."""
    for key, title in ROWS.items():
        if key == "models":
            yield title, [models(name) if name in profile_names() else None for name in found]
        else:
            yield title, [NOT_RUN if column is None else column.get(key) for column in found.values()]


def as_markdown(found: Mapping[str, Mapping[str, Any] | None]) -> str:
    """The table for a page of the documentation."""
    head = [["", *(f"`{name}`" for name in found)], ["---"] * (len(found) + 1)]
    body = [[title, *map(_plain, values)] for title, values in rows(found)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [*head, *body])


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"
    return "–" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def with_table(page: str, table: str) -> str:
    """A page with the table between its marks."""
    begin, end = map(re.escape, MARKS)
    made, number = re.subn(f"({begin}\n).*?({end})", lambda m: f"{m[1]}\n{table}\n\n{m[2]}", page, flags=re.S)
    if number != 1:
        raise ValueError(f"{PAGE} has {number} places for the table; there must be one between {' and '.join(MARKS)}")
    return made


def main(arguments: list[str]) -> int:
    """Write the table, or with `--check` say whether it is as it should be."""
    if arguments not in ([], ["--check"]):
        print(f"unknown arguments {arguments}; there is --check", file=sys.stderr)
        return 2
    page = PAGE.read_text(encoding="utf-8")
    wanted = with_table(page, as_markdown(published()))
    if not arguments:
        write_text(PAGE, wanted)
    elif page != wanted:
        print(f"{PAGE} differs from reports/: run `make results`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
