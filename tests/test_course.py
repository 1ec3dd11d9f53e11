"""The course: what students get holds no answers, and whatever they hand in can be looked at."""

from __future__ import annotations

import ast
import html
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("nbgrader", reason="the course needs pgpt-lib[course]")

from pgpt_lib import checks, notebook_sources
from pgpt_lib.course import building, execution, sandbox, slicing, submissions
from pgpt_lib.course.assignments import read_lesson, without_hidden
from pgpt_lib.course.feedback import HIDDEN, on_its_own, scrub
from pgpt_lib.course.grading import grades_csv
from pgpt_lib.errors import InputError
from pgpt_lib.project import ROOT

SECRET = re.compile(r"### BEGIN (SOLUTION|HIDDEN TESTS)\n(.*?)### END \1", re.S)
LOSSES = ROOT / "notebooks" / "src" / "03_losses.py"


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("course") / "built"
    building.build_course(out, log=lambda line: None)
    return out


def notebook(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def secrets_of(source: str) -> set[str]:
    """Lines that stand in solutions or hidden tests and nowhere else in a source."""
    lines = {line.strip() for _, block in SECRET.findall(source) for line in block.splitlines()}
    shown = {line.strip().lstrip("# ") for line in SECRET.sub("", source).splitlines()}
    return {line for line in lines - shown if len(line) > 15}


def test_every_notebook_with_exercises_is_an_assignment(course):
    names = sorted(path.name for path in (course / "release").iterdir())
    assert names == sorted(path.stem for path in notebook_sources.sources())
    for folder in ("source", "solutions"):
        assert sorted(path.parent.name for path in (course / folder).rglob("*.ipynb")) == names


def test_students_get_no_line_of_a_solution_and_no_hidden_value(course):
    counted = 0
    for source in notebook_sources.sources():
        text = (course / "release" / source.stem / f"{source.stem}.ipynb").read_text(encoding="utf-8")
        secret = secrets_of(source.read_text(encoding="utf-8"))
        assert [line for line in secret if json.dumps(line, ensure_ascii=False)[1:-1] in text] == []
        for word in ("grading_seed", "BEGIN SOLUTION", "END SOLUTION", "HIDDEN TESTS", "source_hidden"):
            assert word not in text, (source.stem, word)
        assert not re.search(r"(?<!\d)1234(?!\d)", text)
        counted += len(secret)
    assert counted > 60


def test_no_other_page_for_students_shows_a_solution(course):
    pages = [*course.glob("syllabus.*"), *(course / "projects").iterdir()]
    assert len(pages) == 4
    secret = {line for path in notebook_sources.sources() for line in secrets_of(path.read_text(encoding="utf-8"))}
    for page in pages:
        text = html.unescape(page.read_text(encoding="utf-8"))
        assert [line for line in (*secret, "grading_seed", "BEGIN SOLUTION", "HIDDEN TESTS") if line in text] == []


def test_ids_of_released_cells_say_nothing_about_their_content(course):
    for path in (course / "release").rglob("*.ipynb"):
        assert [cell["id"] for cell in notebook(path).cells] == [
            f"cell-{n:03d}" for n in range(len(notebook(path).cells))
        ]


@pytest.mark.parametrize("place", ["markdown", "metadata", "code"])
def test_a_planted_leak_is_found(course, place):
    lesson = read_lesson(LOSSES)
    released = notebook(course / "release" / "03_losses" / "03_losses.ipynb")
    assert building.leaks(lesson, nbformat.writes(released)) == []
    line = "checks.check_giou(my_giou, seed=checks.grading_seed())"
    if place == "metadata":
        released.cells[3].metadata["note"] = line
    else:
        cell = next(c for c in released.cells if c.cell_type == place)
        cell.source += f"\n{line}"
    assert building.leaks(lesson, nbformat.writes(released)) == [line]


def test_each_stub_is_followed_by_its_check(course):
    exercises = Counter()
    for path in (course / "release").rglob("*.ipynb"):
        marked = [c for c in notebook(path).cells if "nbgrader" in c.metadata]
        for stub, test in zip(marked[::2], marked[1::2], strict=True):
            name = stub.metadata.nbgrader.grade_id
            assert test.metadata.nbgrader.grade_id == f"{name}_check" and test.metadata.nbgrader.points > 0
            assert "NotImplementedError" in stub.source and re.search(rf"(def|class) {name}\b", stub.source)
            assert re.search(rf"^checks\.check_\w+\({name}\)$", test.source, re.M)
            assert "from pgpt_lib import checks" in test.source
            ast.parse(stub.source)
            exercises[path.stem] += 1
    assert exercises == {name: len(group) for name, group in checks.NOTEBOOKS.items()}
    assert sum(count for name, count in exercises.items() if name < "11") >= 30


def test_solutions_can_be_handed_out(course):
    for path in (course / "solutions").rglob("*.ipynb"):
        text = path.read_text(encoding="utf-8")
        assert "grading_seed" not in text and "###" not in re.sub(r"#### ?|### Exercise|### [A-Z][a-z]", "", text)
        for cell in notebook(path).cells:
            if cell.cell_type == "code":
                ast.parse(cell.source)


def test_the_syllabus_has_all_exercises(course):
    text = (course / "syllabus.md").read_text(encoding="utf-8")
    lessons = building.read_lessons()
    exercises = [e for lesson in lessons for e in lesson.exercises]
    assert all(f"`{e.name}`" in text for e in exercises)
    assert f"{len(exercises)} exercises, {sum(e.points for e in exercises):g} points" in text
    assert f"more than {max(e.minutes for e in exercises)} minutes: the projects are the long ones" in text
    for lesson in lessons:
        assert all(objective in text for objective in lesson.front.objectives)
    assert "<table>" in (course / "syllabus.html").read_text(encoding="utf-8")


def test_nbgrader_reads_our_settings(course):
    from traitlets.config.loader import PyFileConfigLoader

    config = PyFileConfigLoader("nbgrader_config.py", path=str(course)).load_config()
    assert config.Execute.timeout > 30 and config.OverwriteCells.add_missing_cells


def test_building_again_keeps_the_gradebook_and_refuses_what_is_not_ours(course, tmp_path):
    (course / "submitted").mkdir()
    building.build_course(course, only=["03_losses"], log=lambda line: None)
    assert (course / "gradebook.db").exists() and (course / "submitted").exists()
    building.build_course(course, log=lambda line: None)
    (tmp_path / "mine.txt").touch()
    with pytest.raises(InputError, match="not empty"):
        building.build_course(tmp_path)
    with pytest.raises(InputError, match="09_nothing"):
        building.build_course(tmp_path / "new", only=["09_nothing"])


@pytest.mark.parametrize(
    ("lesson", "student", "runs"),
    [
        (["import torch\nmodel = train()"], "def f(x):\n    return torch.sum(x)", ["import torch"]),
        (["import torch\nmodel = train()"], "def f(model):\n    return model + 1", [""]),
        (["a = 1; b = a + 1", "c = b"], "print(c)", ["a = 1\nb = a + 1", "c = b"]),
        (["a = 1", "a += 1"], "a", ["a = 1", "a += 1"]),
        (["def g():\n    return h()", "def h():\n    return 1"], "g()", None),
        (["import numpy as np"], "%%time\nnp.zeros(3)", ["import numpy as np"]),
        (["import numpy as np"], "def broken(:\n  np", ["import numpy as np"]),
        (["x = 5"], "x = 7\nprint(x)", [""]),
        (["@cache\ndef g():\n    pass", "from functools import cache"], "class A:\n    y = g()", None),
    ],
)  # fmt: skip
def test_only_what_a_submission_needs_of_the_lesson_runs(lesson, student, runs):
    found = slicing.needed([*((text, True) for text in lesson), (student, False)])
    assert found == [*(lesson if runs is None else runs), student]


def test_parameters_are_replaced():
    given = slicing.with_parameters('profile: str = "cpu"  # name\nseed: int = 0', {"profile": "smoke"})
    assert given.splitlines() == ["profile = 'smoke'", "seed: int = 0"]


def handed_in(folder: Path, content: bytes | None, name: str = "03_losses.ipynb") -> submissions.Submission:
    path = folder / "ada" / "03_losses" / name
    path.parent.mkdir(parents=True)
    if content is not None:
        path.write_bytes(content)
    return submissions.find_submissions(folder, {"03_losses": None})[0]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"%PDF-1.7 \xff\xfe", "03_losses.ipynb", "not a notebook"),
        (b'{"cells": [{"cell_type": "code", "sou', "03_losses.ipynb", "not a notebook"),
        (b"[1, 2]", "03_losses.ipynb", "not a notebook"),
        (b'{"cells": 3}', "03_losses.ipynb", "not a notebook"),
        (b'{"cells": [3]}', "03_losses.ipynb", "not a notebook"),
        (b"[" * 100_000, "03_losses.ipynb", "not a notebook"),
        (b"", "03_losses.ipynb", "not a notebook"),
        (b"essay", "essay.docx", "essay.docx is not a notebook"),
        (None, "03_losses.ipynb", "no notebook was handed in"),
        (b" " * 2000, "03_losses.ipynb", "hand it in without outputs"),
    ],
)
def test_what_is_no_notebook_is_called_so(tmp_path, monkeypatch, content, name, message):
    if message.endswith("without outputs"):
        monkeypatch.setattr(submissions, "LARGEST", 1000)
    with pytest.raises(submissions.NotGradable, match=message):
        submissions.read_submission(handed_in(tmp_path, content, name))


def test_a_link_is_not_followed(tmp_path):
    folder = tmp_path / "submitted" / "eve" / "03_losses"
    folder.mkdir(parents=True)
    (tmp_path / "secret.ipynb").write_text("{}")
    (folder / "03_losses.ipynb").symlink_to(tmp_path / "secret.ipynb")
    found = submissions.find_submissions(tmp_path / "submitted", {"03_losses": None})
    with pytest.raises(submissions.NotGradable, match="no file of its own"):
        submissions.read_submission(found[0])


@pytest.mark.skipif(os.name != "posix", reason="permissions are Unix's")
def test_what_may_not_be_read_is_called_so():
    """Within a folder that everybody may enter, since pytest's own belong to who runs the tests."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for student in ("file", "folder", "student"):
            path = folder / student / "03_losses" / "03_losses.ipynb"
            path.parent.mkdir(parents=True)
            path.write_text("{}")
            (path if student == "file" else path.parent if student == "folder" else path.parents[1]).chmod(0)
        root = os.geteuid() == 0
        try:
            os.seteuid(65534 if root else os.geteuid())  # permissions do not hold for root
            found = submissions.find_submissions(folder, {"03_losses": None})
            told = {s.student: s.content for s in found}
            for submission in found:
                with pytest.raises(submissions.NotGradable, match="cannot be read: Permission denied"):
                    submissions.read_submission(submission)
        finally:
            os.seteuid(0 if root else os.geteuid())
            for path in (folder / "student", folder / "folder" / "03_losses"):
                path.chmod(0o755)
    assert told == {
        student: f"{name} cannot be read: Permission denied"
        for student, name in (("file", "03_losses.ipynb"), ("folder", "03_losses"), ("student", "03_losses"))
    }


def test_every_student_is_expected_to_hand_in_what_anybody_did(tmp_path):
    for student, assignment in (("ada", "03_losses"), ("bob", "05_training"), ("cyd", None)):
        (tmp_path / student / (assignment or "notes")).mkdir(parents=True)
    found = submissions.find_submissions(tmp_path, dict.fromkeys(("00_setup_and_data", "03_losses", "05_training")))
    assert [(s.student, s.assignment) for s in found] == [
        (student, name) for student in ("ada", "bob", "cyd") for name in ("03_losses", "05_training")
    ]


def ids(cells: list[nbformat.NotebookNode]) -> list[str]:
    return [c.metadata.nbgrader.grade_id for c in cells if "nbgrader" in c.metadata]


@pytest.mark.parametrize("damage", ["deleted", "all deleted", "doubled", "metadata", "tests changed", "no metadata"])
def test_a_damaged_submission_is_put_into_its_frame(course, tmp_path, damage):
    released = notebook(course / "release" / "03_losses" / "03_losses.ipynb")
    content = json.loads((course / "release" / "03_losses" / "03_losses.ipynb").read_text())
    cells = {c["metadata"]["nbgrader"]["grade_id"]: c for c in content["cells"] if "nbgrader" in c["metadata"]}
    if damage == "deleted":
        content["cells"] = [c for c in content["cells"] if c not in (cells["my_giou"], cells["my_dice_loss_check"])]
    if damage == "all deleted":
        content["cells"] = []
    if damage == "doubled":
        content["cells"] += [cells["my_giou"], cells["my_giou_check"]]
    if damage == "metadata":
        cells["my_giou_check"]["metadata"] = {"nbgrader": {"grade_id": "my_giou_check", "points": "many"}, "tags": 3}
    if damage == "tests changed":
        cells["my_giou_check"]["source"] = "print('ok: generalized IoU')"
    if damage == "no metadata":
        for cell in content["cells"]:
            del cell["metadata"]
    handed = submissions.read_submission(handed_in(tmp_path, json.dumps(content).encode()))
    prepared = submissions.prepare(handed, released)
    nbformat.validate(prepared.notebook)
    assert sorted(ids(prepared.notebook.cells)) == sorted(ids(released.cells))
    by_id = {c.metadata.nbgrader.grade_id: c for c in prepared.notebook.cells if "nbgrader" in c.metadata}
    for cell in released.cells:
        if cell.metadata.get("nbgrader", {}).get("grade"):
            own = by_id[cell.metadata.nbgrader.grade_id]
            assert (own.metadata, own.source) == (cell.metadata, cell.source)
    if damage == "deleted":
        assert prepared.remarks == {
            "my_giou": "its cell was deleted",
            "my_dice_loss": "its test was deleted and put back",
        }
        order = ids(prepared.notebook.cells)
        assert order == ids(released.cells)


def said_by(*outputs: nbformat.NotebookNode) -> str:
    """What a test cell with these outputs says."""
    cell = nbformat.v4.new_code_cell("checks.check_a(f)\nchecks.check_a(f, seed=5)", outputs=list(outputs))
    (verdict,) = execution._verdict(cell)
    return verdict.get("text", "") or verdict.evalue


def stream(text: str, name: str = "stdout") -> nbformat.NotebookNode:
    return nbformat.v4.new_output("stream", name=name, text=text)


def test_a_test_says_one_thing():
    failed = nbformat.v4.new_output("error", ename="CheckFailed", evalue="wrong", traceback=[])
    value = nbformat.v4.new_output("execute_result", data={"text/plain": "2.0"}, execution_count=1)
    assert said_by(stream("ok: a\nok: a\n")) == "ok: a\n"
    assert said_by(stream("a warning", "stderr"), stream("ok: a\nok: a\n"), value) == "ok: a\n"
    assert said_by(value, failed) == "wrong"
    assert "did not come to its end" in said_by(stream("ok: a\n"))
    assert "did not come to its end" in said_by()


def test_feedback_shows_no_hidden_test():
    source = (
        "checks.check_a(f)\n### BEGIN HIDDEN TESTS\nchecks.check_a(f, seed=checks.grading_seed())\n### END HIDDEN TESTS"
    )
    hidden = "checks.check_a(f, seed=checks.grading_seed())"
    error = nbformat.v4.new_output(
        "error", ename="CheckFailed", evalue="wrong", traceback=["----> 3 " + hidden, "CheckFailed: wrong"]
    )
    test = nbformat.v4.new_code_cell(source, outputs=[error], metadata={"nbgrader": {"grade": True}})
    spy = nbformat.v4.new_code_cell("print(In)", outputs=[stream(f"'{hidden}' 777123 /home/prof/work/x.py")])
    spy.outputs.append(nbformat.v4.new_output("display_data", data={"text/html": f"<b>{hidden}</b>"}))
    spy.outputs.append(nbformat.v4.new_output("error", ename=hidden, evalue=hidden, traceback=[]))
    made = nbformat.v4.new_notebook(cells=[test, spy])
    scrub(made, [hidden], 777123, without_hidden)
    text = nbformat.writes(made)
    assert "grading_seed" not in text and "777123" not in text and "/home/prof" not in text
    assert "CheckFailed: wrong" in text and text.count(HIDDEN) == 5


def test_a_feedback_page_needs_no_network():
    script = (
        '<!-- Load mathjax -->\n<script src="https://cdn.example/m.js"></script>\n<!-- End of mathjax configuration -->'
    )
    page = (
        f"<head>{script}</head><p>$$a &lt; \\text{{b}}$$ and $x_1$, a <a href="
        '"../docs/glossary.md#iou">mean <em>IoU</em></a>, <a href="#top">top</a></p>'
        '<li><a href="#my_giou_check">Test cell</a> (Score: 0.0 / 2.0)</li>'
        "<p>it costs $5 or \\$6$, $\\nothing{known}$</p><pre>echo $HOME $PATH</pre><code>$a$</code>"
    )
    alone = on_its_own(page)
    assert "https:" not in alone.replace("http://www.w3.org", "") and "script" not in alone
    assert alone.count("<math ") == 2 and 'display="block"' in alone and "<msub>" in alone
    assert '<a href="#my_giou_check">my_giou</a> (Score: 0.0' in alone
    assert "a mean <em>IoU</em>, <a" in alone and '<a href="#top">top</a>' in alone
    for kept in ("it costs $5 or \\$6$", "$\\nothing{known}$", "<pre>echo $HOME $PATH</pre>", "<code>$a$</code>"):
        assert kept in alone


def test_the_table_is_safe_to_open():
    row = {"name": "=f", "points": 1.0, "of": 2.0, "message": "=cmd()\nx"}
    text = grades_csv([(submissions.Submission("@eve", "03_losses", None), {"exercises": [row]})])
    assert text.splitlines()[1] == "'@eve,03_losses,'=f,1,2,'=cmd() x"


PROBE = """
import os, socket, sys
from pathlib import Path
from pgpt_lib.course import sandbox
inside, outside = Path(sys.argv[1]), Path(sys.argv[2])
sandbox.limit(2 * 2**30)
sandbox.confine(inside, [])
(inside / "new").write_text("x")
tries = {
    "write": lambda: (outside / "old").write_text("y"),
    "create": lambda: (outside / "new").write_text("y"),
    "remove": lambda: (outside / "old").unlink(),
    "folder": lambda: (outside / "folder").mkdir(),
    "rename": lambda: os.rename(inside / "new", outside / "moved"),
    "link": lambda: os.link(outside / "old", inside / "linked"),
    "child": lambda: 1 / os.system(f"echo y > {outside / 'old'} 2>/dev/null"),
    "signal": lambda: os.kill(os.getppid(), 0),
    "connect": lambda: socket.create_connection(("127.0.0.1", int(sys.argv[3])), 2),
    "memory": lambda: bytearray(3 * 2**30),
}
for name, attempt in tries.items():
    try:
        attempt()
        print(name, "done")
    except (OSError, MemoryError) as error:
        print(name, type(error).__name__)
"""


@pytest.mark.skipif(sandbox.landlock_version() < 1, reason="this system has no Landlock")
def test_a_confined_process_can_change_nothing_elsewhere(tmp_path):
    import socket

    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir(), outside.mkdir()
    (outside / "old").write_text("x")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-c", PROBE, inside, outside, str(port)],
            cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    told = dict(line.split() for line in done.stdout.splitlines())
    assert told.pop("child") == "done", done.stderr  # the shell ran, and could not write: see below
    isolated = sandbox.isolation()
    assert (told.pop("connect") != "done") == isolated["connections"]
    assert (told.pop("signal") != "done") == isolated["signals"]
    assert len(told) == 7 and "done" not in told.values()
    assert [p.name for p in outside.iterdir()] == ["old"] and (outside / "old").read_text() == "x"
