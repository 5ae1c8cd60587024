"""A run that has ended goes on as a new one: to the same weights as if it had never ended, or with more epochs and other GPUs."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Notebook
from safetensors.numpy import load_file
from test_training import NET, dataset, frame

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import ConflictError, InvalidInputError, JobError, NotFoundError
from jupyter_mlp.frontends import cli
from jupyter_mlp.store import checkpoints, jobs, registry
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.workspace import Workspace

ASKED = "--data rows --target y --batch-size 256 --checkpoint-every 4 --max-epochs 3"


def doing(first: str, source: str = NET.replace("nn.ReLU())", "nn.ReLU(), nn.Dropout(0.2))")) -> str:
    """A model that draws from the generators, and does something first in each step."""
    step = "    def training_step(self, batch, index):\n"
    return "import os, signal, time\n" + source.replace(step, step + "".join(f"        {line}\n" for line in first.splitlines()))


def stopping(folder: Path) -> str:
    """It writes down each row that it sees, goes slowly and stands still in its second epoch while a file says so."""
    return doing(
        f"""with open({str(folder / "seen.")!r} + os.environ.get('RANK', '0'), 'a') as file:
    print(self.current_epoch, *batch[1].tolist(), file=file)
while os.path.exists({str(folder / "stop")!r}):
    time.sleep(0.1)  # a step takes longer than a checkpoint: one that is due while another is written is left out
    if self.global_step < 22:
        break"""
    )


def cancelled(notebook: Notebook, folder: Path, more: str = "") -> tuple[mlp.training.Run, int]:
    """A run that was cancelled in the middle of its second epoch of fifteen steps, and the step of its checkpoint."""
    (folder / "stop").touch()
    run = notebook.cell(f"%mlp_train Net {ASKED} {more} --detach")
    until(lambda: len(lines(folder)) == 23, run)
    time.sleep(1)  # the last checkpoint is written beside the training
    run.cancel()
    assert run.state == "cancelled"
    (folder / "stop").unlink()
    at = checkpoints.last_step(run.workspace.runs / run.id)
    assert at is not None and 15 < at <= 20
    return run, at


def lines(folder: Path) -> list[list[str]]:
    """The epoch and the targets of each batch that all ranks wrote down."""
    return [line.split() for path in sorted(folder.glob("seen.*")) for line in path.read_text().splitlines()]


def weights(workspace: Workspace, run: mlp.training.Run) -> dict[str, bytes]:
    folder = registry.load(workspace, str(run.model)).folder
    return {name: value.tobytes() for name, value in load_file(folder / "weights.safetensors").items()}


def seen(folder: Path, epoch: int) -> list[str]:
    """The targets that all ranks saw in an epoch, in the order they wrote them down."""
    return [row for number, *rows in lines(folder) if int(number) == epoch for row in rows]


def until(true: Any, run: mlp.training.Run, limit_s: float = 120) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, run.logs()[-2000:]
        time.sleep(0.05)


@pytest.mark.slow
def test_a_cancelled_run_goes_on_to_the_weights_of_an_undisturbed_one(notebook: Notebook, workspace: Workspace, tmp_path: Path) -> None:
    dataset(workspace)
    notebook.cell(stopping(tmp_path))
    straight = notebook.cell(f"%mlp_train Net {ASKED}")
    (tmp_path / "straight").mkdir()
    for path in tmp_path.glob("seen.*"):
        path.rename(tmp_path / "straight" / path.name)
    run, at = cancelled(notebook, tmp_path, "--fresh")
    assert f"%mlp_train --resume {run.ref} goes on from step {at}" in repr(run)
    notebook.cell("class Net: pass")  # the notebook's code is not looked at
    assert cli.main(["train", "--resume", run.ref]) == 0
    again = mlp.train(resume=run)
    assert again.reused and again.state == "finished", "the same again is the same run"
    assert weights(workspace, again) == weights(workspace, straight)
    assert "goes on from" in repr(again) and f"{run.ref} at step {at}" in repr(again)
    assert f"Goes on from {run.ref} at step {at}, in the middle of epoch 2." in repr(again)
    steps = [step for step, _ in jobs.metric_series(jobs.folder_of(workspace, again.id))["train_loss"]]
    assert steps == [30, 45] and again.metrics["train_loss"] == straight.metrics["train_loss"]
    graph = mlp.graph(str(again.model))
    assert any(run.ref in edge for edge in graph.edges), "derived from the old one"
    assert again.to_dict()["parameters"]["resume"]["step"] == at and again.to_dict()["parameters"]["batch_size"] == 256
    assert sorted(seen(tmp_path, 2)) == sorted(seen(tmp_path / "straight", 2))


@pytest.mark.slow
def test_other_gpus_go_on_with_the_rows_that_were_not_seen(notebook: Notebook, workspace: Workspace, tmp_path: Path) -> None:
    dataset(workspace, data=frame().assign(y=np.arange(4000.0)))  # each row is known by its target
    notebook.cell(stopping(tmp_path))
    run, at = cancelled(notebook, tmp_path)
    done = lines(tmp_path)[:at]
    for path in tmp_path.glob("seen.*"):
        path.unlink()
    two = mlp.train(resume=run.ref, gpus=2)
    assert two.state == "finished" and "2 processes instead of 1 share the rows of that epoch that were not seen yet" in repr(two)
    before = [row for epoch, *rows in done if epoch == "1" for row in rows]
    after = seen(tmp_path, 1)
    held = json.loads((workspace.runs / run.id / "recipe.json").read_text())["plan"]["groups"]
    total = sum(group["train"] for group in held)
    assert len(before) == (at - 15) * 256 and not set(before) & set(after) and len(set(after)) == len(after)
    assert total - 2 < len(before) + len(after) <= total, "every row of the epoch once"
    assert total - 2 < len(set(seen(tmp_path, 2))) <= total
    one = mlp.train(resume=two, gpus=1, max_epochs=4)  # a finished run of two trains on with one
    assert one.state == "finished" and f"Goes on from {two.ref} at step 45, after epoch 3." in repr(one)
    assert list(one.metrics) and [step for step, _ in jobs.metric_series(jobs.folder_of(workspace, one.id))["train_loss"]] == [60]


@pytest.mark.slow
def test_more_epochs_after_the_last_are_those_of_a_longer_training(notebook: Notebook, workspace: Workspace) -> None:
    dataset(workspace)
    notebook.cell(NET.replace("nn.ReLU())", "nn.ReLU(), nn.Dropout(0.2))"))
    short = notebook.cell(f"short = %mlp_train Net {ASKED}\nshort")
    longer = notebook.cell("%mlp_train --resume short --max-epochs 5")
    straight = notebook.cell(f"%mlp_train Net {ASKED.replace('--max-epochs 3', '--max-epochs 5')}")
    assert weights(workspace, longer) == weights(workspace, straight) != weights(workspace, short)
    with pytest.raises(InvalidInputError, match="has done all its 3 epochs") as error:
        mlp.train(resume=short)
    assert f"--resume {short.ref} --max-epochs 6" in error.value.hint
    left = list((workspace.runs / short.id / "last").glob("*.safetensors"))
    assert len(left) == 1 and not (workspace.runs / short.id / "checkpoints").exists(), "of a finished run one place stays"
    for path in left:
        path.unlink()
    with pytest.raises(NotFoundError, match="left no checkpoint to go on from: The checkpoint of step 45 is not used") as lost:
        mlp.train(resume=short, max_epochs=6)
    assert "--checkpoint-every" in lost.value.hint
    assert mlp.train(resume=longer, max_epochs=6).state == "finished", "a run that went on is gone on with"


@pytest.mark.slow
def test_what_was_killed_goes_on_from_where_it_began_and_says_what_was_lost(
    notebook: Notebook, workspace: Workspace, tmp_path: Path
) -> None:
    dataset(workspace)
    (tmp_path / "died").mkdir()
    notebook.cell(
        doing(
            f"""if self.global_step == 22 and len(os.listdir({str(tmp_path / "died")!r})) < 2:
    time.sleep(1)
    open({str(tmp_path / "died")!r} + f'/{{os.getpid()}}', 'x').close()
    os.kill(os.getpid(), signal.SIGKILL)"""
        )
    )
    with pytest.raises(JobError) as error:
        notebook.cell(f"%mlp_train Net {ASKED} --retries 0")
    run = mlp.run(f"run:{workspace.activities.recent(['train'])[0].id}")
    assert f"%mlp_train --resume {run.ref} goes on from step" in error.value.hint
    at = checkpoints.last_step(workspace.runs / run.id)
    two = mlp.train(resume=run, retries=1, checkpoint_every=1000)  # it dies once more before its first checkpoint
    folder = RunFolder(workspace.runs / two.id)
    assert two.state == "finished" and [attempt.resumes for attempt in two.attempts] == [at, at]
    assert [step for step, _ in jobs.metric_series(folder)["train_loss"]] == [30, 45]
    assert two.logs().count("`max_epochs=3` reached") == 1


def test_what_cannot_be_changed_is_refused_with_what_to_type(notebook: Notebook, workspace: Workspace) -> None:
    dataset(workspace)
    notebook.cell(NET)
    run = notebook.cell(f"run = %mlp_train Net {ASKED.replace('--max-epochs 3', '--max-epochs 1')}\nrun")
    for more, said in (
        ("--batch-size 32", "--batch-size cannot be given where a run goes on"),
        ("--data rows", "--data cannot be given"),
        ("--seed 7", "--seed cannot be given"),
        ("--set lr=1", "--set cannot be given"),
        ("--trainer precision=64", "--trainer precision cannot be changed"),
        ("--gpus 3000", "--gpus 3000"),
    ):
        with pytest.raises(InvalidInputError) as error:
            notebook.cell(f"%mlp_train --resume run --max-epochs 2 {more}")
        assert said in error.value.message and error.value.hint
    with pytest.raises(InvalidInputError, match="The model cannot be given"):
        notebook.cell("%mlp_train Net --resume run")
    with pytest.raises(InvalidInputError, match="Which model") as which:
        notebook.cell("%mlp_train --data rows")
    assert "--resume run:ID" in which.value.hint
    with pytest.raises(NotFoundError):
        mlp.train(resume="run:20200101-000000-00000000")
    with pytest.raises(InvalidInputError, match="names a model, not a run"):
        mlp.train(resume=run.model)
    going = notebook.cell(f"%mlp_train Net {ASKED} --detach")
    with pytest.raises(ConflictError, match="has not ended") as still:
        mlp.train(resume=going)
    assert "--cancel" in still.value.hint
    going.wait()
    shutil.rmtree(workspace.runs / run.id / "last")
    with pytest.raises(NotFoundError, match="left no checkpoint"):
        mlp.train(resume=run, max_epochs=2)
