"""A real browser for tests: the system's Chromium, driven by playwright.

Tests that ask for one are skipped where it is missing, or fail where PGPT_NEED_BROWSER says that it must be there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

NEEDED = "PGPT_NEED_BROWSER"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ALONE = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip


def find_browser() -> str:
    """The path of a browser; without one, or anything to drive it, the test that asks is skipped, or fails."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        _missing(f"none of {', '.join(BROWSERS)} is installed")
    if importlib.util.find_spec("playwright") is None:
        _missing("playwright drives the browser: install the dev extra")
    return str(path)


def _missing(what: str) -> NoReturn:
    if os.environ.get(NEEDED):
        pytest.fail(f"{NEEDED} is set, but {what}")
    pytest.skip(what)


@contextlib.contextmanager
def open_page(width: int = 1280, height: int = 900, timeout_seconds: float = 30, scripts: bool = True) -> Iterator[Any]:
    """A page of a browser that asks nobody else; `timeout_seconds` is for each step, `scripts` for pages' own."""
    path = find_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(ALONE))
        page = browser.new_page(viewport={"width": width, "height": height}, java_script_enabled=scripts)
        page.set_default_timeout(1000 * timeout_seconds)
        yield page
        browser.close()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, seconds: float) -> None:
    """Wait until somebody listens there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nobody listens on port {port} after {seconds:.0f} s")
