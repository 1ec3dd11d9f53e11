"""A notebook as a reader meets it: JupyterLab in a real browser, cell by cell, and every control of its views.

PGPT_STEP_THROUGH names other notebooks than the one below, or says `all`; PGPT_STEP_SECONDS is how long a cell may be
silent.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import nbformat
import pytest
from browser import find_browser, free_port, open_page, wait_for_port

from pgpt_lib.demo import intake
from pgpt_lib.notebook import HEADLESS, RUN_TOKEN
from pgpt_lib.project import ROOT

LESSONS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
WANTED = os.environ.get("PGPT_STEP_THROUGH", "03_losses")
SILENT = float(os.environ.get("PGPT_STEP_SECONDS", "60"))
QUIET = '{"fetchNews": "false", "checkForUpdates": false}'  # nothing pops up over the page
CELL = """i => {
    const panel = jupyterapp.shell.currentWidget, cell = panel.content.widgets[i].model;
    const outputs = cell.type === "code" ? cell.outputs.toJSON() : [];
    return {
        code: cell.type === "code" && cell.sharedModel.source.trim() !== "",
        first: cell.sharedModel.source.trim().split("\\n")[0],
        done: cell.executionCount !== null && panel.sessionContext.session?.kernel?.status === "idle",
        size: JSON.stringify(outputs).length,
        errors: outputs.filter(o => o.output_type === "error").map(o => `${o.ename}: ${o.evalue}`),
    };
}"""
PAD = """from pgpt_lib.config import load_profile
from pgpt_lib.demo.desk_view import DeskView
from pgpt_lib.demo.session import Speaker
from pgpt_lib.model import build_model

view = DeskView(Speaker(build_model(load_profile("smoke"), 0), "untrained"))
view.show()"""
READY = """() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === "idle"
    && jupyterapp.shell.currentWidget.content?.widgets?.length > 0"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """JupyterLab's address, and the folder that it shows. It leaves no settings and no notebook of ours changed."""
    find_browser()
    folder, own = tmp_path_factory.mktemp("lessons"), tmp_path_factory.mktemp("jupyter")
    quiet = own / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text(QUIET)
    environment = {name: value for name, value in os.environ.items() if name not in (HEADLESS, RUN_TOKEN)} | {
        "JUPYTER_CONFIG_DIR": str(own / "config"),
        "JUPYTER_RUNTIME_DIR": str(own / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(own / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(own / "workspaces"),
        "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))),
    }
    port = free_port()
    options = {"ip": "127.0.0.1", "port": port, "root_dir": folder, "open_browser": False, "allow_root": True}
    options |= {"port_retries": 0, "allow_remote_access": False}
    command = [sys.executable, "-m", "jupyterlab", "--LabApp.expose_app_in_browser=True", "--IdentityProvider.token="]
    command += [f"--ServerApp.{name}={value}" for name, value in options.items()]
    with (own / "log").open("wb") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server:
        try:
            wait_for_port(port, 4 * SILENT)
            yield f"http://127.0.0.1:{port}/lab", folder
        finally:
            server.terminate()


def put(lesson: str, folder: Path) -> str:
    """A copy of a lesson whose profile is `smoke` and whose results go to `folder`; gives its file's name."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{lesson}.ipynb", as_version=4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source += f'\nprofile = "smoke"\nout_dir = {str(folder / "out")!r}'
    nbformat.write(notebook, folder / f"{lesson}.ipynb")
    return f"{lesson}.ipynb"


def run_cell(page: Any, index: int) -> dict[str, Any]:
    """Run the chosen cell with Shift+Enter until it is done; `silent` are its longest seconds without output."""
    page.keyboard.press("Shift+Enter")
    began = last = time.monotonic()
    silent, state = 0.0, page.evaluate(CELL, index)
    while state["code"] and not state["done"] and silent < SILENT:
        page.wait_for_timeout(50)
        seen, state = state["size"], page.evaluate(CELL, index)
        now = time.monotonic()
        silent, last = max(silent, now - last), (now if state["size"] != seen else last)
    return state | {"silent": silent, "seconds": time.monotonic() - began}


def settled(page: Any, view: Any) -> str:
    """The address of a view's drawing, once no further redrawing is under way."""
    drawn, seen = "", view.locator("img").first.get_attribute("src")
    while drawn != seen:
        page.wait_for_timeout(500)
        page.wait_for_function(READY)
        drawn, seen = seen, view.locator("img").first.get_attribute("src")
    return str(seen)


def move_controls(page: Any) -> int:
    """Change every control of the last view, one by one, and see that its drawing changes; gives how many there are."""
    view = page.locator(".jp-Notebook .jp-OutputArea .widget-vbox").filter(has=page.locator("img")).last
    view.scroll_into_view_if_needed()
    controls = view.locator(":scope > .widget-slider, :scope > .widget-dropdown")
    for place in range(controls.count()):
        before = settled(page, view)
        handle = controls.nth(place).locator(".noUi-handle")
        if handle.count():
            handle.first.focus()
            for _ in range(5):
                handle.first.press("ArrowRight")
        else:
            controls.nth(place).locator("select").select_option(index=1)
        page.wait_for_function("([e, src]) => e.querySelector('img') && e.querySelector('img').src !== src",
                               arg=[view.element_handle(), before])  # fmt: skip
    return int(controls.count())


def start_at_the_top(page: Any, address: str) -> None:
    """Open a notebook in JupyterLab with its first cell chosen."""
    page.goto(f"{address}?reset")  # without the notebooks that another test has left open
    page.wait_for_function(READY)
    page.locator(".jp-Notebook .jp-Cell").first.click()
    page.keyboard.press("Escape")
    page.evaluate("() => { jupyterapp.shell.currentWidget.content.activeCellIndex = 0; }")


def test_a_browser_that_is_needed_is_an_error_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "BROWSERS", ("no-such-browser",))
    monkeypatch.setenv(browser.NEEDED, "1")
    with pytest.raises(pytest.fail.Exception, match="PGPT_NEED_BROWSER.*no-such-browser"):
        find_browser()
    monkeypatch.delenv(browser.NEEDED)
    with pytest.raises(pytest.skip.Exception, match="no-such-browser"):
        find_browser()


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS if WANTED == "all" else WANTED.split(","))
def test_a_lesson_runs_cell_by_cell_and_its_widgets_move(lab: tuple[str, Path], lesson: str) -> None:
    address, folder = lab
    name, moved = put(lesson, folder), list[int]()
    with open_page(1280, 1000, timeout_seconds=2 * SILENT) as page:
        start_at_the_top(page, f"{address}/tree/{name}")
        for index in range(page.evaluate("() => jupyterapp.shell.currentWidget.content.widgets.length")):
            state = run_cell(page, index)
            assert not state["errors"], f"cell {index}, {state['first']!r}: {state['errors'][0]}"
            assert state["silent"] < SILENT, f"cell {index}, {state['first']!r}, is silent for {SILENT:.0f} s"
            if state["seconds"] > 5:
                print(f"{lesson}, cell {index}, {state['first']!r}: {state['seconds']:.0f} s")
            if state["code"] and "view.show()" in page.evaluate(
                "i => jupyterapp.shell.currentWidget.content.widgets[i].model.sharedModel.source", index
            ):
                moved.append(move_controls(page))
                page.evaluate("i => { jupyterapp.shell.currentWidget.content.activeCellIndex = i; }", index + 1)
                page.locator(".jp-Notebook").press("Escape")
    assert moved and all(moved), f"controls that were moved, by view: {moved}"
    assert (folder / "out" / lesson / "result.json").exists()


@pytest.mark.slow
def test_the_pad_of_notebook_11_is_drawn_on_and_clicked(lab: tuple[str, Path]) -> None:
    from playwright.sync_api import expect

    address, folder = lab
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    lesson = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(PAD)], metadata=kernel)
    nbformat.write(lesson, folder / "pad.ipynb")
    with open_page(1280, 1000, timeout_seconds=2 * SILENT) as page:
        start_at_the_top(page, f"{address}/tree/pad.ipynb")
        ran = run_cell(page, 0)
        assert ran["done"] and not ran["errors"], ran
        pad, ask = page.locator(".pgpt-pad"), page.get_by_role("button", name="Ask")
        outline, remove = pad.locator("div"), page.get_by_role("button", name="Remove the box")
        pad.scroll_into_view_if_needed()
        area = pad.locator("img").bounding_box()

        def at(x: float, y: float) -> tuple[float, float]:
            return area["x"] + x * area["width"], area["y"] + y * area["height"]

        def drawn() -> list[float]:
            """The outline's (x1, y1, x2, y2) as shares of the picture."""
            left, top, right, bottom = outline.evaluate(
                "e => ['left', 'top', 'right', 'bottom'].map(side => parseFloat(e.style[side]) / 100)"
            )
            return [left, top, 1 - right, 1 - bottom]

        page.mouse.move(*at(0.8, 0.75))
        page.mouse.down()
        page.mouse.move(*at(0.5, 0.5), steps=4)
        page.mouse.move(*at(0.2, 0.25), steps=4)
        page.mouse.up()
        expect(remove).to_be_enabled()  # the kernel knows the box
        assert drawn() == pytest.approx([0.2, 0.25, 0.8, 0.75], abs=0.01)
        expect(page.get_by_label("question")).to_have_value("what is the thing in <vis> ?")
        ask.click()
        page.locator(".said").wait_for()
        remove.click()
        expect(outline).to_be_hidden()
        x1, y1, x2, y2 = box = intake.pictures("smoke")["scene 1"]().objects[-1].box
        pad.scroll_into_view_if_needed()
        area = pad.locator("img").bounding_box()
        page.mouse.click(*at((x1 + x2) / 2, (y1 + y2) / 2))
        expect(outline).to_be_visible()
        assert drawn() == pytest.approx(box, abs=0.01)
