"""`data`: write, fetch or check a data set.

Beside the commands below there is one for each data set of `data/datasets.json`, as `data refcoco --root DIR`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError, RunError
from ..files import read_json
from ..project import ROOT
from ._output import JsonFlag, new_app, results

SAM = "facebook/sam-vit-huge"

app = new_app(help="Write, fetch or check a data set.")


def dataset_names() -> dict[str, str]:
    """Each data set that can be downloaded, and what it is."""
    return {name: entry["about"] for name, entry in (read_json(ROOT / "data" / "datasets.json") or {}).items()}


@app.callback()
def data() -> None:
    """Write, fetch or check a data set."""


@app.command()
def refshapes(
    root: Annotated[Path, typer.Option(help="Folder to write to.")],
    scenes: Annotated[int, typer.Option(help="Number of scenes, all splits together.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the scenes.")] = 0,
    level: Annotated[str, typer.Option(help="smoke, cpu or gpu.")] = "cpu",
    json: JsonFlag = False,
) -> None:
    """Write RefShapes in the layouts of RefCOCO and gRefCOCO, with captions, questions, dialogues and world.json."""
    from ..data.refshapes.export import write_refshapes

    with results(json) as emit:
        emit(write_refshapes(root, scenes, seed, level))


@app.command()
def check(
    root: Annotated[Path | None, typer.Option(help="Folder that `data refshapes` wrote.")] = None,
    scenes: Annotated[
        int | None, typer.Option(min=1, help="Instead: so many scenes, with the texts of all tasks.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of --scenes.")] = 0,
    level: Annotated[str, typer.Option(help="Of --scenes: smoke, cpu or gpu.")] = "cpu",
    json: JsonFlag = False,
) -> None:
    """Judge expressions, captions and answers of RefShapes from their words; exit with 1 if one is wrong.

    --scenes makes those of val, and asks about a given region once more with another region in its place.
    """
    from ..data.refshapes.checker import check_scenes
    from ..data.refshapes.folder_check import check_folder

    if (root is None) == (scenes is None):
        raise InputError(
            "data check takes one of --root (a folder that `data refshapes` wrote) and --scenes (how many)"
        )
    with results(json) as emit:
        found = check_folder(root) if root is not None else check_scenes(level, "val", seed, scenes or 0)
        emit(found, _check_lines(found))
    if found["wrong"]:
        where = root if root is not None else f"{scenes} scenes"
        raise RunError(f"{found['wrong']} of {found['checked']} texts in {where} are wrong; the examples say how")


@app.command()
def leakage(
    root: Annotated[Path, typer.Option(help="Folder that holds the data sets.")],
    sources: Annotated[str, typer.Option(help="Names, separated by commas; by default all that are there.")] = "",
    json: JsonFlag = False,
) -> None:
    """Count the training records whose pictures a val or test split of RefCOCO/+/g, gRefCOCO or Karpathy holds."""
    from ..data import leakage as guard
    from ..data.sources import open_source, present

    with results(json) as emit:
        protected = guard.protected_pictures(root)
        names = [name.strip() for name in sources.split(",") if name.strip()] or present(root)
        removed = {name: guard.guard(open_source(name, root), protected)[1] for name in names}
        emit(guard.report(removed), "\n".join(guard.lines(removed)))


@app.command(name="sam-labels")
def sam_labels(
    root: Annotated[Path, typer.Option(help="Folder that holds the data sets.")],
    source: Annotated[str, typer.Option(help="flickr30k or visual_genome: boxes without masks.")],
    model: Annotated[str, typer.Option(help="SAM in Hugging Face format: a folder or a hub name.")] = SAM,
    predicted_iou: Annotated[float, typer.Option(min=0, max=1, help="Least IoU that SAM expects of its mask.")] = 0.8,
    box_iou: Annotated[float, typer.Option(min=0, max=1, help="Least IoU of the mask's bounds with the box.")] = 0.5,
    shard: Annotated[
        str, typer.Option(help="Which part of the pictures, as 0/8, one process a GPU: 3/8 takes the fourth.")
    ] = "0/1",
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many pictures.")] = None,
    json: JsonFlag = False,
) -> None:
    """Draw a mask for every box with SAM (paper, section 4.1); goes on where it stopped."""
    from ..data.sam_labels import Thresholds, label_source

    with results(json) as emit:
        emit(label_source(root, source, model, Thresholds(predicted_iou, box_iou), shard, limit))


def _fetcher(name: str, about: str) -> Callable[..., None]:
    """The command of one data set."""

    def fetch(
        root: Annotated[Path, typer.Option(help="Folder to lay it out in.")],
        mirror: Annotated[list[str] | None, typer.Option(help="Base address to try first; may be repeated.")] = None,
        pictures: Annotated[bool, typer.Option(help="Also the archives of pictures.")] = True,
        fresh: Annotated[bool, typer.Option("--fresh", help="Lay it out again.")] = False,
        json: JsonFlag = False,
    ) -> None:
        from ..data.datasets import obtain

        with results(json) as emit:
            emit(obtain(name, root, mirror or (), pictures, fresh))

    fetch.__doc__ = f"Download {name}. {about}"
    return fetch


for _name, _about in dataset_names().items():
    app.command(name=_name)(_fetcher(_name, _about))


def _check_lines(found: dict[str, Any]) -> str:
    """A line for each kind of text, its wrong examples below it."""
    lines = []
    for kind, entry in [*found["kinds"].items(), ("all", {**found, "examples": []})]:
        lines.append(f"{kind:<22} {entry['checked']:>8} checked {entry['wrong']:>6} wrong")
        lines += [f"    {example}" for example in entry["examples"]]
    return "\n".join(lines)
