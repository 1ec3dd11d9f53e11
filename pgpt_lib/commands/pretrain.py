"""`pretrain`: remake the nano backbone, or evaluate the bundled one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from ._output import JsonFlag, results


def pretrain(
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Evaluate the bundled weights instead of remaking them.")
    ] = False,
    scenes: Annotated[int, typer.Option(help="Scenes to evaluate on.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the scenes, or of the pretraining.")] = 0,
    tower: Annotated[str, typer.Option(help="dinov2-small or nano-vit.")] = "dinov2-small",
    level: Annotated[str, typer.Option(help="Level of the scenes to evaluate on.")] = "cpu",
    work: Annotated[
        Path | None, typer.Option(help="Folder of states and logs; a killed pretraining goes on from it.")
    ] = None,
    compiled: Annotated[bool, typer.Option("--compiled", help="Use torch.compile (needs a C++ compiler).")] = False,
    json: JsonFlag = False,
) -> None:
    """Pretrain the nano backbone in words and on pictures, or print what the bundled one answers right."""
    with results(json) as emit:
        if evaluate:
            from ..data.refshapes.levels import get_level
            from ..pretraining.pipeline import evaluate_bundled

            get_level(level)
            if scenes < 1:
                raise InputError(f"--scenes is {scenes}; it must be at least 1")
            if tower not in ("dinov2-small", "nano-vit"):
                raise InputError(f"--tower is {tower!r}; nano knows dinov2-small and nano-vit")
            emit(evaluate_bundled(scenes, seed, tower, level))
            return
        if work is None:
            raise InputError(
                "pretraining needs --work DIR for its states and logs (about 15 GB of disk with the feature cache)"
            )
        from ..pretraining.pipeline import pretrain as run

        emit(run(work, seed=seed, compiled=compiled))
