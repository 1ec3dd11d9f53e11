"""The whole series in the smoke profile, as `make run PROFILE=smoke` runs it, and its report."""

import json
import re
import subprocess
import sys

import pytest

from pgpt_lib import project
from pgpt_lib.checkpoint import find_checkpoint
from pgpt_lib.data.refshapes.export import write_refshapes
from pgpt_lib.files import read_json
from pgpt_lib.scoring import score_file

OTHER_WORDS = {}  # code in the meaning of a metric that names none of its keys
SCORE_KEYS = {"n", "missing", "acc@0.5", "miou_box", "ciou", "miou_mask", "p@0.5", "p@0.7", "p@0.9", "emission_rate"}


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


def documented(heading):
    """The keys of the tables under a heading of docs/results.md, each with the cell that says its meaning."""
    section = (project.ROOT / "docs/results.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.+?`(?:, `.+?`)*) \| (.+) \|$", section, re.M)
    return {key: meaning for names, meaning in rows for key in re.findall("`([^`]+)`", names)}


def named(meaning):
    """The keys that a meaning names: as code of one word, or in a JSON object."""
    return set(re.findall(r"`([a-z][\w.@]*)`", meaning)) | set(re.findall(r'"(\w+)":', meaning))


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
    assert set(report["claims"]) == {claim["id"] for claim in read_json(project.ROOT / "data/claims.json")["claims"]}


def test_metrics_are_as_documented(series):
    main = json.loads((series / "report.json").read_text())["metrics"]["refshapes-refcoco/val"]
    scores, more = documented("Metrics"), documented("What `evaluate` adds")
    assert set(scores) == SCORE_KEYS and set(main) == SCORE_KEYS | set(more)
    for key, meaning in more.items():
        if isinstance(main[key], dict) and key != "reasoning":
            assert set(main[key]) - {"parse_failure_rate", "n"} <= named(meaning), key
            assert named(meaning) - OTHER_WORDS.get(key, set()) <= set(main[key]), key
    assert set(main["reasoning"]) == SCORE_KEYS | {"failures", "parse_failure_rate"}
    assert all({"accuracy", "n", "majority"} == set(entry) for entry in main["questions"].values())


def test_every_notebook_left_a_result_and_pictures(series):
    for result in sorted(series.glob("[0-9]*/result.json")):
        content = json.loads(result.read_text())
        assert content["figures"], result
        for figure in content["figures"]:
            assert (result.parent / figure["file"]).stat().st_size < 160_000 and len(figure["alt"]) > 15


def test_a_finished_run_is_not_run_again(series):
    before = {p: p.stat().st_mtime_ns for p in series.glob("*/result.json")}
    assert command("run", "--profile", "smoke", "--out", series).returncode == 0
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
    assert "answer" in json.loads(asked.stdout) and (tmp_path / "o.png").exists()
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
