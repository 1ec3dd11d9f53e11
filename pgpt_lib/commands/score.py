"""`python -m pgpt_lib score`: score a file of predictions from annotations alone."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ._output import JsonFlag, results


class Data(StrEnum):
    """Whose annotations: real ones, or those that `data refshapes` writes. Both have the REFER layout."""

    refer = "refer"
    refshapes = "refshapes"


def score(
    predictions: Annotated[Path, typer.Option(help="JSON list of predictions; see docs/results.md.")],
    data: Annotated[Data, typer.Option(help="Both are read in the REFER layout.")],
    root: Annotated[Path, typer.Option(help="The folder that holds the data set's folder.")],
    dataset: Annotated[str, typer.Option(help="refcoco, refcoco+ or refcocog.")],
    split: Annotated[str, typer.Option(help="A split of the data set, such as val, testA or test.")],
    json: JsonFlag = False,
) -> None:
    """Print the scores of a file of predictions; no model and no picture is read."""
    from ..scoring import score_file

    with results(json) as emit:
        emit(score_file(predictions, root, dataset, split))
