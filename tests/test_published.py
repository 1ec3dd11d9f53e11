"""The end of a run: how many metrics lie within the intervals of the committed report."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from pgpt_lib import cli, project, published
from pgpt_lib.errors import InputError
from pgpt_lib.reproduce import Summary


def write_report(folder: Path, *values: float, seed: int = 0) -> Path:
    """A report of as many metrics as values, each with an interval of a tenth to both sides."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {"set/val": {f"metric {i}": [v, v - 0.1, v + 0.1] for i, v in enumerate(values)}}
    report = {"profile": "cpu", "seed": seed, "metrics": metrics, "claims": {}}
    (folder / "report.json").write_text(json.dumps(report))
    result = folder / "05_training" / "result.json"
    result.parent.mkdir(exist_ok=True)
    result.write_text(json.dumps({"config": {"training": {"steps": 9}}}))
    return folder


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose last commit holds a report of three metrics, in a folder below its top."""
    root = tmp_path / "top" / "project"
    write_report(root / "reports" / "cpu", 0.5, 0.6, 0.7)
    monkeypatch.setattr(project, "ROOT", root)
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "report"]):
        subprocess.run(["git", *command], cwd=root.parent, check=True)
    return root


def test_what_was_committed_counts_not_what_the_run_wrote_over_it(repository: Path) -> None:
    out = write_report(repository / "reports" / "cpu", 0.55, 0.6, 0.9)
    found = published.against_published("cpu", out)
    assert found is not None and (found["within"], found["compared"], found["settings"]) == (2, 3, {})
    assert published.in_words(found, out) == (
        "2 of 3 metrics within the published interval. Outside: set/val: metric 2."
    )


def test_of_many_outside_the_first_are_named() -> None:
    rows = [{"name": f"metric {i}", "within": False} for i in range(published.NAMED + 2)]
    said = published.in_words({"summary": "None within.", "metrics": rows}, Path("runs/mine"))
    assert said.startswith("None within. Outside: metric 0, ") and f"metric {published.NAMED}" not in said
    assert "and 2 more (`python -m pgpt_lib compare runs/mine` lists all)." in said


def test_another_seed_is_said(repository: Path, tmp_path: Path) -> None:
    out = write_report(tmp_path / "out", 0.5, 0.6, 0.7, seed=1)
    found = published.against_published("cpu", out)
    assert found is not None
    assert published.in_words(found, out) == "3 of 3 metrics within the published interval, with another seed."


def test_a_profile_without_a_published_report(repository: Path, tmp_path: Path) -> None:
    write_report(repository / "reports" / "smoke", 0.5)  # there, but not committed
    assert published.against_published("smoke", write_report(tmp_path / "out", 0.5)) is None


def test_without_a_repository_the_folder_counts_unless_it_is_the_runs(repository: Path, tmp_path: Path) -> None:
    shutil.rmtree(repository.parent / ".git")
    out = write_report(tmp_path / "out", 0.5, 0.6, 0.1)
    found = published.against_published("cpu", out)
    assert found is not None and found["within"] == 2
    assert published.against_published("cpu", repository / "reports" / "cpu") is None


@pytest.mark.parametrize("flags", [[], ["--json"]])
@pytest.mark.parametrize("profile", ["cpu", "smoke"])
def test_run_ends_with_it(
    repository: Path, tmp_path: Path, profile: str, flags: list[str],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = write_report(tmp_path / "out", 0.5, 0.6, 0.9)
    monkeypatch.setattr("pgpt_lib.requirements.problems", lambda: [])
    monkeypatch.setattr("pgpt_lib.reproduce.run_series", lambda *a, **k: Summary(out))
    monkeypatch.setattr("pgpt_lib.report.write_report", lambda folder: folder / "index.html")
    with pytest.raises(SystemExit) as end:
        cli.main(["run", "--profile", profile, "--out", str(out), *flags])
    printed = capsys.readouterr().out.strip()
    assert end.value.code == 0
    if flags:
        told = json.loads(printed)["published"]
        sentence = "2 of 3 metrics within the published interval."
        assert told == ({"summary": sentence, "within": 2, "compared": 3} if profile == "cpu" else None)
    else:
        words = "2 of 3 metrics within" if profile == "cpu" else "No report of profile smoke is published"
        first, page = printed.splitlines()
        assert first.startswith(words) and page == str(out / "index.html")


@pytest.mark.parametrize("name", ["", "report.json"])
def test_the_command_holds_a_report_alone_against_what_was_committed(
    repository: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = write_report(repository / "reports" / "cpu", 0.55, 0.6, 0.9)
    with pytest.raises(SystemExit) as end:
        cli.main(["compare", str(out / name), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert end.value.code == 0 and (found["within"], found["compared"]) == (2, 3)


def test_a_report_whose_profile_has_none_published_is_refused(repository: Path, tmp_path: Path) -> None:
    out = write_report(tmp_path / "out", 0.5)
    (out / "report.json").write_text(json.dumps({"profile": "mine", "metrics": {}}))
    with pytest.raises(InputError, match="no report of profile 'mine' is published"):
        published.its_published(out)
