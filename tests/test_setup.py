"""Setting up without make, and running the tests through the command line."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from pgpt_lib import setup_venv
from pgpt_lib.commands import test as command
from pgpt_lib.project import ROOT


def test_a_bare_python_is_told_what_to_do():
    """-S leaves out all installed packages, as on a fresh machine."""
    line = [sys.executable, "-S", "-m", "pgpt_lib", "run", "--profile", "smoke"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert sys.executable in done.stderr and (".venv" in done.stderr or "pgpt_lib setup" in done.stderr)


@pytest.fixture
def commands(monkeypatch) -> list[list[str]]:
    """What `setup` would run, instead of running it."""
    ran: list[list[str]] = []
    monkeypatch.setattr(setup_venv, "_run", lambda line: ran.append(line))
    return ran


def test_setup_makes_an_environment_with_pip_and_the_pinned_releases(commands, tmp_path, capsys):
    folder = tmp_path / "venv"
    setup_venv.setup(folder)
    python = setup_venv.python_of(folder)
    assert subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0
    (line,) = commands
    assert line[0] == str(python) and line[line.index("--constraint") + 1] == "requirements.lock"
    assert (folder / ".installed").is_file() and str(folder) in capsys.readouterr().out


def test_setup_keeps_what_works_and_replaces_what_does_not(commands, monkeypatch, tmp_path):
    folder = tmp_path / "venv"
    folder.mkdir()
    (folder / "mine").touch()
    with monkeypatch.context() as patch:
        patch.setattr(setup_venv, "_has_pip", lambda python: True)
        setup_venv.setup(folder)
    assert (folder / "mine").exists()
    monkeypatch.setattr(setup_venv.venv, "create", lambda folder, **options: folder.mkdir())
    setup_venv.setup(folder)  # no Python in it: broken
    assert folder.is_dir() and not (folder / "mine").exists()


def test_an_environment_without_pip_gets_it_from_outside(commands, monkeypatch, tmp_path):
    def create(folder, with_pip=False, **options):
        if with_pip:
            raise subprocess.CalledProcessError(1, "ensurepip")

    monkeypatch.setattr(setup_venv.venv, "create", create)
    (tmp_path / "venv").mkdir()
    monkeypatch.setattr(setup_venv.shutil, "rmtree", lambda *a, **k: None)
    setup_venv.setup(tmp_path / "venv")
    assert commands[0][:2] == [sys.executable, "-m"] and "--python" in commands[0] and len(commands) == 2


def test_an_old_python_is_refused(commands, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(setup_venv, "OLDEST", (99, 0))
    with pytest.raises(SystemExit) as stopped:
        setup_venv.setup(tmp_path / "venv")
    assert stopped.value.code == 2 and "99.0" in capsys.readouterr().err and not commands


def test_a_failed_installation_ends_with_its_status(capsys):
    with pytest.raises(SystemExit) as stopped:
        setup_venv._run([sys.executable, "-c", "raise SystemExit(7)"])
    assert stopped.value.code == 7 and "failed with status 7" in capsys.readouterr().err


def test_the_tests_run_two_files_at_a_time_and_give_their_status(monkeypatch):
    ran = {}

    def run(line, **options):
        ran.update(line=line, **options)
        return SimpleNamespace(returncode=5)

    monkeypatch.setattr(command.subprocess, "run", run)
    with pytest.raises(SystemExit) as stopped:
        command.test(["-k", "boxes"], processes=2)
    assert stopped.value.code == 5 and ran["line"][-2:] == ["-k", "boxes"]
    assert "--numprocesses=2" in ran["line"] and ran["env"]["HF_HUB_OFFLINE"] == "1"
