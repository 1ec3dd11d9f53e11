"""`python -m pgpt_lib finetune`: a trained model trained further on tasks or data sets of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from ._output import JsonFlag, results
from .train import only_training


def finetune(
    checkpoint: Annotated[Path, typer.Option(help="A step_N, or a folder of them: then the last complete one.")],
    out: Annotated[Path, typer.Option(help="The new run's folder; a fine-tune that was stopped goes on.")],
    on: Annotated[str, typer.Option(help="Tasks, or sources of a mixture, with their shares: refcoco=2,llava=1.")],
    steps: Annotated[int, typer.Option(min=1, help="Length of the schedule.")],
    seed: Annotated[int, typer.Option(min=0, help="Of data and dropout.")] = 0,
    lr: Annotated[float | None, typer.Option(help="Peak rate; by default a third of the checkpoint's.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the data, if it is another one now.")] = None,
    json: JsonFlag = False,
) -> None:
    """Train a checkpoint's model further; the checkpoint stays as it is."""
    shares = parse_shares(on)
    with results(json) as emit, only_training(out):
        from ..finetuning import fine_tune
        from ..interrupts import follow_if_asked
        from ..processes import place

        follow_if_asked()
        result = fine_tune(checkpoint, out, shares, steps, seed, lr, root=root)
        if place()[0] == 0:  # of several processes one speaks
            emit(vars(result), f"{result.checkpoint}: {result.steps} steps in {result.seconds:.0f} s")


def parse_shares(text: str) -> dict[str, float]:
    """`refcoco=2,llava` as names and shares; a name alone has the share 1.

    Raises:
        InputError: no name, a name given twice, or a share that is no number above 0.
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, given, value = (piece.strip() for piece in part.partition("="))
        try:
            share = float(value) if given else 1.0
        except ValueError:
            share = 0.0
        if not name or name in shares or not 0 < share < float("inf"):
            raise InputError(f"--on {text!r}: {part.strip()!r} is no name=share with a share above 0, each name once")
        shares[name] = share
    return shares
