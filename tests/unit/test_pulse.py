"""A real training that stands still, seen by what its supervisor looks with: where it stands, and that slow is not still."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812 - how everybody writes it
import torch
from torch.utils.data import DataLoader, TensorDataset

from jupyter_mlp.backends.lightning_stalling import Pulse
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.stalls import Stalls

LIMIT_S = 2.0


class Net(L.LightningModule):
    """It can be held at a step, and each batch of its validation can take long."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.held, self.slow_s = threading.Event(), 0.0
        self.held.set()

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        if index == 2:
            while not self.held.wait(0.05):
                pass
        return self.layer(batch[0]).mean()

    def validation_step(self, batch: Any, index: int) -> None:
        time.sleep(self.slow_s)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


class Seen:
    """What the supervisor sees of a training that runs meanwhile."""

    def __init__(self, folder: Path, net: Net) -> None:
        self._stalls, self._net = Stalls(RunFolder(folder), 1, LIMIT_S), net
        self._ended = threading.Event()
        self.told: list[str] = []

    def fit(self, folder: Path, validation: int = 1) -> None:
        rows = TensorDataset(torch.ones(16, 2))
        trainer = L.Trainer(
            max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, num_sanity_val_steps=0, callbacks=[Pulse(RunFolder(folder), 0, LIMIT_S, lambda: False)],
        )  # fmt: skip
        looking = threading.Thread(target=self._look)
        looking.start()
        trainer.fit(self._net, DataLoader(rows, 4), DataLoader(TensorDataset(torch.ones(validation, 2)), 1))
        self._ended.set()
        looking.join()

    def _look(self) -> None:
        self._stalls.begin(1)
        while not self._ended.wait(0.05):
            if self._stalls.come():
                self.told += self._stalls.told()
                self._net.held.set()
                return


def test_it_says_at_which_line_it_stands(tmp_path: Path) -> None:
    net = Net()
    net.held.clear()
    seen = Seen(tmp_path, net)
    enough = threading.Event()
    for _ in range(120):  # more than faulthandler writes of
        threading.Thread(target=enough.wait, daemon=True).start()
    seen.fit(tmp_path)
    enough.set()
    why, hint = seen.told
    assert why.startswith("The training process got no further for 2 s. It stands at step 3 (epoch 1), in the training step: in "), why
    assert "--max-stall 4s" in hint
    for file in ("log.txt", "stall.0.txt"):
        stacks = (tmp_path / file).read_text()
        assert stacks.startswith("The training, most recent call first:\n") and "in training_step" in stacks, "and first of all"
        assert stacks.count(", most recent call first:\n") > 120


def test_a_long_validation_gets_on(tmp_path: Path) -> None:
    net = Net()
    net.slow_s = 0.8
    seen = Seen(tmp_path, net)
    seen.fit(tmp_path, validation=6)
    assert seen.told == []
    time.sleep(LIMIT_S)
    assert not seen._stalls.come(), "it has ended"
