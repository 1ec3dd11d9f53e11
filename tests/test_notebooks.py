"""The notebook contract, for every source; and that the tooling notices each way to break it."""

from __future__ import annotations

import nbformat
import pytest

from pgpt_lib import notebook_sources as tool
from pgpt_lib.config import load_profile
from pgpt_lib.errors import InputError

SOURCES = tool.sources()

GOOD = (
    """# %% [markdown]
# # 99 · Toy
#
# ```yaml
# title: Toy
# objectives: [see one thing, see another]
# prerequisites: [PyTorch]
# paper: section 3.2
# minutes: {smoke: 0.1}
# memory_gb: {smoke: 1}
# ```

# %% tags=["parameters"]
profile: str = "smoke"  # name of a profile
out_dir: str = ""  # folder of the run
seed: int = 0  # seed of everything random

# %% [markdown]
# Start.

# %%
run = start(profile, out_dir, seed, slug="99_toy")

# %% [markdown]
# A view.

# %%
run.figure(view.figure(), "view", alt="a view")
view.show()

# %% [markdown]
# It moves.
"""
    + "".join(
        f'''
# %% [markdown]
# ### Exercise {i}: a thing (★☆☆, 5 minutes)

# %% tags=["attempt"]
def thing{i}():
    """A thing."""
    raise NotImplementedError("your turn")

# %% [markdown]
# <details><summary>Hint 1</summary>think</details>
# <details><summary>Hint 2</summary>think again</details>

# %% nbgrader={{"grade_id": "thing{i}", "solution": true}}
def thing{i}():
    """A thing."""
    ### BEGIN SOLUTION
    return {i}
    ### END SOLUTION

# %% nbgrader={{"grade_id": "thing{i}_check", "grade": true, "points": 1}}
assert thing{i}()
### BEGIN HIDDEN TESTS
assert thing{i}() == {i}
### END HIDDEN TESTS
'''
        for i in (1, 2)
    )
    + """
# %% [markdown]
# The end.

# %%
run.finish(metrics={})
"""
)


def notebook_of(tmp_path, text: str) -> nbformat.NotebookNode:
    path = tmp_path / "99_toy.py"
    path.write_text(text, encoding="utf-8")
    return tool.build(path)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_source_keeps_the_contract(source):
    assert tool.problems(tool.build(source), source.stem) == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_committed_notebook_is_its_source_without_outputs(source):
    committed = (tool.NOTEBOOKS / f"{source.stem}.ipynb").read_text(encoding="utf-8")
    assert committed == nbformat.writes(tool.build(source)) + "\n", "run `make notebooks`"
    assert not any(cell.get("outputs") for cell in nbformat.reads(committed, as_version=4).cells)


def test_every_notebook_has_a_source():
    assert {path.stem for path in tool.NOTEBOOKS.glob("*.ipynb")} == {path.stem for path in SOURCES}


def test_nbgrader_accepts_the_marks(tmp_path):
    from nbgrader.nbgraderformat import MetadataValidator

    notebook = notebook_of(tmp_path, GOOD)
    MetadataValidator().validate_nb(notebook)
    solution = next(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("solution"))
    assert solution.metadata.jupyter.source_hidden and not solution.metadata.nbgrader.locked


def test_a_good_source_has_no_problems_and_builds_the_same_twice(tmp_path):
    first, second = notebook_of(tmp_path, GOOD), notebook_of(tmp_path, GOOD)
    assert tool.problems(first, "99_toy") == []
    assert first == second and len({cell["id"] for cell in first.cells}) == len(first.cells)


def test_an_id_changes_with_its_own_cell_only(tmp_path):
    before = [cell["id"] for cell in notebook_of(tmp_path, GOOD).cells]
    after = [cell["id"] for cell in notebook_of(tmp_path, GOOD.replace("# It moves.", "# It moves about.")).cells]
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("# objectives: [see one thing, see another]\n", "", "objectives"),
        ("paper: section 3.2", "paper: section 3.2\n# shape: round", "shape"),
        ("# # 99 · Toy", "# # Toys", "first heading"),
        ("seed: int = 0  # seed of everything random", "sede: int = 0  # seed", "no parameter seed"),
        ("seed: int = 0  # seed of everything random", "seed: int = 1 + 1  # seed", "literals only"),
        ("seed: int = 0  # seed of everything random", "seed: int = 0", "seed has no help"),
        ("seed: int = 0  #", "seed = 0  #", "without a type"),
        ("run = start(", "run = begin(", "no start()"),
        ("run.finish(metrics={})", "print('done')", "run.finish()"),
        ("view.show()", "view.hide()", "no interactive view"),
        ("# %% [markdown]\n# The end.\n", "", "no paragraph before"),
        ("# %% [markdown]\n# It moves.\n", "# %%\nprint(1)\n", "no reading of the figure"),
        ("view.show()", "view.show()\n" + "print(1)\n" * 9, "11 lines"),
        ("### END SOLUTION", "### THE END", "needs one"),
        ("### BEGIN HIDDEN TESTS", "", "needs one"),
        ('"grade_id": "thing2_check"', '"grade_id": "thing3_check"', "do not go together"),
        ("Exercise 2: a thing (★☆☆, 5 minutes)", "Exercise two", "1 headers"),
        ("<details><summary>Hint 2</summary>think again</details>", "", "staged hints"),
        ('# %% tags=["attempt"]\ndef thing2', "# %%\ndef thing2", "tagged `attempt`"),
    ],
)
def test_each_break_of_the_contract_is_named(tmp_path, old, new, problem):
    assert old in GOOD
    found = tool.problems(notebook_of(tmp_path, GOOD.replace(old, new)), "99_toy")
    assert any(problem in sentence for sentence in found), found


def test_outputs_are_noticed(tmp_path):
    notebook = notebook_of(tmp_path, GOOD)
    notebook.cells[3].outputs = [nbformat.v4.new_output("stream", text="hello")]
    assert any("outputs below" in sentence for sentence in tool.problems(notebook, "99_toy"))


def test_front_matter_is_demanded(tmp_path):
    with pytest.raises(InputError, match="yaml"):
        tool.front_matter(notebook_of(tmp_path, "# %% [markdown]\n# # Title\n"), "99_toy")


def test_the_series_promises_45_minutes_on_the_cpu_and_the_notebook_on_speed_six():
    minutes = {source.stem: tool.front_matter(tool.build(source), source.stem).minutes["cpu"] for source in SOURCES}
    assert [slug[:2] for slug in minutes] == [f"{number:02}" for number in range(12)]
    assert sum(minutes.values()) <= 45 and minutes["09_speed"] <= 6


@pytest.mark.parametrize(("name", "hours"), [("gpu", 2), ("gpu-refcoco", 3.5)])  # guesses, as the profiles say
def test_a_profile_for_one_card_guesses_the_minutes_of_every_notebook(name, hours):
    minutes = load_profile(name).budget.minutes
    assert list(minutes) == [source.stem for source in SOURCES] and sum(minutes.values()) <= 60 * hours


def test_check_fails_on_drift_and_on_strays(tmp_path, monkeypatch, capsys):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "99_toy.py").write_text(GOOD, encoding="utf-8")
    monkeypatch.setattr(tool, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(tool, "sources", lambda: [tmp_path / "src" / "99_toy.py"])
    monkeypatch.setattr(tool.project, "ROOT", tmp_path)
    assert tool.main(["--check"]) == 1 and not (tmp_path / "99_toy.ipynb").exists()
    assert tool.main([]) == 0 and tool.main(["--check"]) == 0
    (tmp_path / "98_stray.ipynb").write_text("{}")
    assert tool.main(["--check"]) == 1
    assert "98_stray.ipynb has no source" in capsys.readouterr().err
