"""A training that is broken off anywhere and put together again is the training that was never broken off, to the bit."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812 - how everybody writes it
import numpy as np
import pytest
import torch
import torchmetrics
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from jupyter_mlp.backends.lightning import Reporter
from jupyter_mlp.backends.lightning_checkpoints import AsyncCheckpoints
from jupyter_mlp.backends.lightning_resuming import Checkpointer, Pace
from jupyter_mlp.store import attempts, checkpoints, jobs, shares
from jupyter_mlp.store.jobs import RunFolder

STEPS, EPOCHS = 4, 3
RANK, WORLD = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


class Killed(Exception):
    pass


class Rows(IterableDataset):
    """Batches that follow from epoch and number, like those of a plan."""

    epoch = start = 0
    total = int(os.environ.get("ROWS", str(8 * STEPS * WORLD)))
    share = regular = shares.regular(total // STEPS, WORLD)

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[Any]:
        for number in range(self.start, STEPS):
            made = torch.Generator().manual_seed(100 * self.epoch + number + 10_000 * RANK)
            x = torch.randn(self.share.rows, 3, generator=made)
            yield x, x.sum(1) + torch.randn(self.share.rows, generator=made)


class Net(L.LightningModule):
    """Everything that has a state: momentum, a scheduler that looks at a metric, dropout, running means, metrics of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.mae = torchmetrics.MeanAbsoluteError()
        self.killed_at = -1

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        x, y = batch
        if self.trainer.current_epoch * STEPS + index == self.killed_at:
            raise Killed
        out = self.net(x).squeeze(-1)
        loss = nn.functional.mse_loss(out, y) * (1 + random.random() + float(np.random.random()))
        self.mae.update(out.detach(), y)
        self.log("mae", self.mae, on_step=False, on_epoch=True)
        self.log("mean", loss, on_step=False, on_epoch=True, sync_dist=True)
        self.log("rows", float(len(x)), on_step=False, on_epoch=True, reduce_fx="sum", sync_dist=True)
        self.log("peak", loss.detach(), on_step=False, on_epoch=True, reduce_fx=torch.max)
        self.log("least", loss.detach(), on_step=True, on_epoch=True, reduce_fx=min)
        if index == 0:  # and never again in this epoch
            self.log("first", loss.detach(), on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val_loss", nn.functional.mse_loss(self.net(batch[0]).squeeze(-1), batch[1]))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.05, momentum=0.9)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}


class Manual(Net):
    """Steps by itself, every second batch, with two optimisers."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        loss = super().training_step(batch, index)
        self.manual_backward(loss)
        if index % 2:
            for optimizer in self.optimizers():
                optimizer.step()
                optimizer.zero_grad()
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.net[0].parameters(), 0.05), torch.optim.SGD(self.net[3].parameters(), 0.01, momentum=0.5)


def fit(
    folder: Path, kind: type[Net], killed_at: int = -1, every: int = 1, resume: Path | None = None, epochs: int = EPOCHS, **more: Any
) -> Net:
    torch.set_num_threads(1)
    L.seed_everything(3 if resume is None else 99, verbose=False)  # another process draws other numbers while it starts
    model, rows, run = kind(), Rows(), RunFolder(folder)
    model.killed_at = killed_at
    writer = AsyncCheckpoints(lambda told: run.say({"note": told}))
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[Checkpointer(run, Pace(steps=every), writer, rows, STEPS), *([Reporter(run, epochs, STEPS, 8)] if RANK == 0 else [])],
        plugins=[writer],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **more,
    )
    held_out = DataLoader(Rows(), batch_size=None, generator=torch.Generator())
    train = DataLoader(rows, batch_size=None, generator=torch.Generator())
    try:
        trainer.fit(model, train, held_out, ckpt_path=resume)
    finally:
        writer.wait()
    return model


def bits(model: Net) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("kind", "more"), [(Net, {}), (Net, {"accumulate_grad_batches": 3}), (Manual, {})], ids=["plain", "accumulated", "manual"]
)
def test_broken_off_at_any_step(tmp_path: Path, kind: type[Net], more: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AsyncCheckpoints, "busy", False)  # so that there is one of every step, however slow the disk
    straight = tmp_path / "straight"
    straight.mkdir()
    expected, series = bits(fit(straight, kind, **more)), jobs.metric_series(RunFolder(straight))
    logged = {"mae", "mean", "rows", "peak", "least", "least_step", "least_epoch", "first", "val_loss", "train_loss"}
    assert set(series) == logged and len(series["mae"]) == EPOCHS
    for step in range(2, STEPS * EPOCHS) if kind is Net and not more else (3, STEPS, STEPS + 1, 2 * STEPS - 1):
        folder = tmp_path / str(step)
        folder.mkdir()
        with pytest.raises(Killed):
            fit(folder, kind, killed_at=step, **more)
        found, said = checkpoints.newest(folder / "checkpoints")
        assert found is not None and said == [] and found.step == step
        again = fit(folder, kind, resume=found.path, **more)
        assert bits(again) == expected, f"other weights after a restart from step {step}"
        assert jobs.metric_series(RunFolder(folder)) == series, f"other metrics after a restart from step {step}"
        assert not [event for event in attempts.history(RunFolder(folder)) if "note" in event]


@pytest.mark.parametrize("kind", [Net, Manual])
def test_more_epochs_after_the_last_are_those_of_a_longer_training(tmp_path: Path, kind: type[Net]) -> None:
    straight, short, longer = (tmp_path / name for name in ("straight", "short", "longer"))
    for folder in (straight, short, longer):
        folder.mkdir()
    expected = bits(fit(straight, kind))
    fit(short, kind, epochs=2, every=1000)
    found, _ = checkpoints.of_finished(short)
    assert found is not None and (found.step, found.epoch, found.batch) == (2 * STEPS, 2, 0)
    assert checkpoints.last(short) == (None, []), "killed now, it goes through the end of training once more"
    assert bits(fit(longer, kind, resume=found.path)) == expected
    series = jobs.metric_series(RunFolder(straight))
    assert jobs.metric_series(RunFolder(longer)) == {name: [one for one in told if one[0] > 2 * STEPS] for name, told in series.items()}
    assert not [event for event in RunFolder(longer).events()[0] if "taken_over" in event], "nothing of it is done once more"


def test_broken_off_by_its_own_limit_it_goes_on_from_within_the_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AsyncCheckpoints, "busy", False)
    fit(tmp_path, Net, max_steps=STEPS + 2)
    checkpoints.settle(tmp_path)
    found, _ = checkpoints.of_finished(tmp_path)
    assert found is not None and (found.epoch, found.batch) == (1, 1), "from where a training without the limit had been"


def test_without_a_pace_nothing_is_written(tmp_path: Path) -> None:
    fit(tmp_path, Net, every=0)
    assert not (tmp_path / "checkpoints").exists() and not (tmp_path / "last").exists()


@pytest.mark.slow
def test_every_rank_goes_on_with_its_own_sums(tmp_path: Path) -> None:
    """Metrics over both ranks are the same with and without a kill in the middle of an epoch."""
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    in_two(straight)
    in_two(killed, killed_at=STEPS + 2)
    found, _ = checkpoints.newest(killed / "checkpoints")
    assert found is not None and found.step == STEPS + 2
    in_two(killed, resume=found.path)
    series = jobs.metric_series(RunFolder(straight))
    assert series["mean"] and series["mae"] and jobs.metric_series(RunFolder(killed)) == series


@pytest.mark.slow
def test_sums_of_two_ranks_are_taken_over_by_one_and_by_four(tmp_path: Path) -> None:
    """What an epoch sums up counts every row once, whoever of the ranks before had it."""
    killed = tmp_path / "killed"
    in_two(killed, killed_at=STEPS + 2)
    found, _ = checkpoints.newest(killed / "checkpoints")
    assert found is not None and found.step == STEPS + 2
    for world in (1, 4):
        folder = tmp_path / str(world)
        in_two(folder, resume=found.path, world=world)
        series = jobs.metric_series(RunFolder(folder))
        assert [value for _, value in series["rows"]] == [8 * STEPS * 2] * (EPOCHS - 1)
        assert len(series["mae"]) == len(series["mean"]) == len(series["peak"]) == EPOCHS - 1


@pytest.mark.slow
def test_sums_of_one_process_are_taken_over_by_two(tmp_path: Path) -> None:
    killed, goes_on = tmp_path / "killed", tmp_path / "on"
    in_two(killed, killed_at=STEPS + 2, world=1)
    found, _ = checkpoints.newest(killed / "checkpoints")
    assert found is not None and found.step == STEPS + 2
    in_two(goes_on, resume=found.path)
    assert [value for _, value in jobs.metric_series(RunFolder(goes_on))["rows"]] == [8 * STEPS * 2] * (EPOCHS - 1)


@pytest.mark.slow
def test_every_rank_goes_on_with_the_gradients_that_it_had_accumulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCUMULATED", "3")
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    in_two(straight)
    in_two(killed, killed_at=STEPS + 2)
    found, _ = checkpoints.newest(killed / "checkpoints")
    assert found is not None and found.step == STEPS + 2, "after two of three"
    in_two(killed, resume=found.path)
    for rank in range(2):
        assert (killed / f"weights.{rank}").read_bytes() == (straight / f"weights.{rank}").read_bytes()


def in_two(folder: Path, killed_at: int = -1, resume: Path | None = None, world: int = 2) -> None:
    """Fit in two processes, or another number."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, __file__, str(folder), str(killed_at), str(resume or "")]
    told = {
        "ROWS": str(8 * STEPS * 2),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    told |= {"TORCHELASTIC_RUN_ID": "two", "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [subprocess.Popen(command, env={**os.environ, **told, "RANK": str(one), "LOCAL_RANK": str(one)}) for one in range(world)]
    assert [rank.wait(120) for rank in ranks] == [0] * world


if __name__ == "__main__":
    AsyncCheckpoints.busy = False  # type: ignore[assignment, method-assign]
    with suppress(Killed):
        more: dict[str, Any] = {"devices": WORLD, "accumulate_grad_batches": int(os.environ.get("ACCUMULATED", "1"))}
        more |= {"strategy": "ddp"} if WORLD > 1 else {}
        made = fit(Path(sys.argv[1]), Net, int(sys.argv[2]), resume=Path(sys.argv[3]) if sys.argv[3] else None, **more)
        (Path(sys.argv[1]) / f"weights.{RANK}").write_bytes(b"".join(bits(made).values()))
