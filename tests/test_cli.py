"""The command line from outside: exit statuses, messages, and standard output that holds the result alone."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from results_page import documented, named

from pgpt_lib import cli, project
from pgpt_lib.commands import _output, doctor
from pgpt_lib.config import load_profile
from pgpt_lib.errors import InputError, RunError
from pgpt_lib.project import ROOT


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "pgpt_lib", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys, time\nfrom pgpt_lib.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'papermill', 'matplotlib', 'numpy'} & set(sys.modules)))\n"
        "print(time.process_time())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    *page, heavy, seconds = done.stdout.splitlines()
    assert "  doctor " in "\n".join(page) and heavy == "[]"
    assert float(seconds) < 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--profile", "cpuu"], ["cpuu", "smoke"]),
        (["run", "--timeout", "-3"], ["--timeout", "'-3'"]),
        (["run", "--timeout=soon"], ["--timeout", "'soon'"]),
        (["nothing"], ["nothing"]),
        (["report", "--out", "nowhere"], ["nowhere"]),
    ],
)
def test_bad_input_exits_with_2_and_names_it(arguments, words):
    done = run(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert all(word in done.stderr for word in words) and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (InputError("box 3 of x.json"), 2, "error: box 3 of x.json"),
        (RunError("the disk is full"), 1, "error: the disk is full"),
        (KeyError("k"), 1, "error: KeyError: 'k' (set PGPT_TRACEBACK=1 to see where)"),
    ],
)
def test_errors_become_statuses(monkeypatch, capsys, error, status, message):
    def fail() -> None:
        raise error

    monkeypatch.delenv(cli.TRACEBACK, raising=False)
    monkeypatch.setattr(doctor, "doctor", fail)
    with pytest.raises(SystemExit) as exit:
        cli.main(["doctor"])
    assert exit.value.code == status
    assert capsys.readouterr().err.strip() == message
    monkeypatch.setenv(cli.TRACEBACK, "1")
    with pytest.raises(type(error)):
        cli.main(["doctor"])


def test_every_command_loads_and_explains_itself(capsys):
    for name in cli.LazyGroup(name="x").list_commands(None):
        with pytest.raises(SystemExit) as exit:
            cli.main([name, "--help"])
        assert exit.value.code == 0 and "--" in capsys.readouterr().out


def test_doctor_as_json():
    done = run("doctor", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == (1 if found["problems"] else 0)
    assert {"smoke", "cpu", "photos"} <= set(found["profiles"]) and found["versions"]["python"]
    assert found["machine"]["cores"] >= 1 and found["free"]["disk_gb"] > 0
    keys = named(documented("What commands print")["doctor"]) - {"report.json"}
    assert set(found).union(found["free"], found["profiles"]["cpu"]) == keys


def test_doctor_ends_with_what_is_wrong_on_standard_error(monkeypatch, capsys):
    wrong = ["torch 1.0 is outside >=2.13: run `make setup`", "typer is missing: run `make setup`"]
    monkeypatch.setattr("pgpt_lib.requirements.problems", lambda: wrong)
    with pytest.raises(SystemExit) as exit:
        cli.main(["doctor", "--json"])
    said = capsys.readouterr()
    assert exit.value.code == 1 and json.loads(said.out)["problems"] == wrong
    assert said.err.strip() == f"error: {'; '.join(wrong)}"


def test_doctor_says_what_does_not_fit():
    profile = load_profile("smoke", {"budget": {"memory_gb": 8, "disk_gb": 1}})
    fit = doctor.needs(profile, {"memory_gb": 2.0, "disk_gb": 5.0})
    assert not fit["fits"] and fit["lacks"] == ["memory: 8 GB needed, 2.0 free"]


def test_doctor_counts_cards():
    free = {"memory_gb": 999.0, "disk_gb": 999.0}
    profile = load_profile("paper-7b")
    assert doctor.needs(profile, free, cards=1)["lacks"] == ["cards: 8 needed, such as a100-80, 1 here"]
    assert doctor.needs(load_profile("gpu"), free)["lacks"] == ["cards: 1 needed, such as rtx3090, 0 here"]
    assert doctor.needs(profile, free, cards=8)["fits"] and doctor.needs(load_profile("cpu"), free)["fits"]


def test_doctor_prefers_measured_minutes_and_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(project, "report_folder", lambda name: tmp_path / name)
    budget = {"budget.minutes": {"04_model_and_decoding": 2, "05_training": 7, "06_evaluation": 3, "11_demo": 1}}
    profile = load_profile("photos", {**budget, "budget.minutes.01_layer_fusion": 4})
    free = {"memory_gb": 99.0, "disk_gb": 99.0}
    found = doctor.needs(profile, free)
    assert (found["minutes"], found["measured"]) == (17, 0)
    assert doctor._spoken_minutes("photos", found) == "about 17 min (as its notebooks expect)"
    (tmp_path / "photos").mkdir()
    seconds = {"05_training": 600, "06_evaluation": 30, "00_setup_and_data": 9999}  # the last is none of its series
    (tmp_path / "photos" / "report.json").write_text(json.dumps({"seconds": seconds}))
    found = doctor.needs(profile, free)
    assert (found["minutes"], found["measured"]) == (17.5, 10.5)
    spoken = doctor._spoken_minutes("photos", found)
    assert spoken == "about 18 min (10 of them measured in reports/photos)"


def test_standard_output_holds_one_object_whatever_libraries_print():
    code = (
        "import os\nfrom pgpt_lib.commands._output import results\n"
        "with results(True) as emit:\n"
        "    print('a library talks')\n    os.system('echo a child talks')\n    os.write(1, b'C code talks\\n')\n"
        "    emit({'value': 0.1 + 0.2, 'nothing': float('nan')})\n"
        "print('after')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    first, after = done.stdout.splitlines()
    assert json.loads(first) == {"value": 0.1 + 0.2, "nothing": None} and after == "after"
    assert all(word in done.stderr for word in ("library", "child", "C code"))


def test_emit_prints_text_or_a_listing(capsys):
    with _output.results(False) as emit:
        emit({"n": 3, "acc": [0.5, 0.25, 0.75], "sub": {"x": np.float64(1.5)}})
        emit({"n": 3}, "three")
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["n      3", "acc    0.5000 [0.2500, 0.7500]", "sub.x  1.5000", "three"]


def test_parameters_are_listed_by_notebook():
    listed = run("run", "--profile", "smoke", "--list-parameters")
    assert listed.returncode == 0
    assert "05_training\n" in listed.stdout and "  seed: int = 0 (seed of data, initial weights" in listed.stdout
    as_data = json.loads(run("run", "--profile", "smoke", "--list-parameters", "--json").stdout)
    notebooks = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
    assert list(as_data) == notebooks and as_data["05_training"]["steps"].startswith("steps: int = 0 (")
    photos = json.loads(run("run", "--profile", "photos", "--list-parameters", "--json").stdout)
    assert list(photos) == [slug for slug in notebooks if slug[:2] in ("01", "04", "05", "06", "11")]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("sede=1", ["unknown parameter 'sede'", "seed: int = 0", "steps: int = 0"]),
        ("seed=one", ["seed = 'one' is str", "declares seed: int = 0"]),
        ("seed", ["-p 'seed'", "name=value"]),
        ("profile=cpu", ["given as --profile"]),
    ],
)
def test_a_wrong_parameter_is_refused_with_the_right_ones(tmp_path, given, words):
    done = run("run", "--profile", "smoke", "--out", str(tmp_path / "out"), "-p", given)
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    assert all(word in done.stderr for word in words) and "Traceback" not in done.stderr


def test_a_sweep_of_notebooks_is_planned_and_refused_by_the_command(tmp_path):
    file = tmp_path / "seeds.yaml"
    file.write_text("profile: smoke\nnotebooks: [05_training]\nparameters: {steps: 2}\ngrid: {seed: [0, 1]}\n")
    planned = run("sweep", str(file), "--dry-run", "--jobs", "2")
    assert planned.returncode == 0 and "2 points of 1 notebooks" in planned.stdout and "seed=1" in planned.stdout
    file.write_text("profile: smoke\ngrid: {sede: [0, 1]}\n")
    refused = run("sweep", str(file))
    assert refused.returncode == 2 and "unknown parameter 'sede'" in refused.stderr
