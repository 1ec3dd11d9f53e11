"""The table of all profiles: numbers where there is a report, "not run" where there is none, never a guess."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from pgpt_lib import by_profile, notebook, project
from pgpt_lib.report import write_report

MACHINE = {"processor": "x", "cores": 2, "memory_gb": 8, "accelerators": []}


def report(profile: str, **training: object) -> dict:
    scores = {"n": 12, "acc@0.5": [0.5, 0.25, 0.75], "ciou": None, "emission_rate": [1, 1, 1]}
    metrics = {"refshapes-refcoco/val": scores, "05_training": {"training": training}}
    return {"profile": profile, "metrics": metrics, "seconds": {"a": 60.0, "b": 30.0}, "machine": MACHINE}


def write(folder: Path, content: dict) -> Path:
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(content))
    return folder


def test_a_profile_without_a_report_is_not_run(tmp_path: Path) -> None:
    write(tmp_path / "cpu", report("cpu"))
    found = by_profile.by_profile(reports=tmp_path)
    assert list(found) == list(by_profile.COLUMNS) and found["gpu"] is None
    assert found["cpu"] is not None and found["cpu"]["minutes"] == 1.5 and found["cpu"]["acc@0.5"] == [0.5, 0.25, 0.75]
    lines = [line.split(" | ") for line in by_profile.as_markdown(found).splitlines()]
    head = [cell.strip("| ") for cell in lines[0]]
    cpu, gpu = head.index("`cpu`"), head.index("`gpu`")
    assert [line[gpu] for line in lines[3:]] == ["not run"] * (len(by_profile.ROWS) - 1)
    assert "smollm2-135m" in lines[2][gpu], "what it would be run with"
    shown = {line[0].strip("| "): line[cpu] for line in lines[2:]}
    assert (
        shown["Acc@0.5"] == "0.500 [0.250, 0.750]" and shown["cIoU"] == "–" and shown["machine"] == "x, 2 cores, 8 GB"
    )


def test_a_run_on_a_card_says_what_it_took(tmp_path: Path) -> None:
    write(tmp_path / "gpu", report("gpu", peak_memory_gb=14.25, mfu=0.31))
    found = by_profile.by_profile(reports=tmp_path)["gpu"]
    assert found is not None and (found["peak_memory_gb"], found["mfu"]) == (14.25, 0.31)


def test_the_column_is_on_a_reports_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's own report counts before it is written; the other columns are those of the project."""
    monkeypatch.delenv(notebook.RUN_TOKEN, raising=False)
    run = notebook.start("smoke", str(tmp_path / "out"), 3, slug="06_evaluation")
    run.finish(metrics={"refshapes-refcoco/val": {"n": 2, "acc@0.5": [0.5, 0.25, 0.75]}})
    monkeypatch.setattr(by_profile, "read_json", lambda path: None)  # a fresh clone without reports
    page = write_report(tmp_path / "out").read_text()
    made = json.loads((tmp_path / "out" / "report.json").read_text())["profiles"]
    assert made["smoke"]["acc@0.5"] == [0.5, 0.25, 0.75] and made["gpu"] is None
    table = page.partition(">By profile</h2>")[2].partition("</table>")[0]
    assert (
        '<th scope="col">gpu</th>' in table and "<td>not run</td>" in table and '0.500 <span class="interval">' in table
    )


def test_the_documentation_has_the_table_of_the_reports() -> None:
    assert by_profile.main(["--check"]) == 0, "run `make results`"


def test_what_is_under_version_control_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "ROOT", tmp_path)
    folder = write(tmp_path / "reports" / "cpu", report("cpu"))
    assert by_profile.published()["cpu"] is not None, "without a repository the disk counts"
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    assert by_profile.published()["cpu"] is None
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    (folder / "report.json").write_text(json.dumps(report("cpu") | {"seconds": {}}))  # a run of one's own
    found = by_profile.published()["cpu"]
    assert found is not None and found["minutes"] == 1.5


def test_a_page_without_a_place_for_the_table_is_an_error() -> None:
    begin, end = by_profile.MARKS
    assert by_profile.with_table(f"a\n{begin}\nold\n{end}\nb", "new") == f"a\n{begin}\n\nnew\n\n{end}\nb"
    with pytest.raises(ValueError, match="0 places"):
        by_profile.with_table("a", "new")
