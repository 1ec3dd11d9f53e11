"""Files that must agree with each other: dependencies, environment, the paper's numbers."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from pgpt_lib import requirements, setup_venv
from pgpt_lib.config import load_profile, profile_names
from pgpt_lib.errors import InputError
from pgpt_lib.project import ROOT
from pgpt_lib.report import paper_table

PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


PROJECT = tomllib.loads(PYPROJECT)["project"]
EXTRAS = PROJECT["optional-dependencies"]


def plain(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_environment_follows_pyproject():
    spec = importlib.util.spec_from_file_location("environment", ROOT / "tools" / "environment.py")
    environment = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(environment)
    assert (ROOT / "environment.yml").read_text(encoding="utf-8") == environment.render(PYPROJECT)
    assert set(EXTRAS) - environment.LEFT_OUT == set(setup_venv.EXTRAS.split(","))


def test_lock_pins_every_dependency_within_its_range():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and line[0] != "#"]
    pins = dict(re.fullmatch(r"([A-Za-z0-9._-]+)==([^+\s]+)", line).groups() for line in lines)
    pins = {plain(name): version for name, version in pins.items()}
    for text in sum((EXTRAS[name] for name in setup_venv.EXTRAS.split(",")), PROJECT["dependencies"]):
        wanted = Requirement(text)
        assert pins[plain(wanted.name)] in wanted.specifier, text


def undeclared(source: str, there: dict[str, list[str]]) -> set[str]:
    """The packages that Python code imports, and pyproject.toml does not name.

    Args:
        there: `metadata.packages_distributions()`; a module that is not installed is taken by its own name.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    declared = {plain(Requirement(text).name) for text in sum(EXTRAS.values(), PROJECT["dependencies"])}
    foreign = found - set(sys.stdlib_module_names) - {requirements.PACKAGE.replace("-", "_")}
    return {name for name in foreign if not {plain(d) for d in there.get(name, [name])} & declared}


def test_every_import_is_declared():
    there = dict(metadata.packages_distributions())
    assert undeclared("import os, yaml\nfrom PIL import Image\ndef f(): import numpy.linalg", there) == set()
    assert undeclared("import tornado.web\ndef f(): from pydantic_core import x", there) == {"tornado", "pydantic_core"}
    tests = {path.stem for path in (ROOT / "tests").rglob("*") if path.suffix == ".py" or path.is_dir()}
    for folder in ("pgpt_lib", "tools", "notebooks/src", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            lacking = undeclared(path.read_text(encoding="utf-8"), there)
            assert not (lacking - tests if folder == "tests" else lacking), path


def test_profiles_load_and_ship_with_the_package():
    assert {"smoke", "cpu", "photos"} <= set(profile_names())
    assert len({load_profile(name).digest() for name in profile_names()}) == len(profile_names())


def test_the_readme_says_what_each_profile_asks_for():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \|[^|]*\| ([\d.]+) GB(?: a process)? \| ([\d.]+) GB \|$", readme, re.M)
    assert len(rows) == len(profile_names())
    for name, memory, disk in rows:
        budget = load_profile(name).budget
        assert (float(memory), float(disk)) == (budget.memory_gb, budget.disk_gb), name


def test_bad_versions_are_refused(monkeypatch):
    assert requirements.problems() == []
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.0.7" if name == "pycocotools" else real(name))
    found = " ".join(requirements.problems())
    assert "pycocotools 2.0.7 is refused" in found and "outside >=2.0.11" in found

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert all("is missing" in problem for problem in requirements.problems())


# Table, rows, columns, cells that are not empty, and their sum: a slip of one digit changes a sum.
TOTALS = [
    ("table1", 10, 6, 60, 31),
    ("table2", 12, 8, 68, 5551.83),
    ("table3", 10, 8, 66, 4339.2),
    ("table4", 5, 3, 13, 301),
    ("table5", 8, 4, 25, 1829.5),
    ("table6", 9, 9, 81, 20_476_002_630.75),
    ("table7", 3, 4, 12, 118.77),
]
SAMPLE = [
    ("table1", "GPT4RoI", "Region Caption", True),
    ("table1", "DetGPT", "Segmentation", False),
    ("table2", "PerceptionGPT-7B", "refcoco/val", 88.59),
    ("table2", "PerceptionGPT-13B", "refcocog/test", 85.20),
    ("table2", "OFASys", "refcoco/testA", 80.10),
    ("table3", "PerceptionGPT-7B", "refcoco+/testB", 61.3),
    ("table3", "SEEM", "refcoco/val", None),
    ("table4", "Unified-IO", "mask", 256),
    ("table5", "Kosmos-1", "Flickr30k", 67.1),
    ("table6", "Numerical, rank 8", "refcoco/val", 0.79),
    ("table6", "Embed, full", "trainable parameters", 6_800_000_000),
    ("table6", "Vocab, rank 32", "refcocog/test", 9.84),
    ("table7", "Numerical", "13B mask", 57.1),
]


@pytest.mark.parametrize(("name", "rows", "columns", "cells", "total"), TOTALS)
def test_paper_totals(name, rows, columns, cells, total):
    table = paper_table(name)
    values = [row[column] for row in table["rows"].values() for column in table["columns"]]
    assert (len(table["rows"]), len(table["columns"])) == (rows, columns)
    assert all(list(row) == table["columns"] for row in table["rows"].values())
    present = [value for value in values if value is not None]
    assert len(present) == cells and sum(present) == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize(("name", "row", "column", "value"), SAMPLE)
def test_paper_sample(name, row, column, value):
    assert paper_table(name)["rows"][row][column] == value


PAPERS = [ROOT.parent / "shared" / "PAPER.md", Path(os.environ.get("PGPT_REALDATA", "none")).parent / "PAPER.md"]
PAPER = next((path for path in PAPERS if path.is_file()), None)


def printed_rows(name: str, values: int) -> list[list[str]]:
    """A table's rows in the paper's text, the last so many cells of each: its lines above the caption, tabs between."""
    lines = PAPER.read_text(encoding="utf-8").splitlines()
    caption = next(i for i, line in enumerate(lines) if line.startswith(f"Table {name.removeprefix('table')}. "))
    rows: list[list[str]] = []
    for line in reversed(lines[:caption]):
        if "\t" in line:
            rows.insert(0, [text for cell in re.sub(r"</?b>", "", line).split("\t") if (text := cell.strip())])
        elif rows:
            break
    return [row[-values:] for row in rows if len(row) >= values]


def number(text: str) -> float | bool | None:
    """A printed cell: a number, in millions or thousands of millions where it says so, yes, no, or nothing."""
    if text in ("✓", "✗"):
        return text == "✓"
    if text in ("-", "NA"):
        return None
    return float(text.rstrip("MB")) * {"M": 1e6, "B": 1e9}.get(text[-1], 1)


@pytest.mark.skipif(PAPER is None, reason="the paper's text, PAPER.md, is not here")
@pytest.mark.parametrize(("name", "rows", "columns"), [table[:3] for table in TOTALS])
def test_every_number_is_the_papers(name, rows, columns):
    wanted = [[row[column] for column in row] for row in paper_table(name)["rows"].values()]
    if name == "table5":  # printed with a line for each data set
        wanted, rows, columns = [list(column) for column in zip(*wanted, strict=True)], columns, rows
    printed = printed_rows(name, columns + (name == "table6"))[-rows:]
    if name == "table6":  # the rank belongs to the row's name
        printed = [[row[0], *row[2:]] for row in printed]
    found = [[number(text) for text in row] for row in printed]
    assert len(found) == rows and found == wanted


def test_paper_has_seven_tables():
    assert list(json.loads((ROOT / "data/paper_results.json").read_text())["tables"]) == [t[0] for t in TOTALS]
    with pytest.raises(InputError, match="table8"):
        paper_table("table8")
