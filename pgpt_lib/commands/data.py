"""`data`: write or fetch a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._output import JsonFlag, new_app, results

app = new_app(help="Write or fetch a data set.")


@app.callback()
def data() -> None:
    """Write or fetch a data set."""


@app.command()
def refshapes(
    root: Annotated[Path, typer.Option(help="Folder to write to.")],
    scenes: Annotated[int, typer.Option(help="Number of scenes, all splits together.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the scenes.")] = 0,
    level: Annotated[str, typer.Option(help="smoke, cpu or gpu.")] = "cpu",
    json: JsonFlag = False,
) -> None:
    """Write RefShapes in the layout of RefCOCO: pictures, instances, refs, captions, questions and world.json."""
    from ..data.refshapes.export import write_refshapes

    with results(json) as emit:
        emit(write_refshapes(root, scenes, seed, level))
