"""A notebook is scheduled by its form, runs, is paused and resumed, and what it executed is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupyter_servers as jupyter
import nbformat
import pytest
from conftest import settings

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("extension"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[jupyter.Server]:
    place = tmp_path_factory.mktemp("schedules")
    settings(place)
    declares = nbformat.v4.new_code_cell("month: int = 1\ncity: str = 'Bern'\nfull = False", metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[declares, nbformat.v4.new_code_cell("print('the month is', month)")])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (place / "notebooks").mkdir()
    nbformat.write(notebook, place / "notebooks" / "nightly.ipynb")
    with jupyter.running(place) as running:
        yield running
        _stop_scheduler(running.workspace)


def _stop_scheduler(workspace: Path) -> None:
    """End this workspace's scheduler, and only that."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command, told = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
        except OSError:
            continue
        if b"jupyter_mlp.scheduler" in command and f"MLP_WORKSPACE={workspace}\0".encode() in told:
            os.kill(int(entry.name), 15)


def test_a_notebook_is_scheduled_by_its_form(server: jupyter.Server, new_tab: Any) -> None:
    lab = new_tab(server)
    lab.open("nightly.ipynb")
    lab.panel("pipelines").get_by_text("No notebook runs by itself yet").wait_for()
    lab.page.locator("[data-jp-item-name=mlp-schedule] :is(button, jp-button)").first.click()
    form = lab.page.locator(".jp-mlp-schedule")
    form.get_by_text("Next: ").wait_for(timeout=30_000)
    # what is wrong stands at its field, while it is typed, and nothing can be sent
    form.get_by_label("Cron line").fill("0 3 * *")
    form.locator(".jp-mlp-wrong", has_text="Cron line").get_by_text("has 4 fields, not 5").wait_for()
    form.get_by_label("month").fill("three")
    form.locator(".jp-mlp-wrong", has_text="month").get_by_text("not an int").wait_for()
    assert form.get_by_label("month").get_attribute("aria-invalid") == "true"
    assert form.get_by_role("button", name="Schedule").is_disabled()
    lab.picture("lab-schedule-wrong")
    form.get_by_label("month").fill("3")
    form.get_by_label("Every", exact=True).select_option("0 6 * * 1-5")
    form.get_by_label("Time zone").fill("Europe/Zurich")
    form.get_by_label("Retries").fill("2")
    form.get_by_text("Next: ").wait_for()
    lab.picture("lab-schedule")
    form.get_by_role("button", name="Schedule").click()
    form.wait_for(state="detached", timeout=30_000)
    # the panel has it, and runs it
    row = lab.open_row("pipelines", "nightly")
    row.get_by_text("month=3").wait_for()
    row.get_by_text("0 6 * * 1-5, Europe/Zurich").wait_for()
    row.get_by_role("button", name="Run now").click()
    row.locator(".jp-mlp-ticks").get_by_text("finished").wait_for(timeout=120_000)
    lab.picture("lab-schedules")
    row.get_by_role("button", name="Pause").click()
    row.get_by_role("button", name="Resume").wait_for()
    row.get_by_role("button", name="Resume").click()
    row.get_by_role("button", name="Pause").wait_for()
    row.get_by_role("button", name="open the executed notebook").click()
    lab.page.frame_locator("iframe[src*='jupyter-mlp/report']").get_by_text("the month is 3").wait_for(timeout=30_000)
    lab.picture("lab-executed")
    row.get_by_role("button", name="Remove").click()
    lab.page.get_by_role("dialog").get_by_role("button", name="Remove it").click()
    lab.panel("pipelines").get_by_text("No notebook runs by itself yet").wait_for()
    assert lab.wrong == []
