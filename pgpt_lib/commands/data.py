"""`data`: write, fetch or check a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import RunError
from ._output import JsonFlag, new_app, results

app = new_app(help="Write, fetch or check a data set.")


@app.callback()
def data() -> None:
    """Write, fetch or check a data set."""


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


@app.command()
def check(
    root: Annotated[Path, typer.Option(help="Folder that `data refshapes` wrote.")],
    json: JsonFlag = False,
) -> None:
    """Judge every expression, caption and answer of a RefShapes folder from its words; exit with 1 if one is wrong."""
    from ..data.refshapes.checker import check_folder

    with results(json) as emit:
        found = check_folder(root)
        emit(found, _check_lines(found))
    if found["wrong"]:
        raise RunError(f"{found['wrong']} of {found['checked']} texts in {root} are wrong; the examples say how")


def _check_lines(found: dict[str, Any]) -> str:
    """A line for each kind of text, its wrong examples below it."""
    lines = []
    for kind, entry in [*found["kinds"].items(), ("all", {**found, "examples": []})]:
        lines.append(f"{kind:<22} {entry['checked']:>8} checked {entry['wrong']:>6} wrong")
        lines += [f"    {example}" for example in entry["examples"]]
    return "\n".join(lines)
