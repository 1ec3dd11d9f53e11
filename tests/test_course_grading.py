"""A class of five: right, wrong, hanging, crashing, no notebook; and the same class again."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import nbformat
import psutil
import pytest

pytest.importorskip("nbgrader", reason="the course needs pgpt-lib[course]")

from pgpt_lib.course import grading
from pgpt_lib.course.assignments import read_lesson, solution_version
from pgpt_lib.course.grading import Limits, grade_class
from pgpt_lib.project import ROOT

NAME = "03_losses"
SEED = 8412377
HANGING = "def my_giou(a, b):\n    while True:\n        pass"
CRASHING = "def my_dice_loss(logits, target):\n    import os\n    os._exit(1)"
SPYING = """def my_dice_loss(logits, target):
    import os
    raise ValueError(In[-1][-250:] + os.environ["PGPT_GRADING_SEED"] + " /home/prof/work/x.py")"""
POOLED = """def my_dice_loss(logits, target):
    import subprocess, warnings
    subprocess.run(["/bin/sh", "-c", "sleep 600.86397 &"], env={}, start_new_session=True)
    warnings.warn("a word on stderr")
    p = logits.sigmoid()
    return 1 - 2 * (p * target).sum() / (p.sum() + target.sum())"""
WARNING = """def my_bce_loss(logits, target):
    import warnings
    warnings.warn("no reason to lose points")
    print(30_000 * "a long look at the logits ")
    assert run.profile.name == "smoke" and pairs == 400  # the lesson's, though this student's says otherwise
    return (torch.logaddexp(0 * logits, logits) - target * logits).mean()"""

FILLING = """def my_giou(a, b):
    kept = []
    while True:
        kept.append(bytearray(50_000_000))"""
FILLING_TENSORS = """def my_dice_loss(logits, target):
    return torch.ones(10**10).mean()"""
MAPPING = """def my_dice_loss(logits, target):
    import mmap
    shared = mmap.mmap(-1, 3 * 2**30)  # shared memory, which limits of a process leave out
    for page in range(0, 3 * 2**30, 4096):
        shared[page] = 1"""
FLOODING = """def my_dice_loss(logits, target):
    while True:
        print(1000 * "loss ")"""
FLOODED_CELL = """def my_bce_loss(logits, target):
    return (torch.logaddexp(0 * logits, logits) - target * logits).mean()


while True:
    print(1000 * "loss ")"""

COUNTING = """import itertools
calls = itertools.count()


def my_giou_test(giou):
    return next(calls) % 11 < 4  # right ones come first, do they not?"""


def read_grades(out: Path) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str], str]]:
    """Points and messages of the table, by student and exercise."""
    with (out / "grades.csv").open(encoding="utf-8") as file:
        rows = {(row["student"], row["exercise"]): row for row in csv.DictReader(file)}
    return {key: float(row["points"]) for key, row in rows.items()}, {key: row["message"] for key, row in rows.items()}


def hand_in(folder: Path, student: str, assignment: str = NAME, **changed: str | None) -> None:
    """The solved assignment, with some exercises' cells written otherwise, or deleted where it says None."""
    lesson = read_lesson(ROOT / "notebooks" / "src" / f"{assignment}.py")
    solved = solution_version(lesson.graded)
    for made, cell in zip(solved.cells, lesson.graded.cells, strict=True):
        if "nbgrader" in cell.metadata:
            made.metadata["nbgrader"] = cell.metadata["nbgrader"]
            made.source = changed.get(cell.metadata.nbgrader.grade_id, made.source)
        made.source = made.source and made.source.replace('profile: str = "smoke"', 'profile: str = "my-own"')
    solved.cells = [cell for cell in solved.cells if cell.source is not None]
    path = folder / student / assignment / f"{assignment}.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(solved, path)


def keep_results(folder: Path) -> None:
    """An executed copy of the lesson in which every cell has printed something."""
    executed = nbformat.read(ROOT / "notebooks" / f"{NAME}.ipynb", as_version=4)
    for number, cell in enumerate(executed.cells):
        if cell.cell_type == "code":
            cell.outputs = [nbformat.v4.new_output("stream", text=f"kept of cell {number}\n")]
    path = folder / NAME / f"{NAME}.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(executed, path)


@pytest.mark.slow
def test_a_class_is_graded_whatever_it_hands_in(tmp_path, monkeypatch):
    submitted, out = tmp_path / "submitted", tmp_path / "graded"
    keep_results(tmp_path / "kept")
    monkeypatch.setattr(grading, "STORED", (str(tmp_path / "kept"),))
    hand_in(submitted, "right", my_bce_loss=WARNING)
    hand_in(submitted, "wrong", my_dice_loss=POOLED)
    hand_in(submitted, "hanging", my_giou=HANGING, my_dice_loss=SPYING)
    hand_in(submitted, "crashing", my_dice_loss=CRASHING)
    (submitted / "no notebook" / NAME).mkdir(parents=True)
    (submitted / "no notebook" / NAME / f"{NAME}.ipynb").write_bytes(b"%PDF-1.7 \xfe")
    told: list[str] = []
    limits = Limits(cell_seconds=12, total_seconds=120)
    done = grade_class(submitted, out, seed=SEED, workers=1, limits=limits, log=told.append)
    assert (done["students"], done["submissions"], done["graded"]) == (5, 5, 5)
    assert not any("600.86397" in line for p in psutil.process_iter(["cmdline"]) for line in p.info["cmdline"] or ())
    points, messages = read_grades(out)
    assert [points["right", name] for name in ("my_giou", "my_dice_loss", "my_bce_loss")] == [2, 2, 2]
    assert [points["wrong", name] for name in ("my_giou", "my_dice_loss", "my_bce_loss")] == [2, 0, 2]
    assert "divide mask by mask" in messages["wrong", "my_dice_loss"]
    assert [points["hanging", name] for name in ("my_giou", "my_dice_loss", "my_bce_loss")] == [0, 0, 2]
    assert "took too long" in messages["hanging", "my_giou"]
    assert "check_dice(my_dice_loss)" in messages["hanging", "my_dice_loss"]  # of its test it shows what is not hidden
    assert [points["crashing", name] for name in ("my_giou", "my_dice_loss", "my_bce_loss")] == [2, 0, 0]
    assert "the kernel died in the test of my_dice_loss" in messages["crashing", "my_dice_loss"]
    assert "not reached" in messages["crashing", "my_bce_loss"]
    assert all(messages["no notebook", e] == f"{NAME}.ipynb is not a notebook" for s, e in points if s == "right")
    pages = {path.parent.name: path.read_text(encoding="utf-8") for path in (out / "feedback").rglob("*.html")}
    assert sorted(pages) == ["crashing", "hanging", "no notebook", "right", "wrong"]
    for page in pages.values():
        assert "grading_seed" not in page and "HIDDEN" not in page and str(SEED) not in page
    # What a lesson's cell printed when it was last run stands where no submission needs it.
    assert pages["right"].count("kept of cell ") >= 5
    assert "divide mask by mask" in pages["wrong"] and re.search(r"Score: 4\.0 / 6\.0", pages["wrong"])

    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{out / 'course' / 'gradebook.db'}", "pgpt") as book:
        assert {s.student.id: s.score for s in book.assignment_submissions(NAME)} == {
            student: sum(points[student, e] for s, e in points if s == student)
            for student in ("right", "wrong", "hanging", "crashing", "no notebook")
        }
    assert (out / "course" / "autograded" / "right" / NAME / f"{NAME}.ipynb").exists()

    before = (out / "grades.csv").read_text()
    assert not any(secret in before for secret in ("grading_seed", "HIDDEN", str(SEED), "/home/prof"))
    assert grade_class(submitted, out, workers=1, limits=limits, log=told.append)["graded"] == 0
    assert (out / "grades.csv").read_text() == before
    (submitted / "no notebook" / NAME / f"{NAME}.ipynb").write_text("{}")
    again = grade_class(submitted, out, workers=1, limits=limits, log=told.append)
    assert again["graded"] == 1 and again["seed"] == SEED
    (submitted / "right" / NAME / f"{NAME}.ipynb").write_bytes(b"%PDF-1.7 \xfe")
    assert grade_class(submitted, out, workers=1, limits=limits, log=told.append)["graded"] == 1
    page = (out / "feedback" / "right" / f"{NAME}.html").read_text(encoding="utf-8")
    assert "Score: 0.0 / 6.0" in page and f"{NAME}.ipynb is not a notebook" in page and "kept of cell" not in page
    assert not (out / "course" / "autograded" / "right" / NAME).exists()
    assert (out / "course" / "autograded" / "wrong" / NAME).exists()
    assert sum(points for (student, _), points in read_grades(out)[0].items() if student == "right") == 0


@pytest.mark.slow
def test_another_assignment_is_graded_by_its_own_checks(tmp_path):
    submitted, out, name = tmp_path / "submitted", tmp_path / "graded", "10_paper_code_ours"
    hand_in(submitted, "right", name)
    hand_in(submitted, "counting", name, my_giou_test=COUNTING)
    grade_class(submitted, out, seed=SEED, workers=1, log=lambda line: None)
    points, messages = read_grades(out)
    exercises = ("my_giou_test", "my_code_test", "my_dice_test", "my_line")
    assert [points["right", exercise] for exercise in exercises] == [2, 1, 2, 1]
    assert [points["counting", exercise] for exercise in exercises] == [0, 1, 2, 1]
    assert "right one time and wrong the other" in messages["counting", "my_giou_test"]


@pytest.mark.slow
def test_what_takes_all_memory_or_prints_without_end_is_named(tmp_path):
    submitted, out = tmp_path / "submitted", tmp_path / "graded"
    hand_in(submitted, "filling", my_giou=FILLING, my_dice_loss=FILLING_TENSORS)
    hand_in(submitted, "flooding", my_giou=None, my_dice_loss=FLOODING, my_bce_loss=FLOODED_CELL)
    hand_in(submitted, "mapping", my_dice_loss=MAPPING)
    limits = Limits(cell_seconds=120, total_seconds=600, memory_gb=1.0)  # none is met, but for memory
    grade_class(submitted, out, seed=SEED, workers=1, limits=limits, log=lambda line: None)
    points, messages = read_grades(out)
    names = ("my_giou", "my_dice_loss", "my_bce_loss")
    assert {s: [points[s, name] for name in names] for s in ("filling", "flooding", "mapping")} == {
        "filling": [0, 0, 2],
        "flooding": [0, 0, 2],  # a right function is one, whatever its cell prints
        "mapping": [2, 0, 0],
    }
    for name in names[:2]:
        assert messages["filling", name].startswith("your function ran out of memory for ")
    assert messages["flooding", "my_giou"].startswith("its cell was deleted; there is nothing here yet")
    assert messages["flooding", "my_dice_loss"] == "it printed more than 5 million characters, and was stopped"
    assert messages["flooding", "my_bce_loss"] == (
        "its cell failed: it printed more than 5 million characters, and was stopped; right"
    )
    ended = "its code took more than 1.0 GB of memory, and was ended in the test of my_dice_loss"
    assert (
        messages["mapping", "my_dice_loss"] == ended and messages["mapping", "my_bce_loss"] == f"not reached: {ended}"
    )
    page = (out / "feedback" / "flooding" / f"{NAME}.html").read_text(encoding="utf-8")
    assert "5 million characters" in page and len(page) < 1_000_000
