"""`python -m pgpt_lib score`: score a file of predictions from annotations alone."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ._output import JsonFlag, results


class Data(StrEnum):
    """What is scored: regions in the REFER layout, real or as `data refshapes` writes them; captions; answers."""

    refer = "refer"
    refshapes = "refshapes"
    captions = "captions"
    vqa = "vqa"


def score(
    predictions: Annotated[Path, typer.Option(help="JSON list of predictions; see docs/results.md.")],
    data: Annotated[Data, typer.Option(help="Regions in the REFER layout (the first two), captions, or answers.")],
    root: Annotated[Path, typer.Option(help="The folder that holds the data set's folder.")],
    dataset: Annotated[
        str, typer.Option(help="refcoco, refcoco+, refcocog; coco, flickr30k (captions); vqav2, okvqa (vqa).")
    ],
    split: Annotated[str, typer.Option(help="A split of the data set, such as val, testA or test.")],
    json: JsonFlag = False,
) -> None:
    """Print the scores of a file of predictions; no model and no picture is read."""
    with results(json) as emit:
        if data in (Data.captions, Data.vqa):
            from ..word_scoring import score_answers, score_captions

            score_words = score_captions if data == Data.captions else score_answers
            emit(score_words(predictions, root, dataset, split))
        else:
            from ..scoring import score_file

            emit(score_file(predictions, root, dataset, split))
