"""A real JupyterLab in Debian's Chromium. Without Chromium the tests are skipped by name, and CI fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupyter_servers as jupyter
import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
).split()
LAUNCHED = "addEventListener('focusin', event => event.target.closest?.('.jp-Launcher') && (window.launched = true))"
NEWS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}


@pytest.fixture(scope="session")
def extension() -> None:
    """The extension as the sources say it."""
    subprocess.run([sys.executable, ROOT / "scripts" / "labextension.py"], check=True, cwd=ROOT)


@pytest.fixture(scope="module")  # as long as it stands, its event loop runs in this thread, and no other can
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)


class Lab:
    """JupyterLab in one tab, used as a person uses it."""

    def __init__(self, page: Any, server: jupyter.Server) -> None:
        self.page = page
        self.server = server
        self.wrong: list[str] = []
        page.on("pageerror", self._note)
        page.add_init_script(LAUNCHED)

    def _note(self, error: Any) -> None:
        if "Canceled future for" not in str(error):  # JupyterLab's own word when a kernel dies while it is asked something
            self.wrong.append(str(error))

    def open(self, path: str = "") -> None:
        """Open Lab (on a notebook) with nothing restored, and the sidebar in front."""
        self.page.goto(f"{self.server.url}lab{'/tree/' + path if path else ''}?reset&token={self.server.token}")
        self.show()
        if path:
            self.page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
        else:  # the launcher comes late and takes the focus, from whoever has begun to type as well
            self.page.wait_for_function("window.launched", timeout=60_000)

    def show(self) -> None:
        """Bring the sidebar to the front, unless JupyterLab has restored it there."""
        tab, search = self.page.locator('[data-id="jupyter-mlp"]'), self.page.locator("#jupyter-mlp .jp-mlp-search")
        tab.wait_for(timeout=60_000)
        self.page.locator("#jupyterlab-splash").wait_for(state="detached", timeout=60_000)
        for _ in range(40):
            if search.is_visible():
                return
            if "lm-mod-current" not in (tab.get_attribute("class") or ""):
                tab.click()
            self.page.wait_for_timeout(500)
        search.wait_for(timeout=1_000)

    def panel(self, name: str) -> Any:
        return self.page.locator(f".jp-mlp-of-{name}")

    def row(self, name: str, text: str) -> Any:
        return self.panel(name).locator(".jp-mlp-row", has_text=text).first

    def open_row(self, name: str, text: str) -> Any:
        row = self.row(name, text)
        row.wait_for(timeout=20_000)
        if row.locator(".jp-mlp-open").get_attribute("aria-expanded") == "false":
            row.locator(".jp-mlp-open").click()
        row.locator(".jp-mlp-drawer").wait_for()
        return row

    def cell(self) -> Any:
        """The active cell's editor."""
        return self.page.locator(".jp-Notebook-cell.jp-mod-active .cm-content")

    def text(self) -> str:
        return str(self.cell().inner_text())

    def has(self, text: str, wait_s: float = 30) -> None:
        """Wait until the active cell says this."""
        deadline = time.monotonic() + wait_s
        while self.text().strip() != text and time.monotonic() < deadline:
            self.page.wait_for_timeout(100)
        assert self.text().strip() == text

    def write(self, text: str) -> None:
        """Type over what stands in the active cell."""
        self.cell().click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(text)

    def run(self, wait_s: float = 120) -> None:
        """Run the active cell, wait for its end, and go to a new one below."""
        self.cell().click()
        self.page.keyboard.press("Control+Enter")
        self.page.wait_for_timeout(300)
        self.idle(wait_s)

    def save(self) -> None:
        """Save the notebook in front, and wait until the server has it: a page that is loaded sooner shows the file as it was."""
        with self.page.expect_response(lambda response: response.request.method == "PUT" and "/api/contents/" in response.url):
            self.page.keyboard.press("Control+s")

    def new_cell(self) -> None:
        self.page.keyboard.press("Escape")
        self.page.keyboard.press("b")

    def idle(self, wait_s: float = 120) -> None:
        idle = self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook-ExecutionIndicator[data-status=idle]")
        idle.wait_for(timeout=wait_s * 1000)

    def picture(self, name: str) -> None:
        """Take a picture for the documents, where it is asked for (MLP_PICTURES=folder)."""
        if folder := os.environ.get("MLP_PICTURES"):
            self.page.wait_for_timeout(600)
            self.page.screenshot(path=str(Path(folder, f"{name}.png")))


def settings(place: Path) -> None:
    """No question about news, and the application within reach of the tests."""
    import json

    for plugin, values in NEWS.items():
        package, name = plugin.split(":")
        path = place / "settings" / package / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))


@pytest.fixture
def new_tab(browser: Any) -> Iterator[Any]:
    """Return a function that opens a tab of its own profile on a server."""
    contexts = []

    def made(server: jupyter.Server, **options: Any) -> Lab:
        context = browser.new_context(viewport={"width": 1280, "height": 800}, **options)
        contexts.append(context)
        return Lab(context.new_page(), server)

    yield made
    for number, context in enumerate(contexts):
        if folder := os.environ.get("MLP_PICTURES"):
            context.pages[0].screenshot(path=str(Path(folder, f"end-{number}.png")))
        context.close()
