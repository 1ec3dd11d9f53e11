"""The runner of the series, on throw-away notebooks: reuse, continuing, and every way in which a notebook can fail."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from pgpt_lib import notebook, project, reproduce, reuse
from pgpt_lib.config import load_profile
from pgpt_lib.errors import InputError, RunError
from pgpt_lib.notebook_parameters import check, declared, parse_assignments
from pgpt_lib.report import gather, write_report

PARAMETERS = """profile: str = "smoke"  # name of a profile
out_dir: str = ""  # folder of the run
seed: int = 0  # seed of everything random
scale: float = 1.0  # a factor"""
START = "from pgpt_lib.notebook import start\nrun = start(profile, out_dir, seed, slug={slug!r})"
FINISH = "run.finish(metrics={'scale': scale})"


def write(folder: Path, slug: str, *cells: str, parameters: str = PARAMETERS, finish: str = FINISH) -> Path:
    """A notebook of parameters, start, the given cells and finish."""
    made = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    made += [nbformat.v4.new_code_cell(text) for text in (START.format(slug=slug), *cells, finish) if text]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    folder.mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=kernel), folder / f"{slug}.ipynb")
    return folder / f"{slug}.ipynb"


@pytest.fixture
def series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs the notebooks of tmp_path/notebooks into tmp_path/out; collects the log in `run.lines`.

    The library's own digest is held fixed, so that editing a module while the tests run changes nothing.
    """
    lines: list[str] = []
    monkeypatch.setattr(reproduce, "common_inputs", lambda profile: {"library": "same"})

    def run(**settings):
        settings = {"notebooks": tmp_path / "notebooks", "log": lines.append, **settings}
        return reproduce.run_series("smoke", tmp_path / "out", **settings)

    run.lines = lines
    run.notebooks = tmp_path / "notebooks"
    run.out = tmp_path / "out"
    return run


def test_reuse_and_what_ends_it(series):
    write(series.notebooks, "01_first", "print(scale)")
    write(series.notebooks, "02_second", "assert run.need('01_first').exists()")
    assert series().executed == ["01_first", "02_second"]
    before = {p: p.stat().st_mtime_ns for p in series.out.glob("*/result.json")}
    again = series()
    assert again.executed == [] and list(again.seconds) == ["01_first", "02_second"]
    assert {p: p.stat().st_mtime_ns for p in series.out.glob("*/result.json")} == before
    # A changed parameter runs the notebook again, and what read its result with it.
    assert series(parameters={"scale": 2}).executed == ["01_first", "02_second"]
    assert json.loads((series.out / "01_first/result.json").read_text())["metrics"]["scale"] == 2
    # So does a changed source; a notebook that does not depend on it is kept.
    write(series.notebooks, "02_second", "print('new')")
    assert series(parameters={"scale": 2}).executed == ["02_second"]
    text = (series.out / "01_first/01_first.ipynb").read_text()
    assert str(series.out) not in text and str(project.ROOT) not in text


def test_what_every_notebook_depends_on():
    smoke, cpu = (reuse.common_inputs(load_profile(name)) for name in ("smoke", "cpu"))
    assert set(smoke) == {"profile", "library", "data", "versions", "root"}
    assert smoke["profile"] != cpu["profile"] and smoke["versions"] == cpu["versions"]
    assert smoke["library"] and smoke["data"]


def test_outdated_names_the_reason(tmp_path):
    inputs = {"notebook": "a", "library": "b"}
    folder = tmp_path / "01_first"
    folder.mkdir()
    assert reuse.outdated(tmp_path, "01_first", inputs) == "not done before"
    (folder / "result.json").write_text("{}")
    record = {"inputs": inputs, "finished": True, "needs": {"00_zero": "x"}, "seconds": 1}
    record["result"] = reuse.digest(folder / "result.json")
    (folder / "run.json").write_text(json.dumps(record))
    assert reuse.outdated(tmp_path, "01_first", inputs) == "00_zero has a new result"
    assert reuse.outdated(tmp_path, "01_first", {**inputs, "library": "c"}) == "changed: library"
    (folder / "result.json").write_text("{ }")
    assert reuse.outdated(tmp_path, "01_first", inputs) == "not finished before"


def test_a_failing_cell_keeps_what_came_before(series):
    write(series.notebooks, "01_first", "print('seen until here')", "1 / 0")
    with pytest.raises(RunError, match="01_first failed in cell .*ZeroDivisionError"):
        series()
    executed = series.out / "01_first/01_first.ipynb"
    assert "seen until here" in executed.read_text()
    assert not (series.out / "01_first/result.json").exists()


def test_bad_input_inside_a_notebook_stays_bad_input(series):
    write(series.notebooks, "01_first", "from pgpt_lib.errors import InputError", "raise InputError('root x')")
    with pytest.raises(InputError, match="root x"):
        series()


@pytest.mark.parametrize("end", ["os._exit(9)", "os.kill(os.getpid(), 9)"], ids=["exit", "out of memory killer"])
def test_a_dead_kernel_is_a_failure(series, end):
    write(series.notebooks, "01_first", "print('alive')", f"import os; {end}", "print('never')")
    with pytest.raises(RunError, match="lost its kernel"):
        series()
    assert "alive" in (series.out / "01_first/01_first.ipynb").read_text()


def test_out_of_memory_is_a_failure(series):
    """The kernel's memory is bounded, and a cell asks for more."""
    bound = "import resource, psutil\nused = psutil.Process().memory_info().vms\n"
    bound += "resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))\nprint('bounded')"
    write(series.notebooks, "01_first", bound, "hoard = bytearray(2**30)")
    with pytest.raises(RunError, match="01_first failed in cell .*MemoryError"):
        series()
    assert "bounded" in (series.out / "01_first/01_first.ipynb").read_text()
    assert not (series.out / "01_first/result.json").exists()


def test_a_result_of_an_earlier_run_is_no_result(series):
    """Only a result.json that this very run wrote counts, whatever the cells' states say."""
    write(series.notebooks, "01_first", finish="print('no finish')")
    (series.out / "01_first").mkdir(parents=True)
    (series.out / "01_first/result.json").write_text('{"run": null}')
    with pytest.raises(RunError, match="without writing"):
        series()


def test_a_time_limit_keeps_the_output(series):
    write(series.notebooks, "01_first", "print('begun', flush=True)\nimport time; time.sleep(60)")
    with pytest.raises(RunError, match="took longer than 3 s"):
        series(timeout_minutes=0.05)
    assert "begun" in (series.out / "01_first/01_first.ipynb").read_text()


def test_parameters_are_validated_before_anything_is_written(series):
    write(series.notebooks, "01_first")
    for parameters, message in (
        ({"sclae": 1.0}, r"unknown parameter 'sclae'; there are\n(?s:.*)scale: float = 1.0 \(a factor\)"),
        ({"seed": "three"}, "seed = 'three' is str, 01_first declares seed: int"),
        ({"seed": True}, "seed = True is bool"),
        ({"profile": "cpu"}, "given as --profile"),
    ):
        with pytest.raises(InputError, match=message):
            series(parameters=parameters)
    with pytest.raises(InputError, match="unknown notebook '09_none'"):
        series(only=["09_none"])
    with pytest.raises(InputError, match="nowhere"):
        series(root=str(series.out / "nowhere"))
    with pytest.raises(InputError, match="profile smoke trains on refshapes, which reads no folder"):
        series(root=str(series.notebooks))
    assert not series.out.exists()


def test_assignments():
    given = parse_assignments(["a=3", "b=0.5", "c=word", "d=", "e=x=y"])
    assert given == {"a": 3, "b": 0.5, "c": "word", "d": "", "e": "x=y"}
    for text in ("a", "=3", "a=[", "1a=2"):
        with pytest.raises(InputError, match="-p"):
            parse_assignments([text])
    with pytest.raises(InputError, match="twice"):
        parse_assignments(["a=1", "a=2"])


def test_the_parameters_cell_holds_literals_only(tmp_path):
    for text in ("a: int = 1 + b", "import os", "a, b = 1, 2", "f()"):
        made = nbformat.read(write(tmp_path, "01_first", parameters=text), as_version=4)
        with pytest.raises(RunError, match="literals only"):
            declared(made, "01_first")
    write(tmp_path, "01_first", parameters="steps: int | None = None  # how many\nx = 2.0")
    found = declared(nbformat.read(tmp_path / "01_first.ipynb", as_version=4), "01_first")
    assert str(found["steps"]) == "steps: int | None = None (how many)" and found["x"].kind == "float"
    check({"steps": 3, "x": 1}, {"01_first": found})
    check({"steps": None}, {"01_first": found})
    with pytest.raises(InputError):
        check({"x": None}, {"01_first": found})


def test_two_runs_in_one_folder_are_refused(series):
    write(series.notebooks, "01_first")
    with reproduce._only_run(series.out):
        with pytest.raises(InputError, match=f"another run \\(process {os.getpid()}\\)"):
            series()
    with reproduce._only_run(series.out):
        assert (series.out / ".run.pid").read_text() == f"{os.getpid()}\n"


RUN = """import sys
from pathlib import Path
from pgpt_lib import reproduce
reproduce.common_inputs = lambda profile: {"library": "same"}
done = reproduce.run_series("smoke", sys.argv[2], notebooks=Path(sys.argv[1]), log=lambda line: None)
print("executed", *done.executed)"""
SMALL_DISK = """mount -t tmpfs -o size=500k tmpfs {out} || exit 99
"$@"; echo status $?
cat {out}/01_first/result.json > {kept}
mount -o remount,size=20m {out}
"$@"; echo status $?"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell",
    ["(run.folder / 'blob').write_bytes(bytes(10**6))", "print('x' * 10**6)"],
    ids=["a cell's file", "the notebook's copy"],
)
def test_a_full_disk_fails_one_notebook_and_spoils_none(series, tmp_path, cell):
    """A disk of 500 KB fills up in the second notebook; the first stays whole, and with room the run goes on."""
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "-Urm", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]).returncode:
        pytest.skip("no file system of one's own can be mounted here")
    write(series.notebooks, "01_first")
    write(series.notebooks, "02_second", cell)
    series.out.mkdir()
    script = SMALL_DISK.format(out=series.out, kept=tmp_path / "kept.json")
    command = [sys.executable, "-c", RUN, str(series.notebooks), str(series.out)]
    done = subprocess.run([unshare, "-Urm", "sh", "-c", script, "sh", *command], capture_output=True, text=True)
    assert done.stdout.split("\n")[:3] == ["status 1", "executed 02_second", "status 0"], done.stderr
    assert "No space left on device" in done.stderr
    assert json.loads((tmp_path / "kept.json").read_text())["slug"] == "01_first"


def test_a_second_process_is_refused_while_the_first_works_on(series):
    work = "import time\n(run.folder / 'begun').touch()\nwhile not (run.folder / 'go').exists(): time.sleep(0.1)"
    write(series.notebooks, "01_first", work)
    command = [sys.executable, "-c", RUN, str(series.notebooks), str(series.out)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    began = time.time()
    while not (series.out / "01_first/begun").exists():
        assert first.poll() is None and time.time() - began < 60
        time.sleep(0.1)
    second = subprocess.run(command, capture_output=True, text=True)
    (series.out / "01_first/go").touch()
    assert second.returncode == 1 and f"another run (process {first.pid}) is at work" in second.stderr
    assert first.communicate()[0] == "executed 01_first\n" and first.returncode == 0


def test_a_killed_run_goes_on(series, tmp_path):
    """SIGKILL in the second notebook: the first is kept, the orphaned kernel ends, the second continues."""
    write(series.notebooks, "01_first")
    work = (
        "marks = run.folder / 'marks'",
        "marks.mkdir(exist_ok=True)\nearlier = len(list(marks.iterdir()))\n(marks / str(earlier)).touch()",
        "import time\nif not earlier: time.sleep(60)",
    )
    write(series.notebooks, "02_second", *work)
    command = [sys.executable, "-c", RUN, str(series.notebooks), str(series.out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    began = time.time()
    while not (series.out / "02_second/marks/0").exists():
        assert process.poll() is None and time.time() - began < 60
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    first = (series.out / "01_first/result.json").stat().st_mtime_ns
    assert series().executed == ["02_second"]
    assert (series.out / "01_first/result.json").stat().st_mtime_ns == first
    assert sorted(p.name for p in (series.out / "02_second/marks").iterdir()) == ["0", "1"]


def test_fresh_discards(series):
    write(series.notebooks, "01_first")
    (series.out / "01_first").mkdir(parents=True)
    (series.out / "01_first/left").touch()
    assert series(fresh=True).executed == ["01_first"]
    assert not (series.out / "01_first/left").exists()


def test_products_of_other_settings_are_put_aside(tmp_path):
    (tmp_path / "05_training").mkdir()
    (tmp_path / "checkpoint/step_2").mkdir(parents=True)
    reproduce._discard(tmp_path, "05_training")
    assert (tmp_path / "checkpoint.previous/step_2").is_dir() and not (tmp_path / "checkpoint").exists()


def test_a_notebook_alone(tmp_path, monkeypatch):
    """The helper outside any run: settings, a small figure with its text, an earlier result, a result of its own."""
    import matplotlib

    matplotlib.use("agg")
    import numpy as np
    from matplotlib import pyplot

    monkeypatch.delenv(notebook.RUN_TOKEN, raising=False)
    first = notebook.start("smoke", str(tmp_path), 3, slug="01_first")
    figure, axes = pyplot.subplots(figsize=(9, 6))
    axes.imshow(np.random.default_rng(0).random((600, 900, 3)))
    (first.folder / "old.png").touch()
    first.figure(figure, "noise", alt="noise")
    assert 1000 < (first.folder / "noise.png").stat().st_size <= notebook.FIGURE_BYTES
    tables = {"table7": {"ours": {"Embed": {"7B box": 1.0}}}}
    first.finish(metrics={"x": [np.float32(0.5), 0.25, float("nan")]}, tables=tables)
    result = json.loads((first.folder / "result.json").read_text())
    assert result["metrics"] == {"x": [0.5, 0.25, None]} and result["seed"] == 3
    assert result["figures"] == [{"file": "noise.png", "alt": "noise"}] and not (first.folder / "old.png").exists()
    second = notebook.start("smoke", str(tmp_path), 3, slug="02_second")
    second.need("01_first")
    assert set(second.needs) == {"01_first"}
    second.finish(metrics={"refshapes-refcoco/val": {"n": 2, "acc@0.5": [0.5, 0.25, 0.75]}})

    page = write_report(tmp_path).read_text()
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["profile"] == "smoke" and set(report["seconds"]) == {"01_first", "02_second"}
    assert report["metrics"]["refshapes-refcoco/val"]["n"] == 2
    assert report["metrics"]["01_first"] == {"x": [0.5, 0.25, None]}
    assert report["tables"]["table7"]["paper"]["Token Embed"]["7B box"] == 0.15
    assert 'src="01_first/noise.png" alt="noise"' in page and "level smoke" in page
    assert {c["verdict"] for c in report["claims"].values()} == {"not measurable here"} and "paper's claims" in page


def test_need_makes_what_is_missing_or_says_how(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(notebook, "_stream", lambda command, failure: calls.append(command))
    monkeypatch.delenv(notebook.RUN_TOKEN, raising=False)
    run = notebook.start("smoke", str(tmp_path), 7, slug="06_evaluation")
    with pytest.raises(RunError, match="run --profile smoke --out .* --only 05_training -p seed=7"):
        run.need("05_training")
    assert calls[0][1:5] == ["-m", "pgpt_lib", "run", "--profile"]
    monkeypatch.setenv(notebook.RUN_TOKEN, "x")
    with pytest.raises(InputError, match="06_evaluation needs the result of 05_training"):
        run.need("05_training")
    run.finish()


def test_use_takes_what_is_there_and_makes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(notebook, "_stream", lambda command, failure: pytest.fail("made"))
    earlier = notebook.start("smoke", str(tmp_path), 7, slug="05_training")
    run = notebook.start("smoke", str(tmp_path), 7, slug="09_speed")
    assert run.use("05_training") is None and run.needs == {}
    earlier.finish()
    assert run.use("05_training") == tmp_path / "05_training" / "result.json" and "05_training" in run.needs
    other = notebook.start("smoke", str(tmp_path), 8, slug="10_paper_code_ours")
    assert other.use("05_training") is None  # of another seed
    run.finish()
    other.finish()


def test_start_refuses_bad_input(tmp_path):
    good = {"profile": "smoke", "out_dir": str(tmp_path / "out"), "seed": 0, "slug": "01_x"}
    for settings, message in (
        ({"profile": "cpuu"}, "cpuu"),
        ({"seed": -1}, "-1"),
        ({"seed": "1"}, "'1'"),
        ({"slug": "losses"}, "losses"),
    ):
        with pytest.raises(InputError, match=message):
            notebook.start(**{**good, **settings})
    assert not (tmp_path / "out").exists()


def test_report_refuses_what_does_not_belong_together(tmp_path):
    with pytest.raises(InputError, match="no NN_slug/result.json"):
        gather(tmp_path)
    for slug, checkpoint in (("05_training", "a"), ("06_evaluation", "b")):
        notebook.start("smoke", str(tmp_path), slug=slug).finish(checkpoint=checkpoint)
    with pytest.raises(RunError, match="different checkpoints"):
        gather(tmp_path)
