"""The whole series in the smoke profile, as `make run PROFILE=smoke` runs it, and its report."""

import json
import subprocess
import sys

import pytest
from results_page import SCORE_KEYS, check_metrics, documented, named

from pgpt_lib import project
from pgpt_lib.checkpoint import find_checkpoint
from pgpt_lib.data.refshapes.export import write_refshapes
from pgpt_lib.files import read_json
from pgpt_lib.scoring import score_file


def command(*arguments, **options):
    """`python -m pgpt_lib …`, its output captured."""
    line = [sys.executable, "-m", "pgpt_lib", *map(str, arguments)]
    return subprocess.run(line, cwd=project.ROOT, capture_output=True, text=True, timeout=1500, **options)


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """A finished run of the smoke profile."""
    out = tmp_path_factory.mktemp("series") / "out"
    done = command("run", "--profile", "smoke", "--out", out)
    assert done.returncode == 0, done.stderr[-3000:]
    assert str(out / "index.html") in done.stdout + done.stderr
    return out


def test_report_is_as_documented(series):
    report = json.loads((series / "report.json").read_text())
    keys = documented("report.json")
    inside = {key for key in keys if "/" in key}  # of `metrics`
    assert set(report) == set(keys) - inside and report["profile"] == "smoke"
    assert len(report["seconds"]) >= 7
    for key in inside:
        notebook, name = key.split("/")
        assert set(report["metrics"][notebook][name]) <= named(keys[key]) and report["metrics"][notebook][name], key
    assert {"table1", "table2", "table3", "table5"} <= set(report["tables"])
    assert all(named(keys["tables"]) <= set(table) for table in report["tables"].values())
    assert all(report["tables"][name]["data"] for name in ("table1", "table2", "table3", "table5"))
    assert None not in next(iter(report["tables"]["table5"]["ours"].values())).values()
    assert set(report["claims"]) == {claim["id"] for claim in read_json(project.ROOT / "data/claims.json")["claims"]}


def test_metrics_are_as_documented(series):
    metrics = json.loads((series / "report.json").read_text())["metrics"]
    check_metrics(metrics["refshapes-refcoco/val"])
    evaluation = metrics["06_evaluation"]
    assert set(evaluation["reasoning"]) == {"untrained", "trained"}
    assert evaluation["reasoning"]["untrained"] == metrics["refshapes-refcoco/val"]["reasoning"]
    assert set(evaluation["reasoning"]["trained"]) == SCORE_KEYS | {"failures", "parse_failure_rate"}
    # The same questions as after tuning, by type, and the untuned model's answers to them.
    before, after = evaluation["questions_before"], metrics["refshapes-refcoco/val"]["questions"]
    assert {kind: entry["n"] for kind, entry in before.items()} == {kind: entry["n"] for kind, entry in after.items()}
    assert before != after


def test_fine_tunes_are_told_apart(series):
    report = json.loads((series / "report.json").read_text())
    tuned = report["metrics"]["06_evaluation"]["tuned_checkpoints"]
    assert set(tuned) == {"reasoning", "caption", "question", "fact"}
    assert len({entry["checkpoint"] for entry in tuned.values()} | {report["checkpoint"]}) == 5
    assert {entry["steps"] for entry in tuned.values()} == {2}  # a twentieth of 40


def test_every_notebook_left_a_result_and_pictures(series):
    for result in sorted(series.glob("[0-9]*/result.json")):
        content = json.loads(result.read_text())
        assert content["figures"], result
        for figure in content["figures"]:
            assert (result.parent / figure["file"]).stat().st_size < 160_000 and len(figure["alt"]) > 15


def test_a_finished_run_is_not_run_again(series):
    before = {p: p.stat().st_mtime_ns for p in series.glob("*/result.json")}
    again = command("run", "--profile", "smoke", "--out", series, "--json")
    assert again.returncode == 0
    printed, keys = json.loads(again.stdout), named(documented("What commands print")["run"])
    inside = {"summary", "within", "compared"}  # of `published`
    assert set(printed) == keys - inside - {"null", "report.json"} and printed["executed"] == []
    assert set(printed["published"] or inside) == inside <= keys
    assert before == {p: p.stat().st_mtime_ns for p in series.glob("*/result.json")}


def test_the_checkpoint_answers_and_is_evaluated(series, tmp_path):
    from PIL import Image

    from pgpt_lib.data.refshapes import RefShapesImages

    picture = tmp_path / "scene.png"
    Image.fromarray(RefShapesImages().load_image("smoke-val-0-3")).save(picture)
    checkpoint = series / "checkpoint"
    asked = command(
        "ask",
        "--checkpoint",
        checkpoint,
        "--image",
        picture,
        "--question",
        "find the circle .",
        "--out",
        tmp_path / "o.png",
        "--json",
    )
    assert asked.returncode == 0, asked.stderr[-2000:]
    printed, keys = json.loads(asked.stdout), named(documented("What commands print")["ask"]) - {"null"}
    region = {"bbox", "segmentation", "depth"}
    assert set(printed) == keys - region and region <= keys and (tmp_path / "o.png").exists()
    assert all(set(given) == region for given in printed["regions"])
    scored = command(
        "evaluate",
        "--checkpoint",
        checkpoint,
        "--data",
        "refshapes",
        "--dataset",
        "refcoco",
        "--split",
        "val",
        "--scenes",
        3,
        "--seed",
        5,
        "--json",
        "--out",
        tmp_path / "answers.json",
    )
    assert scored.returncode == 0, scored.stderr[-2000:]
    scores = json.loads(scored.stdout)
    assert SCORE_KEYS | {"questions"} <= set(scores)
    written = write_refshapes(tmp_path / "shapes", 30, 5, "smoke")
    assert written["expressions"]["refcoco"]["val"] == scores["n"]
    again = score_file(tmp_path / "answers.json", tmp_path / "shapes", "refcoco", "val")
    assert all(value == pytest.approx(scores[key], rel=1e-12) for key, value in again.items())
    assert find_checkpoint(checkpoint)[1].step == 40
