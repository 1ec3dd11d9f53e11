"""One notebook through papermill, watched: progress lines, time limits, and failures told as they are."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import papermill
import psutil
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines
from papermill.exceptions import PapermillExecutionError

from .errors import InputError, RunError

ENGINE = "pgpt"
BEAT_SECONDS = 30.0
START_SECONDS = 300  # a busy machine imports slowly
GRACE_SECONDS = 30.0  # between a cell's time limit, which keeps its output, and the end of its kernel


class Watch:
    """Tells now and then how far a notebook is, and ends its kernel when the time is up."""

    def __init__(self, name: str, limit: float, expected: float, log: Callable[[str], None]) -> None:
        self.name, self.limit, self.expected, self.log = name, limit, expected, log
        self.manager: NotebookExecutionManager | None = None
        self.timed_out = False
        self._began, self._over = time.monotonic(), threading.Event()

    def __enter__(self) -> Watch:
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def _beat(self) -> None:
        next_line = BEAT_SECONDS
        while not self._over.wait(1.0):
            elapsed = time.monotonic() - self._began
            if elapsed > self.limit + GRACE_SECONDS:
                self.timed_out = True
                _end_kernels()
                return
            if elapsed >= next_line:
                next_line += BEAT_SECONDS
                self.log(f"  {self.name}: {self._position()}, {elapsed:.0f} s, expected {self.expected:.0f} s")

    def _position(self) -> str:
        if self.manager is None:
            return "kernel starts"
        cells = [c for c in self.manager.nb.cells if c.cell_type == "code"]
        begun = sum(c.metadata.get("papermill", {}).get("start_time") is not None for c in cells)
        return f"code cell {begun} of {len(cells)}"


class WatchedEngine(NBClientEngine):
    """Papermill's own engine, which lets a `Watch` see the cells."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: NotebookExecutionManager, kernel_name: str, watch: Watch | None = None, **settings: Any
    ) -> Any:
        if watch is not None:
            watch.manager = nb_man
        return super().execute_managed_notebook(nb_man, kernel_name, **settings)


papermill_engines.register(ENGINE, WatchedEngine)


def run_notebook(
    source: Path,
    executed: Path,
    parameters: Mapping[str, Any],
    limit: float,
    expected: float,
    log: Callable[[str], None],
) -> None:
    """Execute a notebook from its own folder; what it showed until a failure stays in `executed`.

    Args:
        source: the notebook.
        executed: where its executed copy goes.
        parameters: values for its tagged cell.
        limit: seconds that it may take in all.
        expected: seconds that it usually takes, for the progress lines.
        log: takes one line of progress.

    Raises:
        InputError: a cell raised `InputError`.
        RunError: a cell failed, the kernel died, time ran out, or a cell was not executed.
    """
    name = source.stem
    with Watch(name, limit, expected, log) as watch, _quiet_papermill():
        try:
            notebook = papermill.execute_notebook(
                str(source),
                str(executed),
                parameters=dict(parameters),
                engine_name=ENGINE,
                watch=watch,
                cwd=str(source.parent),
                progress_bar=False,
                execution_timeout=max(1, round(limit)),
                start_timeout=START_SECONDS,
                extra_arguments=["--log-level=ERROR"],  # the kernel's own notes are no progress lines
            )
        except PapermillExecutionError as error:
            kind = InputError if error.ename == "InputError" else RunError
            what = f"{name} failed in cell {error.exec_count}: {error.ename}: {error.evalue}"
            raise kind(f"{what}; see {executed}") from None
        except CellTimeoutError:
            raise RunError(f"{name} took longer than {limit:.0f} s; see {executed}") from None
        except DeadKernelError:
            why = f"took longer than {limit:.0f} s" if watch.timed_out else "lost its kernel (out of memory, perhaps)"
            raise RunError(f"{name} {why}; see {executed}") from None
    code = [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]
    missed = sum(c.execution_count is None for c in code)
    if missed:
        raise RunError(f"{name}: {missed} of {len(code)} code cells were not executed; see {executed}")


def _end_kernels() -> None:
    """End the kernels that this process started; it runs one notebook at a time."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "ipykernel_launcher" in " ".join(child.cmdline()):
                child.kill()


@contextlib.contextmanager
def _quiet_papermill() -> Iterator[None]:
    """Papermill's own notes (which file it reads) say nothing that a progress line does not say."""
    logger = logging.getLogger("papermill")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
