"""Trainings on batches of the notebook's own code: where it reads, and that nobody takes an old answer for what it reads now."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Notebook

from jupyter_mlp.store import jobs, registry
from jupyter_mlp.store.workspace import Workspace

NET = """
import os
import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader

class Lines(torch.utils.data.Dataset):
    def __init__(self, path):
        self.rows = [float(line) for line in open(path)]
    def __len__(self):
        return len(self.rows)
    def __getitem__(self, i):
        return torch.tensor([self.rows[i]])

class Net(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)
    def training_step(self, batch, index):
        self.log("mean", batch.mean(), on_step=False, on_epoch=True)
        return (self.layer(batch) ** 2).mean()
    def on_train_end(self):
        open("written.txt", "w").write("here")
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)

loader = DataLoader(Lines("data/rows.csv"), batch_size=4)
"""


@pytest.mark.slow
def test_relative_paths_mean_the_same_and_changed_files_are_read_anew(notebook: Notebook, workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").write_text("1\n" * 8)
    notebook.cell(NET)
    notebook.cell("torch.set_num_threads(torch.get_num_threads())")
    first = notebook.cell("%mlp_train Net --data loader --max-epochs 1")
    assert first.metrics["mean"] == 1 and (tmp_path / "written.txt").read_text() == "here"
    assert "torch.set_num_threads() of the notebook is not carried" in repr(first) and "Trained anew" not in repr(first)
    (tmp_path / "data" / "rows.csv").write_text("3\n" * 8)
    second = notebook.cell("%mlp_train Net --data loader --max-epochs 1")
    assert not second.reused and second.metrics["mean"] == 3
    assert f"Trained anew: what loader reads may have changed since {first.ref}." in repr(second)
    assert registry.load(workspace, second.model).card_data["run"] == second.ref
    assert "folder" not in workspace.activities.get(second.id).parameters
    assert (jobs.folder_of(workspace, second.id).read("spec.json") or {})["folder"] == str(tmp_path)
