"""The site: its pages, their links, and a build of it where Sphinx is installed."""

from __future__ import annotations

import base64
import importlib.util
import re
import runpy
import shutil
from pathlib import Path

import nbformat
import pytest
from browser import open_page

from pgpt_lib import project, reproduce
from pgpt_lib.errors import InputError, RunError
from pgpt_lib.files import write_json
from pgpt_lib.notebook_sources import front_matter
from pgpt_lib.site import build as building
from pgpt_lib.site import lessons
from pgpt_lib.site.docstrings import as_rst
from pgpt_lib.site.layout import CONFIG, choose_reports, lay_out, with_objectives
from pgpt_lib.site.lessons import write_lesson
from pgpt_lib.site.pages import examine

ROOT = project.ROOT
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
with_sphinx = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, building.NEEDED)), reason="the extra `site` is not installed"
)
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    lay_out(folder / "source", folder / "extra", choose_reports())
    return folder / "source"


def markdown(path):
    """The text of a page, code left out."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = nbformat.reads(text, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.sub(r"```.*?```|`[^`\n]*`|\$[^$]*\$", "", text, flags=re.S)


def anchors(path):
    """The places of a page that a link can name: a heading in lower case, spaces as hyphens, signs dropped."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken(path):
    """Relative links of a page that lead nowhere."""
    for link in LINK.findall(markdown(path)):
        file, _, place = link.partition("#")
        target = path.parent / file if file else path
        if ":" in file:
            continue
        if not target.exists() or (place and target.suffix == ".md" and place not in anchors(target)):
            yield f"{path.name}: {link}"


def test_settings_load_without_sphinx_and_execute_nothing():
    settings = runpy.run_path(str(CONFIG / "conf.py"))
    assert settings["nb_execution_mode"] == "off"
    assert all((CONFIG / folder).is_dir() for folder in settings["html_static_path"])
    for name in settings["html_css_files"]:
        assert "http" not in (CONFIG / "_static" / name).read_text()


def test_every_page_is_in_a_toctree_that_exists(source):
    listed = {source / "index"}
    for page in [*source.rglob("*.md"), *source.rglob("*.rst")]:
        blocks = re.findall(r"```\{toctree\}(.*?)```|\.\. toctree::(.*)", page.read_text(), re.S)
        for entry in filter(None, map(str.strip, "\n".join(map("".join, blocks)).splitlines())):
            if not entry.startswith(":"):
                found = [path.with_suffix("") for path in page.parent.glob(f"{entry}.*") if path.is_file()]
                assert found, f"{page}: {entry}"
                listed.update(found)
    pages = {p.with_suffix("") for suffix in ("md", "rst", "ipynb") for p in source.rglob(f"*.{suffix}")}
    assert pages == listed


def test_no_link_between_pages_is_broken(source):
    pages = [*source.rglob("*.md"), *source.rglob("*.ipynb"), *NOTEBOOKS]
    assert [link for page in pages for link in broken(page)] == []
    assert sum("glossary.md#" in link for page in NOTEBOOKS for link in LINK.findall(markdown(page))) >= 25


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_leads_to_the_glossary(path):
    assert [link for link in LINK.findall(markdown(path)) if "glossary.md#" in link]


def test_each_term_is_explained_once():
    terms = re.findall(r"^### (.+)\n(.+)$", (ROOT / "docs/glossary.md").read_text(), re.M)
    assert len(terms) == len({name.lower() for name, _ in terms}) >= 30
    assert all(text.strip() for _, text in terms)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_can_be_found_and_ends_with_questions_and_reading(path):
    assert f"../notebooks/{path.name}" in (ROOT / "docs/which_notebook.md").read_text(), "no reader's question names it"
    text = "\n\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    questions, _, rest = text.partition("\n## Questions to think about\n")[2].partition("\n**Read next:**")
    reading = rest.partition("\n\n")[0]
    assert re.findall(r"^(\d)\. ", questions, re.M) == ["1", "2", "3"]
    assert len(re.findall(r"\b(?:19|20)\d\d\b", reading)) >= 3, f"papers with venue and year are lacking: {reading}"


def executed(folder, place="mask", number=0, source="# dots\n1"):
    """A run's folder with one executed notebook that shows a picture; without `source` the code is today's."""
    slug = NOTEBOOKS[number].stem
    path = folder / slug / f"{slug}.ipynb"
    lesson = nbformat.read(NOTEBOOKS[number], as_version=4)
    code = [cell for cell in lesson.cells if cell.cell_type == "code"]
    metadata = {"image/png": {"alt": "Two dots [a]"}}
    data = {"image/png": PICTURE, "text/plain": "<Image>"}
    left_open = nbformat.v4.new_output("display_data", data)
    code[1].source = source or code[1].source
    code[1].outputs = [left_open, nbformat.v4.new_output("display_data", data, metadata=metadata)]
    text = f"See [*mask*](../../../docs/glossary.md#{place}), made in notebook 05.\n"
    lesson.cells[2] = nbformat.v4.new_markdown_cell(text)
    path.parent.mkdir(parents=True)
    nbformat.write(lesson, path)
    return path


def report(folder, number=0, source="# dots\n1"):
    """A run's folder with a report, a figure and one executed notebook."""
    path = executed(folder, number=number, source=source)
    (path.parent / "dots.png").write_bytes(base64.b64decode(PICTURE))
    result = {"slug": path.stem, "profile": "toy", "seed": 3, "figures": [{"file": "dots.png", "alt": "Two dots"}]}
    write_json(path.parent / "result.json", result | {"commit": "0123456789abcdef"})
    facts = {"data": "Toy data.", "machine": {"processor": "x", "cores": 1, "memory_gb": 1, "accelerators": []}}
    facts |= {"profile": "toy", "seed": 3, "commit": "c", "checkpoint": None, "seconds": {path.stem: 2.0}}
    write_json(folder / "report.json", facts | {"versions": {}, "tables": {}, "claims": {}, "metrics": {}})
    return folder


def test_an_executed_lesson_keeps_words_of_its_pictures_and_its_links(tmp_path):
    path, target = executed(tmp_path / "run"), tmp_path / "site" / "notebooks" / "00_setup_and_data.ipynb"
    series = {notebook.stem: f"{notebook.stem}.ipynb" for notebook in NOTEBOOKS}
    assert write_lesson(path, target, "Executed in the profile `toy`.", "../docs", series) == ["# dots"]
    lesson = nbformat.read(target, as_version=4)
    outputs = [output for cell in lesson.cells for output in cell.get("outputs", ())]
    assert len(outputs) == 1
    shown = re.fullmatch(r"!\[Two dots \\\[a\\\]\]\((.+)\)", outputs[0]["data"]["text/markdown"])
    assert (target.parent / shown[1]).stat().st_size > 50 and list(outputs[0]["data"]) == ["text/markdown"]
    assert "(../docs/glossary.md#mask), made in [notebook 05](05_training.ipynb)" in lesson.cells[2].source
    first = lesson.cells[0].source
    facts = front_matter(nbformat.read(path, as_version=4), path.stem)
    assert "Executed in the profile `toy`." in first and facts.objectives[0] in first and "```yaml" not in first
    assert all("hide-input" in cell.metadata["tags"] for cell in lesson.cells if "nbgrader" in cell.metadata)


@pytest.mark.parametrize(
    "metadata, prompt, outputs",
    [
        ({"tags": ["injected-parameters"]}, "Show this run's parameters", 2),
        ({"nbgrader": {"solution": True}}, "Show a solution", 2),
        ({"nbgrader": {"grade": True}}, "Show its test", 2),
        ({"tags": ["attempt"]}, None, 1),
        ({}, None, 2),
    ],
)
def test_what_is_folded_and_what_is_left_out(tmp_path, metadata, prompt, outputs):
    printed = nbformat.v4.new_output("stream", text="awaits you")
    returned = nbformat.v4.new_output("execute_result", {"text/plain": "False"}, execution_count=1)
    cell = nbformat.v4.new_code_cell("x", metadata=metadata, outputs=[printed, returned])
    own = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Mine"), cell])
    nbformat.write(own, tmp_path / "own.ipynb")
    write_lesson(tmp_path / "own.ipynb", tmp_path / "page.ipynb", "Of mine.", "docs", {})
    head, shown = nbformat.read(tmp_path / "page.ipynb", as_version=4).cells
    assert head.source == "# Mine\n\n:::{note}\nOf mine.\n:::\n"
    assert shown.metadata.get("mystnb", {}).get("code_prompt_show") == prompt
    assert ("hide-input" in shown.metadata.get("tags", ())) == bool(prompt) and len(shown.outputs) == outputs


@pytest.mark.parametrize("there, order", [("photos smoke cpu", "cpu smoke photos"), ("toy gpu", "gpu toy"), ("", "")])
def test_the_order_of_reports(tmp_path, there, order):
    for name in there.split():
        executed(tmp_path / name)
    (tmp_path / "empty").mkdir()
    assert choose_reports(reports=tmp_path) == [tmp_path / name for name in order.split()]


def test_a_bare_clone_shows_every_notebook_and_says_that_it_was_not_executed(tmp_path, monkeypatch):
    for folder in ("docs", "notebooks"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "pgpt_lib").mkdir()
    monkeypatch.setattr(project, "ROOT", tmp_path)
    laid = lay_out(tmp_path / "source", tmp_path / "extra", choose_reports(reports=tmp_path / "reports"))
    assert laid.executed == {} and laid.unexecuted == tuple(path.stem for path in NOTEBOOKS)
    for slug in laid.unexecuted:
        page = nbformat.read(tmp_path / "source/notebooks" / f"{slug}.ipynb", as_version=4)
        assert "Not executed here: no report has a run of this notebook." in page.cells[0].source
    assert list((tmp_path / "extra").iterdir()) == []  # Sphinx wants the folder all the same
    assert "None yet" in (tmp_path / "source/reports/index.md").read_text()


def test_each_notebook_comes_from_the_first_report_that_has_it(tmp_path, monkeypatch):
    """The other reports show their own executions beside their figures."""
    for folder in ("docs", "notebooks"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "pgpt_lib").mkdir()
    monkeypatch.setattr(project, "ROOT", tmp_path)
    reports = tmp_path / "reports"
    cpu, toy = report(reports / "cpu"), report(reports / "toy", number=1)
    shutil.copytree(cpu / NOTEBOOKS[0].stem, toy / NOTEBOOKS[0].stem)
    laid = lay_out(tmp_path / "source", tmp_path / "extra", choose_reports(reports=reports))
    assert laid.executed == {NOTEBOOKS[0].stem: cpu, NOTEBOOKS[1].stem: toy}
    assert laid.wordless == tuple(f"{path.stem}: # dots" for path in NOTEBOOKS[:2])
    heads = [nbformat.read(tmp_path / "source/notebooks" / p.name, as_version=4).cells[0].source for p in NOTEBOOKS[:2]]
    for head, name in zip(heads, ("cpu", "toy"), strict=True):
        assert f"Executed in the profile `toy` with seed 3; the outputs are those of [the report `{name}`]" in head
    assert [path.name for path in (tmp_path / "source/reports/toy").glob("*.ipynb")] == [NOTEBOOKS[0].name]
    assert not list((tmp_path / "source/reports/cpu").glob("*.ipynb"))
    page = (tmp_path / "source/reports/toy/index.md").read_text()
    assert f'href="../../notebooks/{NOTEBOOKS[1].stem}.html"' in page and NOTEBOOKS[0].stem in page
    assert (tmp_path / "extra/reports/toy" / NOTEBOOKS[1].stem / "dots.png").exists()


def test_an_outdated_execution_says_so_and_a_current_one_is_preferred(tmp_path, monkeypatch):
    for folder in ("docs", "notebooks"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "pgpt_lib").mkdir()
    monkeypatch.setattr(project, "ROOT", tmp_path)
    slug, changed = NOTEBOOKS[0].stem, "The notebook's code has changed since:** this is that of commit `0123456789`."
    old = report(tmp_path / "reports" / "cpu")
    laid = lay_out(tmp_path / "one", tmp_path / "extra1", [old])
    assert laid.outdated == (slug,) and laid.executed == {slug: old}
    assert changed in nbformat.read(tmp_path / "one/notebooks" / f"{slug}.ipynb", as_version=4).cells[0].source
    new = report(tmp_path / "reports" / "smoke", source=None)
    laid = lay_out(tmp_path / "two", tmp_path / "extra2", [old, new])
    assert laid.outdated == () and laid.executed == {slug: new}
    page = nbformat.read(tmp_path / "two/notebooks" / f"{slug}.ipynb", as_version=4)
    assert changed not in page.cells[0].source
    today = nbformat.read(NOTEBOOKS[0], as_version=4)
    assert len(page.cells) == len(today.cells) and "made in" not in page.cells[2].source  # prose of today
    assert any("Two dots" in str(cell.get("outputs")) for cell in page.cells)  # what the run showed


def test_a_notebook_that_the_guide_does_not_name_is_found_by_its_objectives():
    facts = front_matter(nbformat.read(NOTEBOOKS[0], as_version=4), NOTEBOOKS[0].stem)
    guide = f"| q | [a](../notebooks/{NOTEBOOKS[0].name}) | 1 |\n"
    assert with_objectives(guide, {NOTEBOOKS[0].stem: facts}) == guide
    rows = with_objectives(guide, {"77_new": facts}).removeprefix(guide).splitlines()
    assert rows[:3] == ["", "| I want to | notebook |", "| --- | --- |"]
    assert rows[3:] == [f"| {goal} | [77 {facts.title}](../notebooks/77_new.ipynb) |" for goal in facts.objectives]


def test_a_report_without_executed_notebooks_is_refused(tmp_path):
    with pytest.raises(InputError, match=str(tmp_path)):
        choose_reports(str(tmp_path))


@pytest.mark.parametrize(
    "text, linked",
    [
        ("as in notebook 05.", "as in [notebook 05](05.html)."),
        ("Notebook\n05 does", "[Notebook\n05](05.html) does"),
        ("`notebook 05`, [see notebook 05](x.md), notebook 77", None),
        ("# 5 · After notebook 05", None),
        ("<details><summary>Hint</summary>notebook 05</details>", None),
        ("[a](../docs/glossary.md#box)", "[a](d/glossary.md#box)"),
        ("[a](../../../docs/glossary.md#box)", "[a](d/glossary.md#box)"),
        ("[a](05_training.ipynb#x)", "[a](05.html#x)"),
        ("[a](../../../notebooks/05_training.ipynb)", "[a](05.html)"),
        ("[a](77_new.ipynb)", None),
    ],
)
def test_links_of_a_lesson(text, linked):
    assert lessons._linked(text, "d", {"05_training": "05.html"}) == (linked or text)


@with_sphinx
def test_every_formula_becomes_mathml():
    from pgpt_lib.site.formulas import mathml

    cells = [cell for path in NOTEBOOKS for cell in nbformat.read(path, as_version=4).cells]
    formulas = [f for c in cells if c.cell_type == "markdown" for f in re.findall(r"\$\$(.+?)\$\$", c.source, re.S)]
    assert len(formulas) >= 5 and all(mathml(formula, as_block=True).startswith("<math ") for formula in formulas)
    assert "<munder" in mathml(r"\underbrace{a}_{\text{b}}") and "<msub" not in mathml(r"\underbrace{a}_{\text{b}}")
    assert "<msub" in mathml(r"\underbrace{a_1}_{\text{b}}")
    assert mathml("|A|").count('lspace="0" rspace="0"') == 2
    assert "\u2061" in mathml(r"\cos t") and "&lt;" in mathml("a < b")


@pytest.mark.parametrize(
    "docstring, rst",
    [
        ("Acc@0.5 of `x`s, `a@b`.", "Acc\\@0.5 of `x`\\ s, `a@b`."),
        ("Runs.\n\n    start(`x`s)\n\nEnd.", "Runs.\n\n::\n\n    start(`x`s)\n\nEnd."),
        ("Args:\n    x: of `y`.", "Args:\n    x: of `y`."),
    ],
)
def test_docstrings_become_restructured_text(docstring, rst):
    assert as_rst(docstring.split("\n")) == rst.split("\n")


def test_an_executed_copy_links_from_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.setattr(project, "ROOT", tmp_path)
    copy = tmp_path / "reports" / "cpu" / "00_a" / "00_a.ipynb"
    copy.parent.mkdir(parents=True)
    copy.write_text("[x](../docs/glossary.md#mask) [y](05_training.ipynb)")
    reproduce._deepen_links(copy)
    assert copy.read_text() == "[x](../../../docs/glossary.md#mask) [y](../../../notebooks/05_training.ipynb)"


@pytest.mark.parametrize(
    "body, problem",
    [
        ('<a href="b.html#there">x</a><img src="p.png" alt="a dot">', None),
        ('<a href="c.html">x</a>', "c.html leads nowhere"),
        ('<a href="../../outside.html">x</a>', "outside.html leads nowhere"),
        ('<a href="b.html#gone">x</a>', "b.html#gone has no such place"),
        ('<a href="#gone">x</a>', "#gone has no such place"),
        ('<img src="p.png">', "no alternative text for p.png"),
        ('<img src="p.png" alt=" ">', "no alternative text for p.png"),
        ('<img src="q.png" alt="a dot">', "q.png leads nowhere"),
        ('<script src="https://cdn.example.org/x.js"></script>', "from another host"),
        ('<link href="//example.org/x.css">', "from another host"),
    ],
)
def test_faults_of_pages_are_found(tmp_path, body, problem):
    (tmp_path / "a.html").write_text(f'{body}<a href="https://example.org/paper">y</a>')
    (tmp_path / "b.html").write_text('<p id="there">z</p>')
    (tmp_path / "p.png").write_bytes(b"x")
    found = examine(tmp_path)
    assert found.pages == 2 and found.external == {"https://example.org/paper"}
    assert [problem] if problem else not found.problems
    assert len(found.problems) == (problem is not None) and all(problem in text for text in found.problems)


def test_a_folder_of_something_else_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(building, "NEEDED", ("json",))
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="no site"):
        building.build(tmp_path)
    monkeypatch.setattr(building, "NEEDED", ("json", "no_such_package"))
    with pytest.raises(InputError, match="no_such_package.*pip install"):
        building.build(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A site of one executed notebook and little of the library, the run's folder, and what the build told."""
    folder = tmp_path_factory.mktemp("built")
    run = report(folder / "mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pgpt_lib.site.layout.UNDOCUMENTED", _all_but("regions", "files"))
        patch.chdir(folder)
        yield folder / "site", run, building.build(Path("site"), str(run))


@pytest.mark.slow
@with_sphinx
@pytest.mark.parametrize("width", [1280, 390])
def test_a_lesson_reads_without_scripts_on_a_desk_and_on_a_phone(built, width):
    fits = "document.documentElement.scrollWidth"
    with open_page(width, scripts=False) as page:
        page.goto((built[0] / "notebooks" / "03_losses.html").as_uri())
        assert page.evaluate(fits) <= width
        solution = page.locator("details").filter(has_text="Show a solution").first
        code = solution.locator("pre").first
        assert not code.is_visible()
        solution.locator("summary").first.click()
        assert code.is_visible() and "def my_" in code.inner_text()
        assert page.evaluate(fits) <= width


@pytest.mark.slow
@with_sphinx
def test_the_site_builds_without_a_warning(built):
    out, run, (laid, found) = built
    assert laid.executed == {"00_setup_and_data": run} and found.problems == [] and found.figures >= 1
    page = (out / "notebooks/00_setup_and_data.html").read_text()
    assert 'alt="Two dots [a]"' in page and "<details" in page
    assert "Show a solution" in page and "http" not in "".join(re.findall("<(?:img|script|link)[^>]*>", page))
    assert 'href="../../notebooks/00_setup_and_data.html"' in (out / "reports/mine/index.html").read_text()
    formulas = (out / "notebooks/03_losses.html").read_text()
    assert re.search(r"⏟</mo>\s*</munder>\s*<mtext>box</mtext>\s*</munder>", formulas)
    assert '<mo stretchy="false" lspace="0" rspace="0">|</mo>' in formulas
    assert 'id="pgpt_lib.regions.Region"' in (out / "api/regions.html").read_text()
    shutil.rmtree(run)
    executed(run, place="nowhere")
    with pytest.raises(RunError, match="(?s)Sphinx warns.*nowhere"):
        building.build(out, str(run))
    assert (out / "index.html").exists()
    assert not [path for path in out.parent.iterdir() if path.name not in ("site", "mine")]


def _all_but(*names):
    """Every module of the library but some: reading the docstrings of all takes most of a build."""
    package = ROOT / "pgpt_lib"
    return tuple(path.stem for path in package.iterdir() if path.stem not in names)
