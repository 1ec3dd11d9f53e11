"""`python -m pgpt_lib train`: what notebook 05 does, without a notebook."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ..config import load_profile, with_root
from ..errors import InputError
from ._output import JsonFlag, results

LOCK_SECONDS = 60.0


def train(
    profile: Annotated[str, typer.Option(help="Name of the settings.")],
    out: Annotated[Path, typer.Option(help="The run's folder; gets checkpoint/step_N/ and train.jsonl.")],
    seed: Annotated[int, typer.Option(min=0, help="Of data, initial weights and dropout.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Length of the schedule; by default the profile's.")] = None,
    save_every: Annotated[int | None, typer.Option(help="Steps between checkpoints; by default the profile's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last usable checkpoint there.")] = False,
    root: Annotated[Path | None, typer.Option(help="Folder of the data that the profile names.")] = None,
    json: JsonFlag = False,
) -> None:
    """Train a profile's model; the last step is always saved, also when the run is interrupted."""
    settings = load_profile(profile)
    if root is not None:
        settings = with_root(settings, str(root))
    with results(json) as emit, only_training(out):
        from ..interrupts import follow_if_asked
        from ..processes import place
        from ..training import train as run  # here: it imports torch, and `--help` should be quick

        follow_if_asked()
        try:
            result = run(settings, out, seed, steps, save_every, resume)
        except KeyboardInterrupt as stop:
            raise typer.Exit(130) from stop
        if place()[0] == 0:  # of several processes one speaks
            emit(vars(result), f"{result.checkpoint}: {result.steps} steps in {result.seconds:.0f} s")


@contextlib.contextmanager
def only_training(out: Path) -> Iterator[None]:
    """Keep a second training out of the folder; one that was just told to end is waited for.

    Raises:
        InputError: another training is at work there, or `out` is a file.
    """
    from filelock import FileLock, Timeout

    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    if os.environ.get("RANK", "0") != "0":  # of several processes the first holds the lock
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".train.lock")
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise InputError(f"another training is at work in {out}; wait for it or choose another --out") from None
    try:
        yield
    finally:
        lock.release()
