"""`sweep FILE.yaml`: a grid over notebook parameters, its broken points, and going on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from test_reproduce import write

from pgpt_lib import project
from pgpt_lib.errors import InputError
from pgpt_lib.sweeps.notebook_grid import load_grid, run_grid

GRID = "profile: smoke\nfolder: notebooks\nparameters: {scale: 2.0}\ngrid: {seed: [0, 1, 2]}\n"
BREAK = "if seed == 1: raise ValueError('seed one breaks')\nif seed == 2: import os; os._exit(9)"


@pytest.fixture
def grid_file(tmp_path: Path) -> Path:
    write(tmp_path / "notebooks", "01_first", "print('begun with', seed)", BREAK)
    (tmp_path / "lr.yaml").write_text(GRID)
    return tmp_path / "lr.yaml"


def test_broken_points_are_marked_and_the_rest_goes_on(grid_file, tmp_path):
    lines: list[str] = []
    done = run_grid(load_grid(grid_file), tmp_path / "out", 2, False, lines.append)
    points = json.loads((tmp_path / "out/table.json").read_text())
    assert {name: p["status"] for name, p in points.items()} == {
        "seed=0": "done",
        "seed=1": "failed",
        "seed=2": "failed",
    }
    assert points["seed=0"]["metrics"] == {"01_first.scale": 2.0}
    assert "seed one breaks" in points["seed=1"]["error"] and "lost its kernel" in done["failed"]["seed=2"]
    for seed in (1, 2):
        assert f"begun with {seed}" in _printed(tmp_path / f"out/seed={seed}/01_first/01_first.ipynb")
    assert "seed one breaks" in (tmp_path / "out/table.md").read_text()
    kept = (tmp_path / "out/seed=0/01_first/result.json").stat().st_mtime_ns
    write(tmp_path / "notebooks", "01_first", "print('begun with', seed)", BREAK.replace("seed == 1", "seed == 3"))
    again = run_grid(load_grid(grid_file), tmp_path / "out", 2, False, lines.append)
    assert list(again["failed"]) == ["seed=2"] and again["points"]["seed=1"]["status"] == "done"
    assert (tmp_path / "out/seed=0/01_first/result.json").stat().st_mtime_ns != kept  # its source changed


def _printed(path: Path) -> str:
    cells = json.loads(path.read_text())["cells"]
    return "".join("".join(o.get("text", "")) for c in cells for o in c.get("outputs", ()))


def test_a_finished_point_is_kept(grid_file, tmp_path):
    grid_file.write_text(GRID.replace("[0, 1, 2]", "[0]"))
    grid = load_grid(grid_file)
    run_grid(grid, tmp_path / "out", 1, False, print)
    kept = (tmp_path / "out/seed=0/01_first/result.json").stat().st_mtime_ns
    assert run_grid(grid, tmp_path / "out", 1, False, print)["points"]["seed=0"]["status"] == "done"
    assert (tmp_path / "out/seed=0/01_first/result.json").stat().st_mtime_ns == kept


def test_points_and_dry_run(grid_file, tmp_path):
    grid_file.write_text(
        GRID.replace("}\n", ", scale: [1.0, 0.5]}\n").replace("parameters: {scale: 2.0, scale: [1.0, 0.5]}\n", "")
    )
    grid = load_grid(grid_file)
    assert list(grid.points())[:2] == ["seed=0,scale=1.0", "seed=0,scale=0.5"] and len(grid.points()) == 6
    dry = run_grid(grid, tmp_path / "out", 2, True, print)
    assert "6 points of 1 notebooks: 6 minutes, 2 at a time" in dry["text"] and not (tmp_path / "out").exists()
    assert run_grid(grid, None, 256, True, print)["minutes"] == 2, "no fewer than one point takes"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("profile: smoke\nfolder: notebooks\ngrid: {sead: [1]}", r"unknown parameter 'sead'; there are\n(?s:.*)seed"),
        ("profile: smoke\nfolder: notebooks\ngrid: {seed: [one]}", "seed = 'one' is str"),
        ("profile: smok\nfolder: notebooks\ngrid: {seed: [1]}", "unknown profile 'smok'"),
        ("profile: smoke\nfolder: notebooks\ngrid: {seed: 1}", "grid.seed"),
        ("profile: smoke\nfolder: notebooks\ngrid: {}", "grid"),
        ("profile: smoke\nfolder: notebooks\nseeds: 3\ngrid: {seed: [1]}", "seeds"),
        ("profile: smoke\nfolder: notebooks\nparameters: {seed: 2}\ngrid: {seed: [1]}", "seed stands in"),
        ("profile: smoke\nfolder: notebooks\nnotebooks: [09_none]\ngrid: {seed: [1]}", "unknown notebook '09_none'"),
        ("- 1", "a mapping"),
        ("a: [", "not YAML"),
    ],
)
def test_bad_files_are_refused_before_anything_runs(grid_file, text, message):
    grid_file.write_text(text)
    with pytest.raises(InputError, match=message):
        load_grid(grid_file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere.yaml: no such file"):
        load_grid(tmp_path / "nowhere.yaml")


def test_the_documented_grid_is_one(tmp_path):
    page = (project.ROOT / "docs/sweeps.md").read_text(encoding="utf-8")
    [text] = re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S)
    (tmp_path / "my_grid.yaml").write_text(text)
    assert list(load_grid(tmp_path / "my_grid.yaml").points())[:2] == ["seed=0,steps=20", "seed=0,steps=40"]
