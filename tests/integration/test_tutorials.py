"""LightningModules as public tutorials write them, in cells, trained unchanged by `%mlp_train`: one job each.

All notebooks are written and their jobs submitted first, so that starting up is shared; then each is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import Notebook
from safetensors.numpy import load_file
from tutorials import RANKS, TUTORIALS

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError
from jupyter_mlp.store import datasets, jobs, registry
from jupyter_mlp.store.workspace import Workspace, current

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """One run for each tutorial, submitted from a notebook of its own."""
    from IPython.core.history import HistoryManager
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    folder = tmp_path_factory.mktemp("tutorials")
    before = Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLP_WORKSPACE", str(folder / "workspace"))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))  # as a kernel has it
        digits(current())
        (folder / "blocks.py").write_text(
            "from torch import nn\n\ndef dense(a, b):\n    return nn.Sequential(nn.Linear(a, b), nn.ReLU())\n"
        )
        found = {}
        for name, cells in TUTORIALS.items():
            InteractiveShell.clear_instance()
            HistoryManager.outputs.clear()
            config = Config()
            config.HistoryManager.enabled = False
            notebook = Notebook(InteractiveShell.instance(config=config))
            for cell in cells:
                found[name] = notebook.cell(cell)
        yield found
        InteractiveShell.clear_instance()
    os.chdir(before)


def digits(workspace: Workspace) -> None:
    """The 1,797 handwritten digits of scikit-learn: 64 columns and the digit."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    table = pa.table({**{f"p{i:02d}": x[:, i].astype(np.float32) / 16 for i in range(64)}, "digit": y})
    with workspace.activities.recording("query", name="digits") as draft:
        datasets.publish_table(workspace, draft, "digits", table)


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_trains_unchanged(runs: dict[str, Any], name: str) -> None:
    run = runs[name].wait()
    assert run.state == "finished", run.logs()
    model = registry.load(run.workspace, run.model)
    weights = load_file(model.folder / "weights.safetensors")
    assert weights and all(np.isfinite(value).all() for value in weights.values())
    assert model.card_data["steps"] > 0 and run.metrics
    listed = (jobs.folder_of(run.workspace, run.id).read("spec.json") or {})["captured"]
    assert listed and all(size > 0 for _, size in listed)
    assert "pieces" in repr(run)


def test_what_learned_from_its_own_batches_is_refused_where_columns_are_needed(runs: dict[str, Any]) -> None:
    run = runs["gan"].wait()
    assert "made in the job by its own code" in repr(run)
    with pytest.raises(InvalidInputError) as error:
        mlp.evaluate(run.model, data="digits")
    assert "--target COLUMN" in error.value.hint
    with pytest.raises(InvalidInputError, match="batches of its own code"):
        mlp.deploy(run.model, to="nowhere")


def test_two_processes_share_the_users_own_loader(runs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs["two processes"].wait()
    assert RANKS == 1 or ("ddp" in repr(run) and "copy of the model in each of 2 processes" in repr(run))


def test_callbacks_and_a_logger_as_tutorials_use_them(runs: dict[str, Any]) -> None:
    run = runs["callbacks"].wait()
    assert {"brightness", "lr-Adam", "val_loss"} <= set(run.metrics)
    said = repr(run)
    assert "experiment.add_image() is ignored" in said and "ModelCheckpoint kept" in said and "(val_loss" in said
    assert list(jobs.folder_of(run.workspace, run.id).path.rglob("lightning_logs/version_0/checkpoints/*.ckpt"))


CELL = """
import lightning as L, torch
from torch import nn
class Net(L.LightningModule):
    def training_step(self, batch, i):
        return torch.zeros(1, requires_grad=True) * len(words)
"""


@pytest.mark.parametrize(
    ("cell", "line", "said", "hint"),
    [
        ("words = [str(i) * 9 for i in range(90_000)]", "Net --data digits", "words is a list of", "%mlp_table"),
        ("import os; words = open(os.devnull)", "Net --data digits", "words, a live TextIOWrapper", "--set"),
        ("import sqlite3; words = sqlite3.connect(':memory:')", "Net --data digits", "words, a live Connection", "--set"),
        ("words = []", "Net", "Which data? Net has no train_dataloader()", "DataLoader of this notebook"),
        ("words = []; loader = torch.utils.data.DataLoader([1])", "Net --data loader --target y", "--target is said of", "Leave it out"),
        ("words = []", "Net --data digits --trainer presicion=16", "takes no presicion", "Did you mean precision?"),
        ("words = []", "Net --data digits --trainer max_epochs=3", "max_epochs is not given this way", "--max-epochs"),
        ("words = []", "Net --data digits --callbacks stoppers", "No cell that ran defines stoppers", "Assign it"),
        ("words = []; net = Net()", "net --data digits --set lr=1", "was made already", "Change the cell"),
    ],
)
def test_refusals_name_what_cannot_travel(notebook: Notebook, workspace: Workspace, cell: str, line: str, said: str, hint: str) -> None:
    digits(workspace)
    notebook.cell(CELL)
    notebook.cell(cell)
    with pytest.raises((InvalidInputError, NotFoundError)) as error:
        notebook.cell(f"%mlp_train {line}")
    assert said in str(error.value) and hint in error.value.hint
