"""The quick start through the sidebar: what is on the left is true, and what is clicked becomes a cell that runs."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupyter_servers as jupyter
import nbformat
import pytest
from conftest import settings

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("extension"), pytest.mark.timeout(600)]

MODEL = """import time
import lightning as L
import torch
from torch import nn


class Net(L.LightningModule):
    def __init__(self, width: int, pause_s: float = 0.0):
        super().__init__()
        self.layer, self.pause_s = nn.Linear(width, 1), pause_s

    def forward(self, x):
        return self.layer(x).squeeze(-1)

    def training_step(self, batch, _):
        time.sleep(self.pause_s)
        loss = nn.functional.mse_loss(self(batch[0]), batch[1])
        self.log("train_loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch, _):
        self.log("val_mae", (self(batch[0]) - batch[1]).abs().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.05)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[jupyter.Server]:
    place = tmp_path_factory.mktemp("flow")
    settings(place)
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})
    notebook.cells = [nbformat.v4.new_code_cell("")]
    (place / "notebooks").mkdir()
    nbformat.write(notebook, place / "notebooks" / "flights.ipynb")
    rows = [f"{number % 7},{number % 5},{(number % 7) * 2 + (number % 5)}" for number in range(2_000)]
    (place / "notebooks" / "flights.csv").write_text("\n".join(["hour,weekday,delay", *rows]) + "\n")
    with jupyter.running(place) as running:
        yield running
        _stop_endpoints(running)


def _stop_endpoints(server: jupyter.Server) -> None:
    import jupyter_mlp as mlp

    before = os.environ.get("MLP_WORKSPACE")
    os.environ["MLP_WORKSPACE"] = str(server.workspace)
    try:
        mlp.endpoint("net").stop()
    except mlp.MLPError:
        pass
    finally:
        os.environ.pop("MLP_WORKSPACE") if before is None else os.environ.update(MLP_WORKSPACE=before)


def test_the_quick_start_through_the_sidebar(server: jupyter.Server, new_tab: Any) -> None:
    lab = new_tab(server)
    lab.open("flights.ipynb")
    # 1 data: an empty workspace says the first step, and writes it
    lab.panel("data").get_by_text("No tables yet").wait_for()
    lab.picture("lab-empty")
    lab.panel("data").get_by_role("button", name="Write this cell").click()
    lab.page.locator(".jp-Notebook-cell .cm-content", has_text="%load_ext jupyter_mlp").wait_for()
    lab.has("%mlp_table lake.flights flights.csv")
    lab.run()
    row = lab.open_row("data", "lake.flights")
    row.get_by_text("2,000 rows x 3 columns").wait_for()
    row.locator("td", has_text="6").first.wait_for()
    row.get_by_role("button", name="Query").click()
    lab.has("%%mlp_data flights\nSELECT * FROM lake.flights")
    lab.run(180)
    row.locator(".jp-mlp-open").click()  # closed again
    # SQL is shown as SQL
    lab.page.locator(".jp-Notebook-cell.jp-mod-active .cm-content[data-language=sql]").wait_for()
    row = lab.open_row("data", "2,000 rows x 3 columns, ")
    row.get_by_role("button", name="lake.flights@").or_(row.get_by_text("table:lake.flights@")).first.wait_for()
    lab.picture("lab-data")
    # 2 train: the cell is written, its model named by hand
    lab.new_cell()
    lab.write(MODEL)
    lab.run()
    row.get_by_role("button", name="Train").click()
    lab.has("%mlp_train MyModel --data flights --target delay")
    lab.write("run = %mlp_train Net --data flights --target delay --max-epochs 2")
    lab.run(240)
    row.locator(".jp-mlp-open").click()
    row = lab.open_row("runs", "Net")
    row.get_by_role("img", name="val_mae").wait_for(timeout=30_000)
    lab.panel("runs").locator("[data-cluster=local]").get_by_text("on 1 node").wait_for()
    lab.picture("lab-runs")
    row.locator(".jp-mlp-open").click()
    # 3-4 evaluate, deploy
    row = lab.open_row("models", "Net")
    row.get_by_role("button", name="Evaluate").click()
    lab.has(f"%mlp_evaluate {_reference(row)} --data DATASET")
    lab.write(lab.text().replace("DATASET", "flights"))
    lab.run()
    row.get_by_role("button", name="Deploy").click()
    lab.has(f"%mlp_deploy {_reference(row)} --to net")
    lab.run()
    row.locator(".jp-mlp-open").click()
    row = lab.open_row("endpoints", "net")
    row.get_by_text("ready").wait_for(timeout=30_000)
    # 5-6 predict, monitor
    row.get_by_role("button", name="Predict").click()
    lab.has("%mlp_predict endpoint:net --data DATASET")
    lab.write(lab.text().replace("DATASET", "flights"))
    lab.run()
    row.get_by_text("requests in 5 minutes").wait_for(timeout=30_000)
    row.get_by_role("button", name="Monitor").click()
    lab.has("%mlp_monitor net")
    lab.run()
    lab.picture("lab-endpoints")
    assert lab.page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    assert lab.wrong == []
    lab.save()


def test_traffic_and_roll_back_are_asked_for(server: jupyter.Server, new_tab: Any) -> None:
    lab = new_tab(server)
    lab.open("flights.ipynb")
    lab.new_cell()
    lab.write(
        "other = %mlp_train Net --data flights --target delay --max-epochs 1\nbeside = %mlp_deploy other --to net --traffic 10\nbeside"
    )
    lab.run(240)
    lab.new_cell()
    lab.write("%mlp_alias candidate other")
    lab.run()
    lab.row("models", "Net").get_by_text("candidate").wait_for(timeout=30_000)
    newest = lab.open_row("models", "Net")
    older = lab.panel("models").locator(".jp-mlp-row").nth(1).get_attribute("data-ref")
    newest.get_by_label("Compare with").select_option(older)
    newest.get_by_role("button", name="Evaluate both").click()
    lab.has(f"%mlp_evaluate {_reference(newest)} --data DATASET --against {older}")
    lab.write(lab.text().replace("DATASET", "flights"))
    lab.run()
    newest.locator(".jp-mlp-open").click()
    row = lab.open_row("endpoints", "net")
    row.get_by_text("10 %").first.wait_for(timeout=30_000)
    row.get_by_text("Which model is better?").wait_for(timeout=30_000)
    lab.write(
        "import jupyter_mlp as mlp\nrows = mlp.dataset('flights').to_pandas()\n"
        "for at in range(0, 2_000, 100):\n    answers = mlp.predict('endpoint:net', data=rows[['hour', 'weekday']][at : at + 100])\n"
        "    mlp.outcomes('net', data=dict(zip(answers.ids, rows.delay[at : at + 100].tolist())))\n%mlp_monitor net"
    )
    lab.run()
    row.locator(".jp-mlp-verdict").first.wait_for(timeout=60_000)
    lab.picture("lab-verdict")
    slider = row.get_by_role("slider").last
    slider.focus()
    for _ in range(15):
        slider.press("ArrowRight")
    row.get_by_role("button", name="Set 25 %").click()
    dialog = lab.page.get_by_role("dialog")
    assert "25 % of the requests instead of 10 %" in dialog.inner_text()
    lab.picture("lab-traffic")
    dialog.get_by_role("button", name="Cancel").click()
    assert {one["weight"] for one in _wanted(server)} == {90, 10}  # asked, and not done
    row.get_by_role("button", name="Set 25 %").click()
    dialog.get_by_role("button", name="Change it").click()
    row.get_by_text("75 %").first.wait_for(timeout=60_000)
    assert {one["weight"] for one in _wanted(server)} == {75, 25}
    row.get_by_role("button", name="Roll back").click()
    dialog.get_by_role("button", name="Roll back").click()
    row.get_by_text("90 %").first.wait_for(timeout=60_000)
    assert {one["weight"] for one in _wanted(server)} == {90, 10}
    row.get_by_role("button", name="Stop").click()
    dialog.get_by_role("button", name="Stop it").click()
    row.get_by_role("button", name="Start").wait_for(timeout=60_000)
    lab.picture("lab-stopped")
    row.get_by_role("button", name="Start").click()
    dialog.get_by_role("button", name="Start it").click()
    row.get_by_role("button", name="Stop").wait_for(timeout=60_000)
    assert {one["weight"] for one in _wanted(server)} == {90, 10}
    assert lab.wrong == []


def test_a_training_outlives_the_page_and_the_kernel(server: jupyter.Server, new_tab: Any) -> None:
    lab = new_tab(server)
    lab.open("flights.ipynb")
    lab.new_cell()
    # it waits in its cell, with a line that tells how far it is
    lab.write("%mlp_train Net --data flights --target delay --max-epochs 12 --batch-size 100 --set pause_s=0.12")
    lab.cell().click()
    lab.page.keyboard.press("Control+Enter")
    row = lab.row("runs", "Net")
    row.get_by_text("running").wait_for(timeout=30_000)
    row.locator("progress").wait_for(timeout=60_000)
    lab.page.locator(".jp-OutputArea-output progress").wait_for(timeout=30_000)
    assert lab.page.locator(".jp-mlp-live").count() == 0
    lab.save()
    lab.page.reload()
    lab.page.locator('[data-id="jupyter-mlp"]').wait_for(timeout=60_000)
    lab.show()
    row = lab.row("runs", "Net")
    row.locator("progress").wait_for(timeout=60_000)
    lab.panel("runs").locator("[data-cluster=local]").get_by_text("1 running").wait_for(timeout=30_000)
    # the cell shows it again, from the records, instead of the line that nobody moves any more
    live = lab.page.locator(".jp-Notebook-cell .jp-mlp-live")
    live.locator("progress").wait_for(timeout=60_000)
    assert lab.page.locator(".jp-OutputArea-output progress").locator("visible=true").count() == 0
    lab.picture("lab-live-cell")
    before = float(row.locator("progress").get_attribute("value"))
    # JupyterLab tells of a kernel that died, mostly: not where it had only just connected to one that was busy.
    told = lab.page.get_by_role("dialog").get_by_role("button", name="Ok", exact=True)
    lab.page.add_locator_handler(told, lambda button: button.click())
    _kill_kernel(server)
    lab.page.wait_for_function(f"Number(document.querySelector('.jp-mlp-of-runs progress')?.value ?? 1) > {before}", timeout=60_000)
    lab.open_row("runs", "Net").get_by_role("button", name="Cancel").wait_for()
    lab.picture("lab-live")
    row.get_by_role("button", name="Cancel").click()
    lab.page.get_by_role("dialog").get_by_role("button", name="Cancel it").click()
    row.get_by_text("cancelled").wait_for(timeout=60_000)
    live.get_by_text("cancelled").wait_for(timeout=30_000)
    live.get_by_role("button", name="Show what came of it").wait_for()
    assert lab.wrong == []


def test_a_snapshot_is_verified_and_its_report_opened(server: jupyter.Server, new_tab: Any) -> None:
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})
    query = "%%mlp_data few\nSELECT count(*) AS n FROM lake.flights"
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in ("%load_ext jupyter_mlp", query)]
    nbformat.write(notebook, server.folder / "few.ipynb")
    lab = new_tab(server)
    lab.open("few.ipynb")
    lab.page.locator(".jp-Notebook-cell").first.locator(".cm-content").click()
    lab.run()
    lab.page.locator(".jp-Notebook-cell").last.locator(".cm-content").click()
    lab.run(180)
    lab.save()
    lab.page.locator("[data-jp-item-name=mlp-snapshot] :is(button, jp-button)").first.click()
    row = lab.open_row("snapshots", "few")
    row.get_by_text("Not verified yet").wait_for()
    row.get_by_role("button", name="Verify").click()
    lab.page.locator(".jp-Notebook-cell .cm-content", has_text=f"%mlp_verify {_reference(row)}").wait_for()
    frame = lab.page.frame_locator("iframe[src*='jupyter-mlp/report']")
    frame.get_by_text("It gives the same again").wait_for(timeout=240_000)  # the report opens by itself
    row.get_by_text("verified", exact=True).wait_for(timeout=60_000)
    lab.picture("lab-verified")
    assert row.get_by_label("Compare with").count() == 0, "there is no other yet"
    lab.write("late = 1")
    lab.page.keyboard.press("Control+Enter")
    lab.page.get_by_text("[5]:").wait_for()
    lab.save()
    lab.panel("snapshots").get_by_role("button", name="New").click()
    lab.panel("snapshots").locator(".jp-mlp-row").nth(1).wait_for(timeout=60_000)
    newest = lab.open_row("snapshots", "few")
    first = lab.panel("snapshots").locator(".jp-mlp-row").nth(1).get_attribute("data-ref")
    newest.get_by_label("Compare with").select_option(first)
    newest.locator(".jp-mlp-difference").get_by_text("late = 1").wait_for(timeout=30_000)
    lab.picture("lab-difference")
    assert lab.page.locator("iframe[src*='jupyter-mlp/report']").get_attribute("sandbox") == ""
    assert lab.wrong == []


def _reference(row: Any) -> str:
    return str(row.get_attribute("data-ref"))


def _wanted(server: jupyter.Server) -> list[dict[str, Any]]:
    return list(json.loads((server.workspace / "endpoints" / "net" / "wanted.json").read_text())["variants"])


def _kill_kernel(server: jupyter.Server) -> None:
    """kill -9 of every kernel of this server, and only of them."""
    killed = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if b"ipykernel_launcher" in command and parent == server.process.pid:
            os.kill(int(entry.name), signal.SIGKILL)
            killed += 1
    assert killed
    time.sleep(0.5)
