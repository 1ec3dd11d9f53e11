"""`python -m pgpt_lib run`: the notebook series of a profile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._output import JsonFlag, log, results


def run(
    profile: Annotated[str, typer.Option(help="Name of a profile.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="Folder of the run; reports/PROFILE when left out.")] = None,
    root: Annotated[str, typer.Option(help="Folder of a REFER layout, for profiles that read photographs.")] = "",
    parameter: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", help="name=value for notebooks that declare the name.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this notebook (may be repeated).")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Discard what an earlier run left.")] = False,
    timeout: Annotated[float | None, typer.Option(help="Minutes that one notebook may take.", min=0.01)] = None,
    list_parameters: Annotated[bool, typer.Option("--list-parameters", help="Print them and stop.")] = False,
    json: JsonFlag = False,
) -> None:
    """Execute the notebooks of a profile, or go on with an earlier run, and gather the report."""
    from ..config import load_profile
    from ..errors import RunError
    from ..notebook_parameters import parse_assignments
    from ..project import versions
    from ..published import against_published, in_words
    from ..report import write_report
    from ..reproduce import list_parameters as listed
    from ..reproduce import run_series
    from ..requirements import problems

    with results(json) as emit:
        if list_parameters:
            known = listed(load_profile(profile))
            lines = [f"{slug}\n" + "\n".join(f"  {p}" for p in parameters) for slug, parameters in known.items()]
            emit({slug: {p.name: str(p) for p in ps} for slug, ps in known.items()}, "\n".join(lines))
            return
        wrong = problems()
        if wrong:
            raise RunError("; ".join(wrong))
        summary = run_series(
            profile,
            out or "",
            parse_assignments(parameter or ()),
            root=root,
            fresh=fresh,
            only=only or (),
            timeout_minutes=timeout,
            log=log,
        )
        page = write_report(summary.out)
        found = against_published(profile, summary.out)
        none = f"No report of profile {profile} is published to compare this one with."
        words = in_words(found, summary.out) if found else none
        data = {
            "profile": profile,
            "out": summary.out,
            "index": page,
            "report": summary.out / "report.json",
            "seconds": summary.seconds,
            "executed": summary.executed,
            "versions": versions(),
            "published": {key: found[key] for key in ("summary", "within", "compared")} if found else None,
        }
        emit(data, f"{words}\n{page}")
