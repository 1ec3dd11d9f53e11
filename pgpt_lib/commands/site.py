"""`python -m pgpt_lib site`: the series, results, course and API as pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._output import JsonFlag, log, results


def site(
    report: Annotated[str, typer.Option(help="Run whose notebooks are shown; default: reports/cpu, then others.")] = "",
    out: Annotated[Path, typer.Option(help="Folder of the site.")] = Path("build/site"),
    json: JsonFlag = False,
) -> None:
    """Build the site, offline, and check its links and alternative texts."""
    from ..site.build import build

    with results(json) as emit:
        log("building the site: a minute or so")
        laid, found = build(out, report)
        page = out / "index.html"
        for cell in laid.wordless:
            log(f"a picture without a description is left out: {cell}")
        for slug in laid.outdated:
            log(f"{slug}: its code has changed since it was executed, and its page says so")
        for address in sorted(found.external):
            log(f"not checked: {address}")
        emit(
            {
                "page": page,
                "executed": laid.executed,
                "outdated": laid.outdated,
                "unexecuted": laid.unexecuted,
                "pages": found.pages,
                "figures": found.figures,
                "links": found.links,
                "external": sorted(found.external),
            },
            str(page),
        )
