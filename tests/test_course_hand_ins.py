"""Whatever a class hands in, graded without kernels: nothing stops it, and nothing is left behind."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock

pytest.importorskip("nbgrader", reason="the course needs pgpt-lib[course]")

from pgpt_lib.course import grading, running
from pgpt_lib.course.grading import Limits, grade_class
from pgpt_lib.errors import InputError
from pgpt_lib.files import write_json
from pgpt_lib.project import ROOT

NAME = "03_losses"


def place(folder: Path, student: str, name: str = f"{NAME}.ipynb") -> Path:
    """Where a student's file belongs, in a new folder."""
    path = folder / "submitted" / student / NAME / name
    path.parent.mkdir(parents=True)
    return path


def read_grades(out: Path) -> list[dict[str, str]]:
    """The table's rows."""
    with (out / "grades.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def without_kernels(
    folder: Path, monkeypatch: pytest.MonkeyPatch, before: Callable[[dict[str, Any]], str | None]
) -> dict[str, Any]:
    """Arguments of a grading in which every notebook is right, unless `before` says why it was not graded."""

    def work(job: Path, log: Path, seconds: float, at_work: running.Running) -> str:
        settings = json.loads(job.read_text(encoding="ascii"))
        if why := before(settings):
            return why
        rows = [{"name": "my_giou", "points": 2.0, "of": 2.0, "message": "right"}]
        for name in ("folder", "feedback"):
            Path(settings[name]).parent.mkdir(parents=True, exist_ok=True)
        Path(settings["folder"]).mkdir()  # fails where that of an earlier grading is left
        Path(settings["feedback"]).write_text("right")
        write_json(Path(settings["result"]), {"exercises": rows, "note": "", "inputs": settings["inputs"]})
        return ""

    monkeypatch.setattr(running, "_work", work)
    monkeypatch.setattr(grading, "build_course", lambda *arguments, **options: None)
    monkeypatch.setattr(grading, "gather", lambda *arguments: None)
    return {"submitted": folder / "submitted", "out": folder / "out", "workers": 1, "log": lambda line: None}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode, and there are no such devices")
def test_nothing_odd_stops_the_class(tmp_path, monkeypatch):
    place(tmp_path, "ada").write_text('{"cells": []}')
    place(tmp_path, "dangling").symlink_to(tmp_path / "nothing")
    place(tmp_path, "endless").symlink_to("/dev/zero")
    place(tmp_path, "folder").mkdir()
    place(tmp_path, "latin", os.fsdecode(b"devoir \xe9.pdf")).write_bytes(b"%PDF")
    os.mkfifo(place(tmp_path, "pipe"))
    (tmp_path / "submitted" / "whole").mkdir()
    (tmp_path / "submitted" / "whole" / NAME).symlink_to("/dev/zero")
    place(tmp_path, os.fsdecode(b"zo\xeb")).write_text('{"cells": []}')
    worked: list[str] = []

    def note(job: dict[str, Any]) -> None:
        assert Path(job["file"]).is_file()
        worked.append(job["student"])

    arguments = without_kernels(tmp_path, monkeypatch, note)
    told: list[str] = []
    assert grade_class(**arguments | {"log": told.append})["graded"] == 8
    assert "\n".join(told).encode() and worked == ["ada", "zo\\udceb"]
    rows = read_grades(tmp_path / "out")
    assert {row["student"]: row["message"] for row in rows if row["exercise"] == "my_giou"} == {
        "ada": "right",
        "dangling": f"{NAME}.ipynb is a link, no file of its own",
        "endless": f"{NAME}.ipynb is a link, no file of its own",
        "folder": f"{NAME}.ipynb is a folder",
        "latin": "devoir \\udce9.pdf is not a notebook",
        "pipe": f"{NAME}.ipynb is a pipe or a device, no file of its own",
        "whole": f"{NAME} is a link, no file of its own",
        "zo\\udceb": "right",
    }
    for row in rows:
        page = (tmp_path / "out" / "feedback" / row["student"] / f"{NAME}.html").read_text(encoding="utf-8")
        assert row["message"] in page and (row["points"] == "2" or "Score: 0.0 / 6.0" in page)
    assert grade_class(**arguments)["graded"] == 0


def test_printed_results_come_from_the_first_report_that_has_the_notebook(tmp_path, monkeypatch):
    reports = [tmp_path / "reports" / name for name in ("smoke", "cpu")]
    for folder, names in zip(reports, (["00_setup_and_data"], ["00_setup_and_data", NAME]), strict=True):
        for name in names:
            (folder / name).mkdir(parents=True)
            (folder / name / f"{name}.ipynb").write_text("{}")
    (reports[0] / NAME).mkdir()  # a run that was broken off leaves such a folder
    monkeypatch.setattr(grading, "STORED", tuple(map(str, reports)))
    stored = {}
    arguments = without_kernels(tmp_path, monkeypatch, lambda job: stored.update({job["assignment"]: job["stored"]}))
    for name in ("00_setup_and_data", NAME, "05_training"):
        path = tmp_path / "submitted" / "ada" / name / f"{name}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text('{"cells": []}')
    grade_class(**arguments)
    assert stored == {"00_setup_and_data": str(reports[0]), NAME: str(reports[1]), "05_training": None}


@pytest.mark.parametrize("killed", [False, True])
def test_nothing_is_left_of_an_earlier_grading(tmp_path, monkeypatch, killed):
    handed_in, out = place(tmp_path, "ada"), tmp_path / "out"
    handed_in.write_text('{"cells": []}')
    again = False
    arguments = without_kernels(tmp_path, monkeypatch, lambda job: "its grading was killed" if again else None)
    grade_class(**arguments)
    page, executed = out / "feedback" / "ada" / f"{NAME}.html", out / "course" / "autograded" / "ada" / NAME
    executed.mkdir(parents=True)
    assert page.read_text() == "right" and (out / "work" / "ada" / NAME).is_dir()
    again = True
    handed_in.write_text('{"cells": [], "metadata": {}}' if killed else "%PDF")
    assert grade_class(**arguments)["graded"] == 1
    assert not executed.exists() and not (out / "work" / "ada" / NAME).exists()
    assert not page.exists() if killed else "is not a notebook" in page.read_text()
    assert {row["points"] for row in read_grades(out)} == {"0"}


def test_an_interrupted_grading_goes_on(tmp_path, monkeypatch):
    for student in ("ada", "bob", "cyd"):
        place(tmp_path, student).write_text('{"cells": []}')
    worked: list[str] = []

    def stop(job: dict[str, Any]) -> str | None:
        worked.append(job["student"])
        if worked == ["ada", "bob"]:
            raise KeyboardInterrupt
        return "its grading was killed" if job["student"] == "cyd" and worked.count("cyd") == 1 else None

    arguments = without_kernels(tmp_path, monkeypatch, stop)
    with pytest.raises(KeyboardInterrupt):
        grade_class(**arguments)
    assert worked == ["ada", "bob"]
    assert grade_class(**arguments)["graded"] == 2 and worked == ["ada", "bob", "bob", "cyd"]
    assert (
        "cyd,03_losses,my_giou,0,2,not graded: its grading was killed" in (tmp_path / "out" / "grades.csv").read_text()
    )
    assert grade_class(**arguments)["graded"] == 1 and worked[-1] == "cyd"
    assert grade_class(**arguments)["graded"] == 0
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(InputError, match="another grading is at work"):
        grade_class(**arguments)


WORKER = """import os, subprocess, sys
from pgpt_lib.course.processes import adopt_orphans, end_below
adopt_orphans()
detach = ["/bin/sh", "-c", "/bin/sleep 600 > /dev/null & echo $!"]
print(subprocess.check_output(detach, env={}, start_new_session=True, text=True), flush=True)
sys.stdin.read()
end_below(os.getpid())
"""


def runs(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing adopts what is detached")
@pytest.mark.parametrize("by_itself", [True, False])
def test_a_detached_process_ends_with_its_worker(by_itself):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    known = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", WORKER], cwd=ROOT, env=known, **pipes) as worker:
        pid = int(worker.stdout.readline())
        try:
            assert runs(pid) and psutil.Process(pid).ppid() == worker.pid
            if by_itself:
                worker.stdin.close()
                worker.wait(30)
            else:
                running._end_all(worker, "the token of another")
            assert not runs(pid) and worker.returncode == (0 if by_itself else -signal.SIGKILL)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"submitted": Path("nowhere")}, "nowhere is no folder"),
        ({"only": ["99_none"]}, "99_none"),
        ({"workers": 0}, "at least 1"),
        ({"seed": -1}, "--seed -1"),
        ({"limits": Limits(cell_seconds=0)}, "at least 1"),
        ({}, "holds no STUDENT/ASSIGNMENT"),
    ],
)
def test_bad_input_is_named(tmp_path, change, message):
    (tmp_path / "submitted").mkdir()
    if "seed" in change:
        (tmp_path / "submitted" / "ada" / NAME).mkdir(parents=True)
    arguments = {"submitted": tmp_path / "submitted", "out": tmp_path / "out"} | change
    with pytest.raises(InputError, match=message):
        grade_class(**arguments)
