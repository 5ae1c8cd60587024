"""Real trainings that stand still: they are ended, say who and where, and go on from their last checkpoint."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from conftest import Notebook
from test_going_on import doing, until
from test_training import dataset

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import InvalidInputError, JobError
from jupyter_mlp.store import jobs
from jupyter_mlp.store.workspace import Workspace

ASKED = "--data rows --target y --batch-size 256 --checkpoint-every 4 --max-epochs 2"


@pytest.mark.slow
def test_one_of_two_stands_still_in_its_step(notebook: Notebook, workspace: Workspace, tmp_path: Path) -> None:
    dataset(workspace)
    stood = str(tmp_path / "stood")
    notebook.cell(
        doing(
            f"""if self.global_step == 22 and os.environ['RANK'] == '1' and not os.path.exists({stood!r}):
    time.sleep(1)  # the last checkpoint is written beside
    open({stood!r}, 'w').close()
    time.sleep(999)"""
        )
    )
    run = notebook.cell(f"%mlp_train Net {ASKED} --gpus 2 --max-stall 4s")
    assert run.state == "finished" and len(run.attempts) == 2
    why = run.attempts[1].why
    assert why.startswith("Training process 1 of 2 got no further for 4 s. It stands at step 23 (epoch 2), in the training step: "), why
    assert why.endswith("of captured.py: time.sleep(999).") and "in training_step, line" in why
    assert run.attempts[1].resumes is not None and run.attempts[1].resumes >= 4
    folder = jobs.folder_of(workspace, run.id)
    assert "training_step" in (folder.path / "stall.1.txt").read_text() and (folder.path / "stall.0.txt").exists()
    assert [step for step, _ in jobs.metric_series(folder)["train_loss"]] == [15, 30]


@pytest.mark.slow
def test_a_process_that_is_stopped_does_not_answer_and_the_last_attempt_says_where(
    notebook: Notebook, workspace: Workspace, tmp_path: Path
) -> None:
    dataset(workspace)
    notebook.cell(doing("if self.global_step == 22:\n    time.sleep(1)\n    open('there', 'w').close()\n    time.sleep(999)"))
    run = notebook.cell(f"%mlp_train Net {ASKED} --max-stall 4s --retries 1 --detach")
    until(lambda: (tmp_path / "there").exists(), run)
    os.kill(jobs.folder_of(workspace, run.id).read("rank.0.json")["pid"], signal.SIGSTOP)  # type: ignore[index]
    with pytest.raises(JobError) as error:
        run.wait()
    assert "does not answer: it is stopped" in run.attempts[1].why
    assert "in the training step: in training_step" in error.value.message and "--retries 1 allows no more" in error.value.message
    assert "--max-stall 8s gives it longer" in error.value.hint and "--logs" in error.value.hint
    assert "The training, most recent call first" in run.logs() and "in training_step" in run.logs()


@pytest.mark.parametrize(
    "wrong", [{"max_stall": "soon"}, {"checkpoint_every": "soon"}, {"trainer": {"precison": 16}}, {"settings": {"depth": object()}}]
)
def test_what_is_written_wrong_is_refused_before_the_recipe_is_fitted(
    notebook: Notebook, workspace: Workspace, wrong: dict[str, object]
) -> None:
    dataset(workspace)
    notebook.cell(doing("pass"))
    with pytest.raises(InvalidInputError):
        mlp.train("Net", data="rows", target="y", **wrong)  # type: ignore[arg-type]
    assert workspace.activities.recent(["fit", "train"]) == []


@pytest.mark.slow
def test_slow_is_not_still(notebook: Notebook, workspace: Workspace, tmp_path: Path) -> None:
    """A long validation gets on batch by batch, and a checkpoint that is being written is no standing still."""
    dataset(workspace)
    source = doing("pass").replace('self.log("val_loss"', 'time.sleep(1.2)\n        self.log("val_loss"')
    notebook.cell(source)
    run = notebook.cell(f"%mlp_train Net {ASKED.replace('256', '64')} --max-stall 3s")
    assert run.state == "finished" and len(run.attempts) == 1, mlp.run(run.ref)


@pytest.mark.slow
def test_a_loader_of_the_notebook_that_gives_no_more(notebook: Notebook, workspace: Workspace, tmp_path: Path) -> None:
    notebook.cell(doing("x, y = batch"))
    notebook.cell(
        f"""
from torch.utils.data import DataLoader, IterableDataset
class Stream(IterableDataset):
    def __iter__(self):
        for number in range(20):
            if number == 15 and not os.path.exists({str(tmp_path / "stood")!r}):
                open({str(tmp_path / "stood")!r}, 'w').close()
                time.sleep(999)
            yield torch.ones(4), torch.ones(())
class Own(Net):
    def __init__(self):
        super().__init__(4)
loader = DataLoader(Stream(), batch_size=2)
"""
    )
    run = notebook.cell("%mlp_train Own --data loader --max-epochs 1 --max-stall 3s")
    assert run.state == "finished" and len(run.attempts) == 2
    assert "waiting for its next batch: in __iter__, line" in run.attempts[1].why and "time.sleep(999)" in run.attempts[1].why
