"""Training as real jobs: from cells to a registered model, and what happens when something is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from conftest import Notebook
from safetensors.numpy import load_file

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import DetachedError, InvalidInputError, JobError, NotFoundError
from jupyter_mlp.frontends import cli
from jupyter_mlp.store import datasets, jobs, registry
from jupyter_mlp.store.workspace import Workspace

NET = """
import lightning as L
import torch
from torch import nn

HIDDEN = 16

def block(a, b):
    return nn.Sequential(nn.Linear(a, b), nn.ReLU())

class Net(L.LightningModule):
    def __init__(self, width, outputs=1, hidden=HIDDEN, lr=1e-2):
        super().__init__()
        self.lr, self.loss = lr, nn.L1Loss()
        self.net = nn.Sequential(block(width, hidden), nn.Linear(hidden, outputs))

    def forward(self, x):
        return self.net(x).squeeze(-1)

    def training_step(self, batch, index):
        x, y = batch
        return self.loss(self(x), y)

    def validation_step(self, batch, index):
        x, y = batch
        self.log("val_loss", self.loss(self(x), y))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), self.lr)
"""
SLOW = NET.replace("x, y = batch\n        return", "x, y = batch\n        import time; time.sleep(0.05)\n        return")


def frame(count: int = 4000) -> pd.DataFrame:
    random = np.random.default_rng(3)
    x, letter = random.normal(10, 5, count), random.choice(list("abc"), count)
    return pd.DataFrame({"x": x, "letter": letter, "y": 3 * x + 7 * (letter == "a") + random.normal(0, 1, count)})


def dataset(workspace: Workspace, name: str = "rows", data: pd.DataFrame | None = None) -> str:
    import pyarrow as pa

    with workspace.activities.recording("query", name=name) as draft:
        return str(datasets.publish_table(workspace, draft, name, pa.Table.from_pandas(frame() if data is None else data)))


def finished(run: mlp.training.Run, within_s: float = 60) -> str:
    deadline = time.monotonic() + within_s
    while run.state == "running":
        assert time.monotonic() < deadline, run.logs()[-2000:]
        time.sleep(0.1)
    return run.state


def test_a_model_of_the_notebook_becomes_a_run_and_a_model(notebook: Notebook, workspace: Workspace) -> None:
    data = dataset(workspace)
    notebook.cell(NET)
    notebook.cell("HIDDEN = 24")
    run = notebook.cell("run = %mlp_train Net --data rows --target y --max-epochs 4 --batch-size 64 --set lr=0.02\nrun")
    assert run.state == "finished" and not run.reused
    assert set(run.metrics) == {"train_loss", "val_loss"}
    assert [str(ref) for ref in run.inputs] == [data]
    assert run.model is not None and run.model in repr(run)
    model = registry.load(workspace, run.model)
    assert model.card_data["arguments"] == {"width": 4, "lr": 0.02, "outputs": 1}
    assert model.card_data["export"]["kind"] == "onnx" and model.card_data["export"]["error"] < 1e-3
    assert model.card_data["data"] == data and model.card_data["run"] == run.ref
    assert "torch" in model.card_data["environment"]["packages"]
    weights = load_file(model.folder / "weights.safetensors")
    assert weights["net.0.0.weight"].shape == (16, 4)  # a default is fixed when the class is made, not when it is sent
    assert not list(model.folder.rglob("*.pkl")) and not list(model.folder.rglob("*.ckpt"))
    judged = notebook.cell("%mlp_evaluate run --data rows")
    assert judged.beats_baseline and judged.metrics["mae"] < 0.3 * judged.baseline["mae"]
    again = notebook.cell("%mlp_train Net --data rows --target y --max-epochs 4 --batch-size 64 --set lr=0.02")
    assert again.reused and again.ref == run.ref
    assert mlp.run(run.ref).model == run.model
    graph = mlp.graph(run.model)
    assert any(data in edge for edge in graph.edges)


def test_two_processes_and_several_classes(notebook: Notebook, workspace: Workspace) -> None:
    data = frame().assign(y=lambda rows: pd.cut(rows.y, [-99, 25, 35, 999], labels=["low", "middle", "high"]).astype(str))
    dataset(workspace, "classes", data)
    notebook.cell(NET.replace("nn.L1Loss()", "nn.CrossEntropyLoss()").replace(".squeeze(-1)", ""))
    run = notebook.cell("%mlp_train Net --data classes --target y --max-epochs 5 --batch-size 64 --gpus 2")
    assert "2 CPU processes" in repr(run)
    assert registry.load(workspace, run.model).card_data["classes"] == ["high", "low", "middle"]
    assert mlp.evaluate(run.model, data="classes").metrics["accuracy"] > 0.8
    assert finished(run) == "finished"
    _until(lambda: not _processes_of(workspace), 20)


def test_the_kernel_is_killed_and_nothing_is_lost(workspace: Workspace, tmp_path: Path) -> None:
    dataset(workspace)
    code = f"""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in ["%load_ext jupyter_mlp", {SLOW!r}, "%mlp_train Net --data rows --target y --max-epochs 10 --batch-size 256"]:
    shell.run_cell(cell, store_history=True)
"""
    kernel = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"IPYTHONDIR": str(tmp_path / "i")}, start_new_session=True)
    _until(lambda: any(a.kind == "train" for a in workspace.activities.recent()), 30)
    run = mlp.run(f"run:{workspace.activities.recent(['train'])[0].id}")
    _until(lambda: len(jobs.metric_series(workspace_folder(run)).get("train_loss", [])) >= 1, 60)
    os.killpg(kernel.pid, signal.SIGKILL)
    kernel.wait()
    assert run.state == "running"
    code = f"import jupyter_mlp as mlp; run = mlp.run('{run.ref}').wait(); print(run.model); print(run.logs())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.startswith("model:") and "`max_epochs=10` reached" in told
    assert [step for step, _ in jobs.metric_series(workspace_folder(run))["train_loss"]] == [15 * epoch for epoch in range(1, 11)]
    assert registry.load(workspace, told.split()[0]).card_data["steps"] == 150


def test_the_supervisor_is_killed_and_whoever_attaches_registers_the_model(notebook: Notebook, workspace: Workspace) -> None:
    dataset(workspace)
    notebook.cell(SLOW)
    run = notebook.cell("%mlp_train Net --data rows --target y --max-epochs 4 --detach")
    folder = workspace_folder(run)
    _until(lambda: jobs.metric_series(folder).get("train_loss"), 60)
    worker = folder.read("rank.0.json")["pid"]  # type: ignore[index]
    os.kill(_supervisors(folder)[0], signal.SIGKILL)
    _until(lambda: len(_supervisors(folder)) == 2, 30)  # the worker saw to it, and nobody looked
    assert run.state == "running"
    assert run.wait().model is not None
    assert run.state == "finished" and len(run.attempts) == 1
    assert folder.read("rank.0.json")["pid"] == worker  # type: ignore[index]


def test_a_killed_worker_goes_on_from_its_checkpoint_as_often_as_is_allowed(notebook: Notebook, workspace: Workspace) -> None:
    dataset(workspace)
    notebook.cell(SLOW)
    run = notebook.cell("%mlp_train Net --data rows --target y --max-epochs 50 --checkpoint-every 3 --retries 1 --detach")
    folder = workspace_folder(run)
    _until(lambda: list((folder.path / "checkpoints").glob("*.json")), 60)
    os.kill(folder.read("rank.0.json")["pid"], signal.SIGKILL)  # type: ignore[index]
    _until(lambda: len(run.attempts) == 2, 30)
    assert run.state == "running" and run.attempts[1].resumes is not None and run.attempts[1].resumes % 3 == 0
    assert run.attempts[1].why == "The training process was killed (SIGKILL, by somebody or for want of memory)."
    _until(lambda: (folder.read("rank.0.json") or {}).get("attempt") == 2, 30)
    os.kill(folder.read("rank.0.json")["pid"], signal.SIGKILL)  # type: ignore[index]
    with pytest.raises(JobError, match="was killed") as error:
        run.wait()
    assert "--retries 1 allows no more" in error.value.message and "--logs" in error.value.hint
    assert f"went on from step {run.attempts[1].resumes}" in repr(run)
    assert run.state == "failed" and run.model is None and workspace.activities.names("model") == []


def test_supervisor_and_worker_are_killed_and_whoever_looks_starts_them_once(notebook: Notebook, workspace: Workspace) -> None:
    dataset(workspace)
    notebook.cell(SLOW)
    run = notebook.cell("%mlp_train Net --data rows --target y --max-epochs 6 --batch-size 256 --checkpoint-every 4 --detach")
    folder = workspace_folder(run)
    _until(lambda: list((folder.path / "checkpoints").glob("*.json")), 60)
    os.kill(_supervisors(folder)[0], signal.SIGKILL)
    os.kill(folder.read("rank.0.json")["pid"], signal.SIGKILL)  # type: ignore[index]
    newest = max(folder.path.glob("checkpoints/*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-1])
    looking = [threading.Thread(target=lambda: mlp.status()) for _ in range(8)]
    for one in looking:
        one.start()
    assert run.wait().state == "finished"
    assert len(_supervisors(folder)) == 2 and len(run.attempts) == 2
    assert f"step {int(newest.stem)} is not used" in repr(run)
    assert run.attempts[1].resumes is None or run.attempts[1].resumes < int(newest.stem)
    assert [step for step, _ in jobs.metric_series(folder)["train_loss"]] == [15 * epoch for epoch in range(1, 7)]
    for one in looking:
        one.join()


def test_a_mistake_in_the_model_is_told_with_its_line(notebook: Notebook, workspace: Workspace) -> None:
    dataset(workspace)
    notebook.cell(NET.replace("self.loss(self(x), y))", "self.loss(self(x[:, :2]), y))"))
    with pytest.raises(JobError) as error:
        notebook.cell("%mlp_train Net --data rows --target y --max-epochs 1")
    assert "RuntimeError: mat1 and mat2" in error.value.message
    assert "In validation_step" in error.value.hint or "In forward" in error.value.hint
    assert workspace.activities.names("model") == [] and workspace.activities.recent()[0].state == "failed"
    notebook.cell(NET)
    with pytest.raises(JobError, match=r"not a number any more from step [23] on"):
        notebook.cell("%mlp_train Net --data rows --target y --set lr=1e30")


TUNED = """
    def on_train_start(self):
        import ctypes, threading
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        block = libc.malloc(ctypes.c_size_t(20 * 2**20))
        heap = [int(end, 16) for line in open("/proc/self/maps") if "[heap]" in line for end in line.split()[0].split("-")]
        print("threads:", *(one.name for one in threading.enumerate()))
        print("kept:", min(heap) <= block < max(heap))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux' threads and memory")
def test_a_training_keeps_its_memory_and_gives_way_where_cores_are_short(notebook: Notebook, workspace: Workspace) -> None:
    """What `tests/unit/test_spinning.py` and `test_keeping.py` look at is switched on in a rank."""
    dataset(workspace)
    notebook.cell(NET + TUNED)
    said = notebook.cell("%mlp_train Net --data rows --target y --max-epochs 1").logs()
    assert "mlp-spinning" in said and "kept: True" in said


def test_ctrl_c_detaches_and_cancel_stops(notebook: Notebook, workspace: Workspace) -> None:
    dataset(workspace)
    notebook.cell(SLOW)
    threading.Timer(8.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(DetachedError) as error:
        notebook.cell("%mlp_train Net --data rows --target y --max-epochs 500")
    ref = error.value.message.split()[2]
    run = notebook.cell(f"%mlp_attach {ref}")
    assert run.state == "running" and "--cancel" in error.value.hint
    same = notebook.cell("%mlp_train Net --data rows --target y --max-epochs 500 --detach")
    assert same.ref == ref and same.reused
    notebook.cell(f"%mlp_attach {ref} --cancel")
    assert finished(run) == "cancelled"
    _until(lambda: not _processes_of(workspace), 20)  # the supervisor's word is its last; then it ends
    with pytest.raises(JobError, match="was cancelled"):
        run.wait()


@pytest.mark.slow
def test_jobs_wait_in_order_and_a_small_one_fills_the_gap(
    notebook: Notebook, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset(workspace)
    monkeypatch.setenv("MLP_PROCESSES", "2")
    notebook.cell(SLOW)
    cell = "%mlp_train Net --data rows --target y --detach --checkpoint-every 2"
    first = notebook.cell(f"{cell} --max-epochs 501")
    _until(lambda: first.attempts, 30)
    big = notebook.cell(f"{cell} --max-epochs 2 --gpus 2")
    _until(lambda: big.state == "queued", 30)
    urgent = notebook.cell(f"{cell} --max-epochs 502 --gpus 2 --priority 1")
    _until(lambda: urgent.state == "queued", 30)
    small = notebook.cell(f"{cell} --max-epochs 24")
    _until(lambda: list(workspace_folder(small).path.glob("checkpoints/*.json")), 60)
    assert (first.state, small.state) == ("running", "running")  # the gap is filled
    here = mlp.clusters().to_dict()["clusters"][0]
    assert (here["name"], here["running"], here["queued"]) == ("local", 2, 2)
    assert "2 running, 2 queued" in repr(mlp.clusters())
    assert dict(mlp.status().queued) == {urgent.id: 1, big.id: 2}
    assert "queued, place 2" in repr(big) and "queued, place 1" in repr(mlp.status())
    os.kill(_supervisors(workspace_folder(big))[0], signal.SIGKILL)  # a kill costs no place
    urgent.cancel()
    assert urgent.state == "cancelled" and urgent.attempts == ()
    first.cancel()
    assert big.wait().state == "finished"  # and the small one has made room for it
    assert small.wait().state == "finished"
    assert [attempt.made_room for attempt in small.attempts] == [False, True]
    assert small.attempts[1].resumes and small.attempts[1].why == "It made room for a larger job before it."
    assert [step for step, _ in jobs.metric_series(workspace_folder(small))["train_loss"]] == [4 * epoch for epoch in range(1, 25)]


def test_the_command_line_trains_from_a_file(workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset(workspace)
    (tmp_path / "blocks.py").write_text("from torch import nn\n\ndef block(a, b):\n    return nn.Linear(a, b)\n")
    source = NET.replace("def block(a, b):\n    return nn.Sequential(nn.Linear(a, b), nn.ReLU())", "from blocks import block")
    (tmp_path / "net.py").write_text(source)
    assert cli.main(["train", f"{tmp_path / 'net.py'}:Net", "--data", "rows", "--target", "y", "--max-epochs", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["state"] == "finished" and told["kind"] == "run"
    assert (registry.load(workspace, told["model"]).folder / "code" / "blocks.py").is_file()
    assert cli.main(["attach", told["ref"], "--logs"]) == 0
    assert "`max_epochs=2` reached" in capsys.readouterr().out
    assert cli.main(["train", f"{tmp_path / 'net.py'}:Nut", "--data", "rows"]) == 1
    assert "Did you mean Net?" in capsys.readouterr().err


def test_a_mirror_in_wandb_by_one_setting(notebook: Notebook, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset(workspace)
    monkeypatch.setenv("MLP_TRACKER", "wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr("jupyter_mlp.store.workspace._current", None)  # settings are read when a workspace is opened
    notebook.cell(NET)
    run = notebook.cell("%mlp_train Net --data rows --target y --max-epochs 2")
    assert list((workspace_folder(run).path / "wandb").glob("offline-run-*/*.wandb"))


def test_what_cannot_be_exported_is_served_from_its_source(notebook: Notebook, workspace: Workspace) -> None:
    dataset(workspace)
    odd = "out = self.net(x).squeeze(-1)\n        return -out if float(out.sum()) < -1e9 else out"
    notebook.cell(NET.replace("return self.net(x).squeeze(-1)", odd))
    run = notebook.cell("%mlp_train Net --data rows --target y --max-epochs 3 --batch-size 64")
    card = registry.load(workspace, run.model).card_data
    assert card["export"]["kind"] == "source" and "exporter" in card["export"]["why"]
    assert mlp.evaluate(run.model, data="rows").beats_baseline


@pytest.mark.parametrize(
    ("line", "said", "hint"),
    [
        ("Net --data rows --target yy", "no column yy", "Did you mean y?"),
        ("Net --data rwos --target y", "No dataset rwos", "Did you mean rows?"),
        ("Nut --data rows --target y", "defines a class Nut", "Did you mean Net?"),
        ("NotOne --data rows --target y", "NotOne is not a LightningModule", "class NotOne(L.LightningModule)"),
        ("Net --data rows --target y --gpus 99", "--gpus 99", "--gpus"),
        ("Net --data rows --target y --set hiden=3", "no setting hiden", "Did you mean hidden?"),
        ("Net --data rows --target y --set lr", "lr is a DataFrame", "number"),
        ("Net --data rows --target y --cluster mars", "no cluster 'mars'", "local"),
        ("Net --data rows --target y --task binary", "too many values", ""),
        ("Live --data rows --target y", "live DataFrame", "--set"),
    ],
)
def test_refusals_are_two_lines(notebook: Notebook, workspace: Workspace, line: str, said: str, hint: str) -> None:
    dataset(workspace)
    notebook.cell(NET)
    notebook.cell("import pandas as pd\nlr = table = pd.DataFrame({'a': [1]})")
    notebook.cell("class NotOne:\n    pass\n\nclass Live(Net):\n    def forward(self, x):\n        return x[:, 0] * len(table)")
    with pytest.raises((InvalidInputError, NotFoundError, JobError)) as error:
        notebook.cell(f"%mlp_train {line}")
    assert said in str(error.value) and hint in error.value.hint
    assert workspace.activities.names("model") == []


def test_an_unknown_run_is_named(workspace: Workspace) -> None:
    with pytest.raises(NotFoundError, match="no run 2026"):
        mlp.run("run:2026")


def workspace_folder(run: mlp.training.Run) -> jobs.RunFolder:
    return jobs.folder_of(run.workspace, run.id)


def _supervisors(folder: jobs.RunFolder) -> list[int]:
    """Every supervisor that the run has had, by pid."""
    return [event["pid"] for event in folder.events()[0] if event.get("supervisor") == "up"]


def _processes_of(workspace: Workspace) -> list[psutil.Process]:
    """Training processes that still run in this workspace."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or ())
        if str(workspace.root) in command and "backends" in command:
            found.append(process)
    return found


def _until(true: Any, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, "took too long"
        time.sleep(0.05)
