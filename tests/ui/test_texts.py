"""Whatever a name holds is shown as text, and the sidebar costs JupyterLab next to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupyter_servers as jupyter
import pytest
from conftest import settings

from jupyter_mlp.core.references import Ref
from jupyter_mlp.store.workspace import Workspace

pytestmark = [pytest.mark.usefixtures("extension"), pytest.mark.timeout(300)]

MARKUP = "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script>"  # fmt: skip
NAMES = (MARKUP, "\U0001f600\U0001f469‍\U0001f52c", "w" * 10_000, "שלום ‮txt.exe", "{{7*7}}", "javascript:window.hacked=1", "&lt;b&gt;")


def _fill(root: Path) -> None:
    activities = Workspace(root).activities
    for number, name in enumerate(NAMES):
        begun = activities.begin("query", name=name, parameters={"sql": f"SELECT '{name}'"})
        column = {"name": name, "type": MARKUP, "nulls": 1, "low": name, "high": name}
        facts = {"rows": 1, "bytes": 1, "files": [], "preview": {"rows": 1, "columns": [column], "first": [[name]]}, "notes": [name]}
        activities.finish(begun, made=[Ref("dataset", name, f"{number:032x}")], facts={"dataset": facts})
        activities.fail(activities.begin("train", name=name), f"{name} failed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[jupyter.Server]:
    place = tmp_path_factory.mktemp("texts")
    settings(place)
    _fill(place / "workspace")
    with jupyter.running(place) as running:
        yield running


def test_names_are_text(server: jupyter.Server, new_tab: Any) -> None:
    lab = new_tab(server)
    asked: list[str] = []
    lab.page.on("request", lambda request: asked.append(request.url))
    lab.open()
    for panel in ("data", "runs"):
        lab.panel(panel).locator(".jp-mlp-row").nth(len(NAMES) - 1).wait_for(timeout=30_000)
        for button in lab.panel(panel).locator(".jp-mlp-open").all():
            button.click()
    lab.page.wait_for_timeout(1500)
    titles = lab.panel("data").locator(".jp-mlp-title").all_inner_texts()
    assert MARKUP in titles and "{{7*7}}" in titles and "&lt;b&gt;" in titles
    assert max(map(len, titles)) <= 120
    assert lab.page.evaluate("window.hacked") is None
    assert lab.page.locator("#jupyter-mlp img, #jupyter-mlp script, #jupyter-mlp iframe, #jupyter-mlp a").count() == 0
    assert [url for url in asked if url.endswith("/x")] == []
    wide = "document.querySelector('.jp-mlp-panels').scrollWidth - document.querySelector('.jp-mlp-panels').clientWidth"
    assert lab.page.evaluate(wide) <= 0, "a long name makes the sidebar scroll sideways"
    lab.picture("lab-texts")
    assert lab.wrong == []


def test_it_is_used_with_the_keyboard_and_read_aloud(server: jupyter.Server, new_tab: Any) -> None:
    lab = new_tab(server)
    lab.open()
    lab.panel("data").locator(".jp-mlp-row").first.wait_for(timeout=30_000)
    lab.panel("data").get_by_role("button", name="Write this cell").wait_for(timeout=30_000)
    unnamed = """Array.from(document.querySelectorAll('#jupyter-mlp :is(button, input, select, svg[role=img])'))
        .filter(one => !(one.getAttribute('aria-label') || one.textContent.trim() || one.labels?.length)).length"""
    assert lab.page.evaluate(unnamed) == 0
    lab.page.locator(".jp-mlp-search").focus()
    for _ in range(4):  # past "read again", the heading and "write this cell", to the first row
        lab.page.keyboard.press("Tab")
    lab.page.keyboard.press("Enter")
    lab.page.locator(".jp-mlp-drawer").first.wait_for()
    lab.page.keyboard.press("Tab")
    label = lab.page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert label.startswith("Copy the reference dataset:")


def test_search_finds_and_says_when_it_finds_nothing(server: jupyter.Server, new_tab: Any) -> None:
    lab = new_tab(server)
    lab.open()
    lab.page.locator(".jp-mlp-search").fill("javascript")
    lab.page.locator(".jp-mlp-row", has_text="javascript:window").first.wait_for(timeout=10_000)
    lab.page.locator(".jp-mlp-search").fill("zzz")
    lab.page.get_by_text("Nothing has words that begin like this").wait_for(timeout=10_000)


def test_it_is_dark_where_jupyterlab_is(server: jupyter.Server, new_tab: Any) -> None:
    import json

    path = server.folder.parent / "settings" / "@jupyterlab" / "apputils-extension" / "themes.jupyterlab-settings"
    path.write_text(json.dumps({"theme": "JupyterLab Dark"}))
    lab = new_tab(server)
    try:
        lab.open()
        lab.panel("data").locator(".jp-mlp-row").first.wait_for(timeout=30_000)
        colours = "(one => [getComputedStyle(one).color, getComputedStyle(one).backgroundColor])(document.querySelector('#jupyter-mlp'))"
        text, ground = (sum(map(int, one[one.index("(") + 1 : -1].split(",")[:3])) for one in lab.page.evaluate(colours))
        assert text > ground + 300, "light on dark"
        lab.picture("lab-dark")
    finally:
        path.unlink()
