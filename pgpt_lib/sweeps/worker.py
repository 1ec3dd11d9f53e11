"""`python -m pgpt_lib.sweeps.worker ORDERS.json`: one process of a sweep, for one cell or one run of notebooks."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import InputError
from ..files import read_json, write_json
from .cells import Cell
from .jobs import BUSY
from .plans import load_plan
from .results import result_file

PARENT_SECONDS = 1.0


def work_folder(folder: Path, name: str) -> Path:
    """Where a cell keeps checkpoint, log and curve until it is done."""
    return folder / ".work" / name


def perform(cell: Cell, folder: Path, progress: bool = True, tuned_in: Path | None = None) -> dict[str, Any] | None:
    """Run a cell, write its result into the sweep's folder, and delete what the training left.

    Args:
        tuned_in: a folder of results in which tuned learning rates are looked up, when it is another one.

    Returns: the result; None when another process is at work on the same cell.

    Raises:
        InputError, RunError: see `cell_run.run_cell`.
    """
    from .cell_run import run_cell

    work = work_folder(folder, cell.id)
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".work" / f"{cell.id}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    try:
        _drop_if_other(cell, work)
        result = run_cell(cell, work, tuned_in or folder, progress)
        write_json(result_file(folder, cell.id), result)
        shutil.rmtree(work, ignore_errors=True)
        return result
    finally:
        lock.release()


def _drop_if_other(cell: Cell, work: Path) -> None:
    """Forget what a cell of other sizes left half done, and note of which ones this is."""
    note, asked = work / "asked.json", cell.asked()
    held = read_json(note)
    if held is not None and held != read_back(asked):
        for path in work.iterdir():
            if path.name not in ("log", "orders.json"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_json(note, asked)


def read_back(value: Any) -> Any:
    """A value as it looks when it was written as JSON and read again."""
    import json

    from ..files import plain

    return json.loads(json.dumps(plain(value)))


def follow_parent() -> None:
    """Stop, as by SIGTERM, when the process that started this one is gone: nobody waits for the result any more."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main(orders: Mapping[str, Any]) -> int:
    """Do what the orders say. Returns the exit status."""
    follow_parent()
    if orders["kind"] == "notebooks":
        from .notebook_grid import run_point

        run_point(orders)
        return 0
    from .engine import survey  # which imports this module

    cell = load_plan(orders["plan"]).cell(orders["factors"], orders["profile"])
    if survey([cell], Path(orders["folder"]).parents[1])[0].state == "done":  # by another sweep, while this job waited
        return 0
    return BUSY if perform(cell, Path(orders["folder"])) is None else 0


if __name__ == "__main__":
    try:
        sys.exit(main(read_json(Path(sys.argv[1]))))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        if not isinstance(error, InputError):
            import traceback

            traceback.print_exc()
        print(f"error: {error}" if str(error) else f"error: {type(error).__name__}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)
