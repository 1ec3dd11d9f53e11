"""`python -m pgpt_lib compare`: two reports side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._output import JsonFlag, results


def compare(
    report_a: Annotated[Path, typer.Argument(help="The published report: a run's folder or its report.json.")],
    report_b: Annotated[Path, typer.Argument(help="The report to hold against it.")],
    json: JsonFlag = False,
) -> None:
    """Say which metrics differ, by how much, whether within the published intervals, and which settings differ."""
    from ..compare import compare_reports, describe

    with results(json) as emit:
        found = compare_reports(report_a, report_b)
        emit(found, describe(found))
