"""`python -m pgpt_lib report`: gather a run's results again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._output import JsonFlag, results


def report(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("reports/cpu"),
    json: JsonFlag = False,
) -> None:
    """Gather every NN_slug/result.json of a folder into report.json, index.html and report.md."""
    from ..files import read_json
    from ..report import write_report

    with results(json) as emit:
        page = write_report(out)
        emit(read_json(out / "report.json"), str(page))
