"""Models of which each process holds a part, as real jobs: a kill costs nothing, and what comes out is a model like any other."""

from __future__ import annotations

import os
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import Notebook
from safetensors.numpy import load_file

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import InvalidInputError, JobError
from jupyter_mlp.store import datasets, jobs, registry
from jupyter_mlp.store.workspace import Workspace

DEEP = """
import time
import lightning as L
import torch
from torch import nn

class Deep(L.LightningModule):
    def __init__(self, width, nap_s=0.0):
        super().__init__()
        self.first = nn.Linear(width, 16)
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.1), nn.ReLU()) for _ in range(2)))
        self.last, self.nap_s = nn.Linear(16, 1), nap_s

    def forward(self, x):
        return self.last(self.blocks(self.first(x))).squeeze(-1)

    def training_step(self, batch, index):
        time.sleep(self.nap_s)
        return nn.functional.l1_loss(self(batch[0]), batch[1])

    def validation_step(self, batch, index):
        self.log("val_mae", nn.functional.l1_loss(self(batch[0]), batch[1]), sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.01)
"""
# As in Lightning's documentation of tensor parallelism.
WIDE = """
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

class Wide(Deep):
    def __init__(self, width):
        super().__init__(width)
        self.blocks = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))

    def configure_model(self):
        plan = {"blocks.0": ColwiseParallel(), "blocks.2": RowwiseParallel()}
        parallelize_module(self, self.device_mesh["tensor_parallel"], plan)
"""
TRAIN = "%mlp_train {model} --data rows --target y --batch-size 64 --gpus 2 {more}"


@pytest.fixture
def rows(workspace: Workspace) -> str:
    random = np.random.default_rng(3)
    x, letter = random.normal(10, 5, 2000), random.choice(list("abc"), 2000)
    data = pd.DataFrame({"x": x, "letter": letter, "y": 3 * x + 7 * (letter == "a") + random.normal(0, 1, 2000)})
    with workspace.activities.recording("query", name="rows") as draft:
        return str(datasets.publish_table(workspace, draft, "rows", pa.Table.from_pandas(data)))


def weights(workspace: Workspace, run: Any) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = load_file(registry.load(workspace, run.model).folder / "weights.safetensors")
    return found


def test_a_killed_process_costs_nothing(notebook: Notebook, workspace: Workspace, rows: str) -> None:
    notebook.cell(DEEP)
    more = "--strategy fsdp --max-epochs 3 --checkpoint-every 5 --set nap_s=0.03"
    run = notebook.cell(TRAIN.format(model="Deep", more=f"{more} --detach"))
    folder = jobs.RunFolder(workspace.runs / run.id)
    written = folder.path / "checkpoints"
    deadline = time.monotonic() + 90
    while not [path for path in written.glob("*.json") if int(path.stem) % 28]:  # in the middle of an epoch
        assert time.monotonic() < deadline, run.logs()[-2000:]
        time.sleep(0.02)
    os.kill(folder.read("rank.1.json")["pid"], signal.SIGKILL)  # type: ignore[index]
    parts = [path.name for path in max(path for path in written.iterdir() if path.is_dir()).glob("*.safetensors")]
    run.wait()
    assert [attempt.why for attempt in run.attempts][1].startswith("Training process 1 of 2 was killed (SIGKILL")
    assert run.attempts[1].resumes and run.attempts[1].resumes % 5 == 0 and set(parts) <= {"00000.safetensors", "00001.safetensors"}
    straight = notebook.cell(TRAIN.format(model="Deep", more=f"{more} --fresh"))
    one, other = weights(workspace, run), weights(workspace, straight)
    assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
    assert jobs.metric_series(folder) == jobs.metric_series(jobs.RunFolder(workspace.runs / straight.id))
    alone = notebook.cell(TRAIN.format(model="Deep", more="--max-epochs 3 --set nap_s=0.0").replace("--gpus 2", "--gpus 1"))
    assert weights(workspace, alone).keys() == one.keys()
    export = registry.load(workspace, run.model).card_data["export"]
    assert export["kind"] == "onnx" and not written.exists()
    judged = mlp.evaluate(run.model, data="rows")
    assert judged.metrics["mae"] < 0.3 * judged.baseline["mae"]


def test_a_model_that_spreads_itself_trains_unchanged(notebook: Notebook, workspace: Workspace, rows: str) -> None:
    notebook.cell(DEEP)
    notebook.cell(WIDE)
    run = notebook.cell(TRAIN.format(model="Wide", more="--max-epochs 2 --checkpoint-every 5"))
    assert "as configure_model() spreads the model: data_parallel_size=1, tensor_parallel_size=2" in repr(run)
    found = weights(workspace, run)
    assert found["blocks.0.weight"].shape == (32, 16) and found["blocks.2.weight"].shape == (16, 32)
    assert registry.load(workspace, run.model).card_data["export"]["kind"] == "onnx"
    alone = notebook.cell(TRAIN.format(model="Wide", more="--max-epochs 2").replace("--gpus 2", "--gpus 1"))
    same = weights(workspace, alone)  # every process sees all rows, as one alone does, and draws the same numbers
    assert all(np.allclose(found[name], same[name], atol=1e-3) for name in found)
    with pytest.raises(InvalidInputError, match="2 processes cannot be divided into groups"):
        notebook.cell(TRAIN.format(model="Wide", more="--tensor-parallel-size 3"))


def test_other_gpus_go_on_with_its_parts(notebook: Notebook, workspace: Workspace, rows: str) -> None:
    """In one process it is whole, and in two each has a part again; each goes on where the one before was."""
    notebook.cell(DEEP)
    two = notebook.cell(TRAIN.format(model="Deep", more="--strategy fsdp --max-epochs 2 --checkpoint-every 5"))
    one = notebook.cell(f"%mlp_train --resume {two.ref} --gpus 1 --max-epochs 3")
    again = notebook.cell(f"%mlp_train --resume {one.ref} --gpus 2 --max-epochs 4")
    assert f"Goes on from {two.ref} at step 58, after epoch 2." in repr(one) and "1 process instead of 2 share" in repr(one)
    assert f"Goes on from {one.ref} at step 87" in repr(again) and "2 processes instead of 1 share" in repr(again)
    found = [weights(workspace, run) for run in (two, one, again)]
    assert found[0].keys() == found[1].keys() == found[2].keys()
    steps = [max(np.abs(a[name] - b[name]).max() for name in a) for a, b in pairwise(found)]
    assert all(0 < step < 0.7 for step in steps), steps  # an epoch of Adam's from where the run before was, not from anywhere
    assert mlp.evaluate(again.model, data="rows").metrics["mae"] < mlp.evaluate(two.model, data="rows").metrics["mae"]


def test_what_cannot_be_sharded_says_what_to_type(notebook: Notebook, rows: str, tmp_path: Path) -> None:
    notebook.cell(DEEP.replace("super().__init__()\n", "super().__init__()\n        self.automatic_optimization = False\n"))
    with pytest.raises(JobError, match="Deep steps its optimisers itself") as error:
        notebook.cell(TRAIN.format(model="Deep", more="--strategy fsdp"))
    assert "--strategy ddp" in error.value.hint
