"""Training on Parquet files where they lie: streamed from a real HTTP server, through a change of them and a loss of the connection."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import file_server
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Notebook
from file_server import FileServer
from safetensors.numpy import load_file

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import ConflictError, JobError
from jupyter_mlp.serving import places
from jupyter_mlp.store import elsewhere, held_out, jobs, registry
from jupyter_mlp.store.workspace import Workspace

NET = """
import time
import lightning as L
import torch
from torch import nn

class Net(L.LightningModule):
    def __init__(self, width, pause=0.0):
        super().__init__()
        self.pause, self.net = pause, nn.Linear(width, 1)

    def forward(self, x):
        return self.net(x).squeeze(-1)

    def training_step(self, batch, index):
        x, y = batch
        time.sleep(self.pause)
        return nn.functional.l1_loss(self(x), y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-2)
"""
TRAIN = "run = %mlp_train Net --data {data} --target y --max-epochs 4 --batch-size 500 --set pause={pause} --checkpoint-every 3 {more}\nrun"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    folder = tmp_path / "served" / "trips"
    folder.mkdir(parents=True)
    random = np.random.default_rng(5)
    for number in range(3):
        x, letter = random.normal(10, 5, 2000), random.choice(list("abc"), 2000)
        pq.write_table(
            pa.table({"x": x, "letter": letter, "y": 3 * x + 7 * (letter == "a")}), folder / f"{number}.parquet", row_group_size=500
        )
    with file_server.running(tmp_path / "served") as running:
        yield running


def weights(workspace: Workspace, run: mlp.training.Run) -> np.ndarray:
    assert run.model is not None
    return load_file(registry.load(workspace, run.model).folder / "weights.safetensors")["net.weight"]


def test_a_training_streams_from_a_url_what_it_would_read_here(notebook: Notebook, workspace: Workspace, server: FileServer) -> None:
    notebook.cell(NET)
    there = notebook.cell(TRAIN.format(data=f"{server.url}/trips/*.parquet", pause=0, more="--gpus 2"))
    assert there.state == "finished"
    assert [ref.kind for ref in there.inputs] == ["file"] and there.inputs[0].name == f"{server.url}/trips/*.parquet"
    assert there.recipe is not None and there.recipe.startswith("recipe:trips-default@")
    spec = jobs.folder_of(workspace, there.id).read("spec.json")
    assert spec is not None and spec["data"]["files"] == [f"{server.url}/trips/{i}.parquet" for i in range(3)]
    mlp.write_table("trips", str(server.folder / "trips"), in_place=True)
    here = notebook.cell(TRAIN.format(data="lake.trips", pause=0, more="--gpus 2"))
    assert [ref.kind for ref in here.inputs] == ["table"]
    assert np.array_equal(weights(workspace, there), weights(workspace, here))
    assert here.model in {str(one.ref) for one in mlp.impact("lake.trips.x").dependants}
    files = {edge[0] for edge in mlp.graph(str(there.model)).edges if "0.parquet" in edge[0]}
    assert len(files) == 1 and files.pop().startswith(f"file:{server.url}/trips/0.parquet@")
    again = notebook.cell(TRAIN.format(data=f"{server.url}/trips/*.parquet", pause=0, more="--gpus 2"))
    assert again.reused and again.ref == there.ref
    judged = notebook.cell(f"%mlp_evaluate run --data {server.url}/trips/0.parquet")
    assert judged.rows == 2000 and judged.data.kind == "file"
    kept, held = held_out.rows(workspace, registry.load(workspace, str(there.model)), 1000)
    assert kept == there.inputs[0] and 500 < len(held) < 700


def test_a_lost_connection_costs_no_step_and_a_changed_file_ends_it(notebook: Notebook, workspace: Workspace, server: FileServer) -> None:
    notebook.cell(NET)
    undisturbed = notebook.cell(TRAIN.format(data=f"{server.url}/trips", pause=0, more=""))
    run = notebook.cell(TRAIN.format(data=f"{server.url}/trips", pause=0.1, more="--detach"))
    until(lambda: jobs.metric_series(folder(workspace, run)))  # the first epoch is over
    server.hangs_up = 10**6
    until(lambda: len(run.attempts) == 2)
    server.hangs_up = 0
    run.wait()
    assert run.attempts[1].resumes and "cannot be reached" in run.attempts[1].why
    assert np.array_equal(weights(workspace, undisturbed), weights(workspace, run))

    changing = notebook.cell(TRAIN.format(data=f"{server.url}/trips", pause=0.1, more="--detach --fresh"))
    until(lambda: jobs.metric_series(folder(workspace, changing)))
    path = server.folder / "trips" / "1.parquet"
    pq.write_table(pq.read_table(path), path, row_group_size=600)
    with pytest.raises(JobError, match=r"1.parquet changed since it was taken as data"):
        changing.wait()
    assert len(changing.attempts) == 1


def folder(workspace: Workspace, run: mlp.training.Run) -> jobs.RunFolder:
    return jobs.folder_of(workspace, run.id)


def until(true: Callable[[], Any], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_retraining_takes_the_files_as_they_are_now(notebook: Notebook, workspace: Workspace, server: FileServer) -> None:
    notebook.cell(NET)
    run = notebook.cell(TRAIN.format(data=f"{server.url}/trips", pause=0, more=""))
    try:
        notebook.cell("%mlp_deploy run --to trips")
        with pytest.raises(ConflictError, match="there is no newer data"):
            notebook.cell("%mlp_retrain trips")
        path = server.folder / "trips" / "0.parquet"
        pq.write_table(pq.read_table(path), path.with_name("3.parquet"), row_group_size=500)
        found = notebook.cell("%mlp_retrain trips")
    finally:
        places.stop_all(workspace)
    assert found.model != run.model and 700 < found.now.rows < 900, "a tenth of 8,000 rows is held out"
    first, second = (next(ref for ref in jobs.fold(workspace, mlp.run(one).id).used if ref.kind == "file") for one in (run.ref, found.run))
    assert first.name == second.name and first.version != second.version and found.data == str(second)
    again = elsewhere.load(workspace, found.data)
    assert again.rows == 8000 and len(again.files) == 4
