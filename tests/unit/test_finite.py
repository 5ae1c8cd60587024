"""A training whose numbers are none any more fails with a sentence, and one that goes on says how long it still takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812 - how everybody writes it
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from jupyter_mlp.backends.lightning import Reporter
from jupyter_mlp.backends.lightning_checkpoints import AsyncCheckpoints
from jupyter_mlp.backends.lightning_finite import Finite
from jupyter_mlp.backends.lightning_resuming import Checkpointer, Pace
from jupyter_mlp.backends.lightning_trainer import make_trainer
from jupyter_mlp.core.errors import JobError
from jupyter_mlp.core.parallelism import Choice
from jupyter_mlp.reports import runs
from jupyter_mlp.store.jobs import RunFolder

NAN = float("nan")


class Gan(L.LightningModule):
    """Steps by itself and returns no loss, as adversarial networks do."""

    def __init__(self, broken: bool = False, logs: str = "") -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Linear(3, 1)
        self.frozen = nn.Parameter(torch.full((2,), -torch.inf), requires_grad=False)  # a mask: it does not learn
        self.broken, self.logs = broken, logs

    def training_step(self, batch: Any, index: int) -> None:
        optimizer = self.optimizers()
        loss = self.generator(batch).mean() * (NAN if self.broken else 1.0)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        if self.logs:
            self.log(self.logs, torch.tensor(NAN))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.01)


def fit(folder: Path, model: Gan, pace: Pace | None = None, **trainer: Any) -> RunFolder:
    run = RunFolder(folder)
    writer = AsyncCheckpoints(lambda told: run.say({"note": told}))
    callbacks = [Checkpointer(run, pace or Pace(), writer, None, 8), Reporter(run, 2, 8, 4), Finite()]
    made = make_trainer({"max_epochs": 2, "tracker": "none", "trainer": trainer}, run, 1, 0, callbacks, writer, Choice("auto"))
    made.fit(model, DataLoader(torch.ones(32, 3), batch_size=4))
    return run


def test_weights_that_are_not_finite_fail_a_run_whose_steps_return_no_loss(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"weights are not finite any more at step 8: generator\.weight") as error:
        fit(tmp_path, Gan(broken=True), Pace(steps=1))
    assert "learning rate" in error.value.hint and not (tmp_path / "checkpoints").exists()


def test_a_logged_loss_that_is_no_number_fails_it_and_another_metric_is_told(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="The metric g_loss is not a number any more in epoch 1"):
        fit(tmp_path, Gan(logs="g_loss"))
    run = fit(tmp_path, Gan(logs="val_f1"))
    assert [event["note"] for event in run.events()[0] if "note" in event] == ["The metric val_f1 is nan in epoch 1: left out there."]


def test_the_line_of_a_training_says_how_long_it_still_takes(tmp_path: Path) -> None:
    events = fit(tmp_path, Gan(), limit_train_batches=4).events()[0]
    first = next(event for event in events if event.get("left_s") is not None)
    assert first["steps"] == 8 and first["left_s"] >= 0  # 2 epochs of the 4 batches that it is limited to
    assert " left" in (runs.news(first) or {})["text"]
    line = {"epoch": 0, "epochs": 2, "step": 1, "steps": 4, "left_s": 12_000.0}
    assert (runs.news(line) or {})["text"] == "epoch 1 of 2, step 1 of 4, 3 h 20 min left"
    assert "left" not in (runs.news({**line, "left_s": None}) or {})["text"]
    assert fit(tmp_path, Gan(), max_steps=3).events()[0][-1]["step"] == 3
