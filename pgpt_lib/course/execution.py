"""nbgrader's step that runs a submission, made to survive what students hand in.

Only what is needed runs (`slicing`), in a kernel that is confined (`sandbox`). A kernel that dies or hangs ends the
exercises that are left, not the grading. What a cell prints is cut off, and the outputs of a test say one thing only:
right, or what is wrong.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbgrader.preprocessors import Execute
from nbgrader.utils import is_grade
from traitlets import Dict, Float, Integer, List, Unicode

from . import slicing
from .processes import below, end_below

OUTPUT_CHARACTERS = 20_000  # of one cell
FLOOD_CHARACTERS = 5_000_000  # a cell that prints more is stopped
FLOODED = f"it printed more than {FLOOD_CHARACTERS // 10**6} million characters, and was stopped"
PROCESSES = 64
DISK = 2**30
POLL_SECONDS = 0.2
FRESH_CHECKS = """import sys as _sys
for _name in [n for n in _sys.modules if n == "pgpt_lib.checks" or n.startswith("pgpt_lib.checks.")]:
    del _sys.modules[_name]
vars(_sys.modules.get("pgpt_lib", _sys)).pop("checks", None)
"""
"""Runs before each test, so that a test's checks are those on disk, whatever the student's code made of them."""


class GradingExecute(Execute):
    """nbgrader's `Execute`, with limits. Its traits are set by the worker."""

    lesson = List(Unicode(), help="Sources of the released code cells that no student is asked to change.").tag(
        config=True
    )
    parameters = Dict(help="Values for the lesson's parameters cell.").tag(config=True)
    stored = Dict(help="Outputs to show for a lesson's cell, by its source.").tag(config=True)
    folder = Unicode(help="Where the kernel works; it can write nowhere else.").tag(config=True)
    total_seconds = Float(600.0, help="The longest that all cells together may take.").tag(config=True)
    memory = Integer(4 * 2**30, help="Bytes that all processes of the kernel may hold together.").tag(config=True)

    ended = ""  # why the kernel is no longer there, for the student
    flooded = False

    def preprocess(self, nb: Any, resources: Any, km: Any = None) -> tuple[Any, Any]:
        self.shutdown_kernel = "immediate"
        code = [c for c in nb.cells if c.cell_type == "code"]
        lesson = set(self.lesson)
        given = [i for i, c in enumerate(code) if set(self.parameters) <= slicing.names_of(c.source)[0]]
        sources = slicing.needed(
            [
                (c.source, i in given or (c.source in lesson and "nbgrader" not in c.metadata))
                for i, c in enumerate(code)
            ]
        )
        for i in given:  # the parameters cell, with whatever values a student left in it
            sources[i] = slicing.with_parameters(sources[i], self.parameters)
        self._sources = {id(cell): source for cell, source in zip(code, sources, strict=True)}
        resources.setdefault("metadata", {})["path"] = self.folder
        over = threading.Event()
        threading.Thread(target=self._watch, args=(over,), daemon=True).start()
        try:
            return super().preprocess(nb, resources, km)
        except (DeadKernelError, RuntimeError) as error:  # it never started, or could not be ended in peace
            self.ended = self.ended or f"the kernel could not be used: {error}"
            for cell in code:
                if is_grade(cell) and not cell.outputs:
                    cell.outputs = [_error("NotGraded", self.ended)]
            return nb, resources
        finally:
            over.set()

    def preprocess_cell(self, cell: Any, resources: Any, index: int) -> tuple[Any, Any]:
        if cell.cell_type != "code":
            return cell, resources
        graded, shown = is_grade(cell), cell.source
        source = self._sources.get(id(cell), shown)
        if not source.strip():
            cell.outputs = [nbformat.from_dict(o) for o in self.stored.get(shown, [])]
            return cell, resources
        if self.ended:
            cell.outputs = [_error("NotGraded", f"not reached: {self.ended}")] if graded else []
            return cell, resources
        self._printed, self.flooded = 0, False
        cell.source = FRESH_CHECKS + source if graded else source
        try:
            super().preprocess_cell(cell, resources, index)
        except (DeadKernelError, CellTimeoutError) as error:
            self._end(cell, error)
        finally:
            cell.source = shown
        if self.flooded:  # the interrupt that stopped it would read as a time limit
            cell.outputs = [o for o in cell.outputs if not graded and o.output_type != "error"] + [
                _error("TooMuchOutput", FLOODED)
            ]
        cell.outputs = _verdict(cell) if graded else _shortened(cell.outputs)
        return cell, resources

    def output(self, outs: list[Any], msg: Any, display_id: str, cell_index: int) -> Any:
        """Take an output unless the cell has shown too much already."""
        content = msg["content"]
        self._printed += len(str(content.get("text", ""))) + sum(len(str(v)) for v in content.get("data", {}).values())
        if self._printed > FLOOD_CHARACTERS and not self.flooded:
            self.flooded = True
            process = self._process()
            if process is not None:
                process.send_signal(2)  # as a person would interrupt it
        if self._printed > OUTPUT_CHARACTERS and msg["msg_type"] != "error":
            verdicts = re.findall(r"^ok: .*$", str(content.get("text", "")), re.M)  # a right answer may print a lot
            if not verdicts:
                return None
            content["text"] = "".join(f"\n{line}\n" for line in verdicts)
        return super().output(outs, msg, display_id, cell_index)

    def _end(self, cell: Any, error: Exception) -> None:
        """The kernel is gone, or does not answer; it is gone then, too."""
        if isinstance(error, CellTimeoutError) and not self.ended:
            self.ended = "the kernel did not answer any more"
        self.ended = self.ended or "the kernel died"
        end_below(os.getpid())
        marks = cell.metadata.get("nbgrader", {})
        first = next(iter(cell.source.strip().splitlines()), "")[:60]
        where = f"the test of {marks['grade_id'].removesuffix('_check')}" if is_grade(cell) else f"the cell `{first}`"
        self.ended = f"{self.ended} in {where}"
        cell.outputs = [*_shortened(cell.outputs), _error("NotGraded", self.ended)]

    def _process(self) -> psutil.Process | None:
        try:
            pid = self.km.provisioner.pid
            return psutil.Process(pid) if pid else None
        except (AttributeError, psutil.Error):
            return None

    def _watch(self, over: threading.Event) -> None:
        """End the kernel when all of it is too large or takes too long."""
        began = time.monotonic()
        while not over.wait(POLL_SECONDS):
            if self._process() is None:
                continue
            family, held = below(os.getpid()), 0  # the kernel, and what it detached: this process adopts that
            for process in family:
                with contextlib.suppress(psutil.Error):
                    held += process.memory_info().rss
            if held > self.memory:
                self.ended = f"its code took more than {self.memory / 2**30:.1f} GB of memory, and was ended"
            elif len(family) > PROCESSES:
                self.ended = f"its code started more than {PROCESSES} processes, and was ended"
            elif _size(Path(self.folder)) > DISK:
                self.ended = "its code wrote more than 1 GB of files, and was ended"
            elif time.monotonic() - began > self.total_seconds:
                self.ended = f"its cells together took more than {self.total_seconds:.0f} s, and were ended"
            else:
                continue
            end_below(os.getpid())
            return


def _size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return total


def _verdict(cell: Any) -> list[Any]:
    """The outputs of a test: its first error, or the lines that say that each check came to its end.

    nbgrader takes any word on stderr for a failure, and any value for a part of the points; warnings and displayed
    values of a student's code are neither.
    """
    for output in cell.outputs:
        if output.output_type == "error":
            return [output]
    text = "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout")
    passed = re.findall(r"^ok: .*$", text, re.M)
    if len(passed) < len(re.findall(r"\bchecks\.check_\w+\(", cell.source)):
        return [_error("NotGraded", "the test did not come to its end: does your code end it, or print too much?")]
    return [nbformat.v4.new_output("stream", name="stdout", text="\n".join(dict.fromkeys(passed)) + "\n")]


def _shortened(outputs: list[Any]) -> list[Any]:
    return [o for o in outputs if o.output_type != "stream" or o.text][:100]


def _error(name: str, message: str) -> Any:
    return nbformat.v4.new_output("error", ename=name, evalue=message, traceback=[f"{name}: {message}"])
