"""`python -m pgpt_lib compare`: two reports side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._output import JsonFlag, results


def compare(
    report_a: Annotated[
        Path,
        typer.Argument(help="The published report: a run's folder or its report.json. Alone: a report of one's own."),
    ],
    report_b: Annotated[
        Path | None,
        typer.Argument(help="The report to hold against it; left out, REPORT_A is held against its profile's."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Say which metrics differ, by how much, whether within the published intervals, and which settings differ."""
    from ..compare import compare_reports, describe
    from ..published import its_published

    with results(json) as emit:
        found = compare_reports(report_a, report_b) if report_b else its_published(report_a)
        emit(found, describe(found))
