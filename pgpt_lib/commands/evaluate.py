"""`python -m pgpt_lib evaluate`: score a trained checkpoint on data of any seed."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ._output import JsonFlag, log, results


class Data(StrEnum):
    """RefShapes scenes, made as they are asked for; a folder in the REFER layout; captions, questions and the like."""

    refshapes = "refshapes"
    refer = "refer"
    benchmark = "benchmark"


def evaluate(
    checkpoint: Annotated[Path, typer.Option(help="A step_N, or a folder of them: then the last complete one.")],
    data: Annotated[Data, typer.Option(help="What to evaluate on.")] = Data.refshapes,
    dataset: Annotated[
        str, typer.Option(help="refcoco, refcoco+, refcocog; or a benchmark's, such as coco.")
    ] = "refcoco",
    split: Annotated[str, typer.Option(help="A split of the data set, such as val, testA or test.")] = "val",
    scenes: Annotated[int | None, typer.Option(help="How many images; by default as the profile says, or all.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the RefShapes scenes; none meets a training scene.")] = 0,
    tasks: Annotated[str | None, typer.Option(help="Some of the tasks, separated by commas; by default all.")] = None,
    root: Annotated[Path | None, typer.Option(help="The folder of --data refer and benchmark.")] = None,
    out: Annotated[Path | None, typer.Option(help="Save the predictions to this JSON file.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts answered together.")] = 64,
    json: JsonFlag = False,
) -> None:
    """Print the scores of a trained model, free-running, with 95 % intervals.

    Under `accelerate launch` or `torchrun` each process answers a share of the images.
    """
    with results(json) as emit:
        from ..evaluation.checkpoint import evaluate_checkpoint
        from ..processes import place

        chosen = [task.strip() for task in tasks.split(",") if task.strip()] if tasks else None
        found = evaluate_checkpoint(
            checkpoint, data.value, dataset, split, scenes, seed, chosen,
            root=root, out=out, batch_size=batch_size, on_progress=report_progress(),
        )  # fmt: skip
        if place()[0] == 0:  # of several processes one speaks
            emit(found)


def report_progress(every: int = 10):
    """A progress function that logs at each `every` percent."""
    told = -1

    def progress(done: int, total: int) -> None:
        nonlocal told
        percent = 100 * done // max(total, 1)
        if percent // every > told:
            told = percent // every
            log(f"evaluate: {done} of {total} answers")

    return progress
