"""Callbacks and loggers as tutorials use them, in the Trainer of a job: nothing of it fails, and numbers get into the run's series."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812 - how everybody writes it
import pytest
import torch
from lightning.pytorch.callbacks import LearningRateFinder, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from torch import nn
from torch.utils.data import DataLoader

from jupyter_mlp.backends.lightning import Reporter
from jupyter_mlp.backends.lightning_checkpoints import AsyncCheckpoints
from jupyter_mlp.backends.lightning_resuming import Checkpointer, Pace
from jupyter_mlp.backends.lightning_trainer import make_trainer
from jupyter_mlp.core.parallelism import Choice
from jupyter_mlp.store import checkpoints, jobs
from jupyter_mlp.store.jobs import RunFolder

ROWS = [(torch.full((3,), float(i)), torch.tensor(float(i))) for i in range(8)]


class Net(L.LightningModule):
    """Logs in every way that tutorials do."""

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Linear(3, 1)
        self.ends_at = 99

    def on_fit_start(self) -> None:
        self.logger.experiment.config.update({"a": 1})

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        if self.global_step == self.ends_at:
            raise KeyError("killed")
        x, y = batch
        loss = nn.functional.mse_loss(self.net(x).squeeze(-1), y)
        self.log("loss", loss, prog_bar=True)
        board = self.logger.experiment
        board.add_scalar("scale", 1 + self.global_step, self.global_step)
        board.add_image("images", torch.zeros(3, 2, 2), self.global_step)
        board.add_histogram("weights", self.net.weight, self.global_step)
        return loss

    def on_train_epoch_end(self) -> None:
        self.logger.log_metrics({"my_own": self.current_epoch, "word": "x"}, step=self.global_step)
        self.logger.log_image(key="samples", images=[])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), self.hparams.lr)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


def fit(folder: Path, callbacks: list[Any], resume: Path | None = None, ends_at: int = 99, tracker: str = "none") -> L.Trainer:
    run, model = RunFolder(folder), Net()
    model.ends_at = ends_at
    writer = AsyncCheckpoints(lambda told: run.say({"note": told}))
    mine = [Checkpointer(run, Pace(steps=1), writer, None, 2), Reporter(run, 3, 2, 4)]
    spec = {"max_epochs": 3, "tracker": tracker, "trainer": {"log_every_n_steps": 1}}
    spec |= {"class_name": "Net", "settings": {}, "batch_size": 4, "seed": 7, "target": None, "data": {"ref": None}, "run": "1"}
    trainer = make_trainer(spec, run, 1, 0, [*mine, *callbacks], writer, Choice("auto"))
    try:
        trainer.fit(model, DataLoader(ROWS, batch_size=4), ckpt_path=resume)
    finally:
        writer.wait()
    return trainer


def notes(folder: Path) -> list[str]:
    return [event["note"] for event in RunFolder(folder).events()[0] if "note" in event]


def test_callbacks_of_tutorials_work_in_a_job(tmp_path: Path) -> None:
    kept = ModelCheckpoint(monitor="loss", save_top_k=2)
    trainer = fit(tmp_path, [kept, TQDMProgressBar(), LearningRateMonitor()])
    assert Path(kept.best_model_path).is_relative_to(tmp_path) and Path(kept.best_model_path).is_file()
    assert len(list(Path(kept.dirpath or "").glob("*.ckpt"))) == 2  # the third was removed again
    assert Net.load_from_checkpoint(kept.best_model_path, weights_only=False).hparams.lr == 0.01
    assert trainer.logger is not None and trainer.logger.log_dir
    series = jobs.metric_series(RunFolder(tmp_path))
    assert series["lr-Adam"][0][1] == 0.01 and series["lr-Adam"][-1][1] == pytest.approx(0.0025)
    assert series["scale"] == [(step, step + 1.0) for step in range(6)]
    assert series["my_own"] == [(2, 0.0), (4, 1.0), (6, 2.0)]
    assert len(series["loss"]) == 3 and not {"epoch", "word"} & set(series)  # what self.log says stays the Reporter's to tell
    told = notes(tmp_path)
    assert len([note for note in told if "experiment.add_image()" in note]) == 1 and len([n for n in told if "add_histogram" in n]) == 1


def test_our_own_checkpoints_go_on_beside_those_of_a_callback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AsyncCheckpoints, "busy", False)  # so that there is one of every epoch, however slow the disk
    with pytest.raises(KeyError):
        fit(tmp_path, [ModelCheckpoint(monitor="loss")], ends_at=4)
    found, said = checkpoints.newest(tmp_path / "checkpoints")
    assert found is not None and said == [] and found.step == 4
    again = ModelCheckpoint(monitor="loss")
    fit(tmp_path, [again], resume=found.path)
    assert again.best_model_path and Path(again.best_model_path).is_file() and len(again.best_k_models) == 1
    assert len(jobs.metric_series(RunFolder(tmp_path))["loss"]) == 3


def test_a_learning_rate_is_found_before_the_first_step(tmp_path: Path) -> None:
    finder = LearningRateFinder(num_training_steps=8, update_attr=True)
    trainer = fit(tmp_path, [finder])
    assert trainer.state.finished and trainer.global_step == 6 and finder.optimal_lr is not None
    assert [step for step, _ in jobs.metric_series(RunFolder(tmp_path))["train_loss"]] == [2, 4, 6]


def test_a_mirror_that_fails_stops_no_run(tmp_path: Path) -> None:
    told = {"WANDB_MODE": "online", "HOME": str(tmp_path), "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_INIT_TIMEOUT": "2"}
    with_a_mirror(tmp_path, told)
    assert len([note for note in notes(tmp_path) if note.startswith("The tracker wandb is not used: ")]) == 1
    assert jobs.metric_series(RunFolder(tmp_path))["lr-Adam"]  # ours goes on


def test_a_key_alone_sends_nothing_away(tmp_path: Path) -> None:
    with_a_mirror(tmp_path, {"WANDB_API_KEY": "0" * 40})
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb")) and not [note for note in notes(tmp_path) if "not used" in note]


def with_a_mirror(folder: Path, told: dict[str, str]) -> None:
    """Fit in a process of its own: wandb reads its variables once."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    done = subprocess.run([sys.executable, __file__, str(folder)], env={**environment, **told}, capture_output=True, text=True)
    assert done.stdout.endswith("finished\n"), done.stderr


if __name__ == "__main__":
    sys.stdout.write(f"\n{fit(Path(sys.argv[1]), [LearningRateMonitor()], tracker='wandb').state.status.value}\n")
