"""In the notebook: marks beside the cells, TAB and help in SQL cells, what the user chose, and notebooks to begin with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import jupyter_servers as jupyter
import nbformat
import pytest
from conftest import settings

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("extension"), pytest.mark.timeout(300)]

CELLS = ("%load_ext jupyter_mlp", "x = 1", "y = x + 1", "print(y)")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[jupyter.Server]:
    place = tmp_path_factory.mktemp("helps")
    settings(place)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (place / "notebooks").mkdir()
    nbformat.write(notebook, place / "notebooks" / "marks.ipynb")
    os.environ["MLP_WORKSPACE"] = str(place / "workspace")
    try:
        import pandas as pd

        import jupyter_mlp as mlp

        mlp.write_table("lake.flights", pd.DataFrame({"dep_delay": [1.5], "carrier": ["UA"]}))
    finally:
        del os.environ["MLP_WORKSPACE"]
    with jupyter.running(place, "--ServerApp.base_url=/user/anna/") as running:  # as a hub serves it
        yield running


def _cell(lab: Any, place: int) -> Any:
    return lab.page.locator(".jp-Notebook-cell").nth(place)


def _run(lab: Any, place: int, text: str = "") -> None:
    _cell(lab, place).locator(".cm-content").click()
    if text:
        lab.write(text)
    lab.run()


def _is(lab: Any, place: int, state: str, says: str = "") -> None:
    mark = _cell(lab, place).locator(f".jp-mlp-mark-{state}")
    mark.wait_for(timeout=15_000)
    assert says in mark.get_attribute("aria-label")


def _complete(lab: Any, text: str) -> None:
    """TAB, and take what stands first."""
    lab.page.keyboard.press("Tab")
    first = lab.page.locator(".jp-Completer:not(.lm-mod-hidden) .jp-Completer-item").first
    first.wait_for(timeout=15_000)
    assert first.locator(".jp-Completer-match").inner_text() == text
    lab.page.keyboard.press("Enter")
    first.wait_for(state="hidden")


def test_marks_say_what_a_clean_run_would_give(server: jupyter.Server, new_tab: Any) -> None:
    lab = new_tab(server)
    lab.open("marks.ipynb")
    assert lab.page.locator(".jp-mlp-mark").count() == 0
    for place in range(4):
        _run(lab, place)
    for place in range(1, 4):
        _is(lab, place, "valid", "a clean run would give")
    _run(lab, 1, "x = 2")
    _is(lab, 2, "stale", "x was made anew by cell 2 after it ran")
    _is(lab, 3, "order", "it read y as cell 3 had left it")
    _cell(lab, 3).locator(".cm-content").click()
    lab.write("print(y, y)")
    _is(lab, 3, "stale", "its source was edited after it ran")
    lab.picture("lab-marks")
    # a page that is loaded anew asks the same kernel
    lab.save()
    lab.page.reload()
    lab.show()
    _is(lab, 2, "stale", "x was made anew")
    # so do cells that JupyterLab builds anew
    lab.page.evaluate("document.querySelectorAll('.jp-Notebook-cell').forEach(cell => cell.classList.add('before'))")
    lab.page.get_by_role("menuitem", name="File", exact=True).click()
    lab.page.get_by_text("Reload Notebook from Disk").click()
    lab.page.wait_for_function("!document.querySelector('.jp-Notebook-cell.before')")
    _is(lab, 2, "stale", "x was made anew")
    # moved above what it reads
    _run(lab, 2)
    _is(lab, 2, "valid")
    _cell(lab, 2).locator(".jp-InputPrompt").click()
    lab.page.keyboard.press("Control+Shift+ArrowUp")
    _is(lab, 1, "order", "it read x from cell 3, which stands below it")
    # the settings editor switches them off and on
    lab.page.keyboard.press("Control+,")
    editor = lab.page.locator(".jp-SettingsPanel, .jp-SettingsEditor").first
    editor.wait_for(timeout=30_000)
    lab.page.locator(".jp-PluginList-entry, .jp-PluginEditor", has_text="Machine Learning").first.click()
    box = lab.page.get_by_label("Validity marks")
    box.wait_for(timeout=15_000)
    lab.picture("lab-settings")
    box.uncheck()
    lab.page.wait_for_function("document.querySelectorAll('.jp-mlp-mark').length === 0", timeout=15_000)
    box.check()
    lab.page.wait_for_function("document.querySelectorAll('.jp-mlp-mark').length > 0", timeout=15_000)
    assert lab.wrong == []


def test_tab_and_help_in_sql(server: jupyter.Server, new_tab: Any) -> None:
    lab = new_tab(server)
    lab.open("marks.ipynb")
    _run(lab, 0)
    _cell(lab, 1).locator(".cm-content").click()
    lab.write("%%mlp_data few -p most=3\nSELECT * FROM lake.fl")
    _complete(lab, "lake.flights")
    lab.page.keyboard.type(" WHERE dep")
    _complete(lab, "dep_delay")
    lab.page.keyboard.type(" < :mo")
    _complete(lab, ":most")
    lab.has("%%mlp_data few -p most=3\nSELECT * FROM lake.flights WHERE dep_delay < :most")
    lab.page.keyboard.type(" AND c")
    lab.page.keyboard.press("Tab")
    lab.page.locator(".jp-Completer").get_by_text("carrier", exact=True).wait_for(timeout=15_000)
    lab.picture("lab-completion")
    lab.page.keyboard.press("Escape")
    lab.write("%%mlp_data few\nSELECT * FROM lake.flights")
    lab.page.keyboard.press("Shift+Tab")
    lab.page.locator(".jp-Tooltip").get_by_text("1 row x 2 columns").wait_for(timeout=15_000)
    lab.picture("lab-help")
    assert lab.wrong == []


def test_a_line_says_what_uses_the_dataset_of_a_cell(server: jupyter.Server, new_tab: Any) -> None:
    lab = new_tab(server)
    lab.open("marks.ipynb")
    _run(lab, 0)
    _run(lab, 1, "%%mlp_data few\nSELECT dep_delay FROM lake.flights")
    _run(lab, 2, "%%mlp_data fewer\nSELECT max(dep_delay) AS most FROM few")
    line = _cell(lab, 1).locator(".jp-mlp-used")
    line.wait_for(timeout=60_000)
    assert line.inner_text() == "used by 1 dataset"
    assert _cell(lab, 2).locator(".jp-mlp-used").count() == 0
    lab.row("data", "fewer").wait_for(timeout=20_000)
    lab.picture("lab-used-by")
    assert lab.wrong == []


def test_a_card_of_the_launcher_begins_a_notebook(server: jupyter.Server, new_tab: Any) -> None:
    lab = new_tab(server)
    lab.open()
    card = lab.page.locator(".jp-LauncherCard", has_text="A network for tables")
    card.wait_for(timeout=30_000)
    card.scroll_into_view_if_needed()
    lab.picture("lab-launcher")
    card.click()
    lab.page.get_by_role("paragraph").filter(has_text="Change the first two cells to your own table").wait_for(timeout=60_000)
    assert (server.folder / "tabular.ipynb").exists()
    lab.page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)  # a server ends sooner when no kernel begins
    assert lab.wrong == []
