"""Going on after a kill as if nothing had happened: when a checkpoint is taken, what is in it, and how it is put back.

A checkpoint is taken between two batches, before any hook of the next one, or before the first hook of an epoch: all of
one batch is in it and nothing of the other. At the same place it is put back, after everything that starting up drew from
the random generators and printed.
"""

from __future__ import annotations

import builtins
import random
import secrets
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import lightning as L  # noqa: N812 - how everybody writes it
import numpy as np
import torch
import torchmetrics
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.trainer.connectors.logger_connector.result import _Metadata, _ResultMetric, _Sync

from jupyter_mlp.backends.lightning_checkpoints import PART, PLACE, AsyncCheckpoints
from jupyter_mlp.backends.lightning_finite import check_weights
from jupyter_mlp.backends.lightning_placements import spread_like
from jupyter_mlp.backends.lightning_regrouping import regrouped
from jupyter_mlp.backends.lightning_sharding import Sharded
from jupyter_mlp.store.attempts import log_of, size_of, taken_over
from jupyter_mlp.store.checkpoints import LAST, OWN, Part
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.shares import Share

_STATE = "mlp"  # our part of a checkpoint
_LOGGED = (  # what self.log was told of a metric
    *("fx", "name", "prog_bar", "logger", "on_step", "on_epoch"),
    *("enable_graph", "add_dataloader_idx", "dataloader_idx", "metric_attribute"),
)


class Positioned(Protocol):
    """Batches that can begin anywhere in an epoch.

    Attributes:
        share: how the ranks share this epoch. `regular`: how they share one that they begin.
        total: rows of an epoch, over all ranks.
    """

    epoch: int
    start: int
    share: Share
    regular: Share
    total: int


@dataclass
class Pace:
    """When checkpoints are due: every so many steps, or seconds; neither: never."""

    steps: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, told: Any) -> Pace:
        """Read what the run's spec says: {"steps": 100} or {"seconds": 30.0}."""
        return cls(int(told.get("steps", 0)), float(told.get("seconds", 0.0)))


class Checkpointer(L.Callback):
    """Takes checkpoints and puts the one back that a killed attempt left.

    Args:
        loader: what the batches of training come from; None for those of the user's own code, which nobody but it can
            begin in the middle of: then checkpoints are taken between epochs.
        steps: batches of an epoch; 0 where the loader is the user's.
    """

    def __init__(self, run: RunFolder, pace: Pace, writer: AsyncCheckpoints, loader: Positioned | None, steps: int) -> None:
        self._run, self._pace, self._writer = run, pace, writer
        self._loader, self._steps = loader, steps
        self._restored: dict[str, Any] = {}  # our part of the checkpoint, until it is put back
        self._place = (0, 0)  # epoch and batch of the checkpoint under way
        self._taking = False
        self._last, self._last_at = 0, time.monotonic()
        self._look = 1  # the step at which the ranks agree on the next checkpoint

    # -- hooks

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the data at the place of the checkpoint: mid-epoch, no hook of the epoch's start comes."""
        if self._restored:
            if self._loader is not None:
                self._loader.epoch, self._loader.start = self._restored["epoch"], self._restored["batch"]
                self._loader.share = Share.from_dict(self._restored["share"])
            trainer.fit_loop.epoch_loop._batches_that_stepped = self._restored["stepped"]
        self._last_at = time.monotonic()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take or put back a checkpoint between two epochs."""
        if self._loader is not None:
            self._loader.epoch, self._loader.start, self._loader.share = trainer.current_epoch, 0, self._loader.regular
        self._between(trainer, pl_module, 0)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Take or put back a checkpoint between two batches."""
        if batch_idx > 0 and self._loader is not None:
            self._between(trainer, pl_module, batch_idx)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Complete what Lightning saves for us, not for a ModelCheckpoint; every rank comes here, and the first one writes.

        Where each rank holds a part of the model, each writes.
        """
        if not self._taking:
            return
        for name in [name for name in checkpoint if "hyper_parameters" in name or "hparams" in name]:
            del checkpoint[name]  # arguments come from the run's spec, and may be objects
        epoch, batch = self._place
        mine = {
            "random": _random_state(trainer),
            "log": _log_size(self._run, trainer),
            "sums": _sums(trainer),
            "metrics": {name: _metric_state(metric) for name, metric in _metrics(pl_module)},
            "gradients": {} if _in_parts(trainer) else _gradients(trainer, pl_module),
            "events": size_of(self._run.path / "events.jsonl"),
            "of": secrets.token_hex(8),
        }
        ranks = _gathered(trainer, mine)
        checkpoint["loops"] = {"fit_loop": _between_batches(trainer.fit_loop.state_dict(), epoch, batch)}
        checkpoint[_STATE] = {
            "run": self._run.path.name,
            "epoch": epoch,
            "batch": batch,
            "stepped": trainer.fit_loop.epoch_loop._batches_that_stepped,
            "share": self._loader.share.to_dict() if self._loader is not None else None,
            **{name: [rank[name] for rank in ranks] for name in ("random", "sums", "metrics", "gradients")},
            "events": ranks[0]["events"],
            "logs": [rank["log"] for rank in ranks],
        }
        place = {name: checkpoint[_STATE][name] for name in ("epoch", "batch", "events", "logs", "share")}
        checkpoint[PLACE] = {**place, "step": self._step(trainer, epoch, batch)}
        if _in_parts(trainer):  # the gradients of its part stay with it
            checkpoint[_STATE]["gradients"] = [_gradients(trainer, pl_module)]
            checkpoint[PART] = Part(trainer.global_rank, trainer.world_size, ranks[0]["of"])

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep our part until it is put back; a checkpoint of another callback has none."""
        if _STATE not in checkpoint:
            return
        self._restored = checkpoint[_STATE]
        if len(self._restored["random"]) != trainer.world_size:
            self._restored = regrouped(self._restored, trainer.world_size, self._loader, dict(_metrics(pl_module)))
            checkpoint["loops"]["fit_loop"] = self._recounted(checkpoint["loops"]["fit_loop"])

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the place behind the last epoch, for another run that trains on; let it be written to its end.

        This run never goes on from there: what is done at the end of training would not be done. Broken off within an epoch, by
        its steps or its time, a training goes on from within it: from the checkpoint before.
        """
        if (self._pace.steps or self._pace.seconds) and trainer.fit_loop.epoch_loop._num_ready_batches_reached():
            self._take(trainer, pl_module, trainer.current_epoch, 0, LAST)
        self._writer.wait()

    # -- between two batches

    def _between(self, trainer: L.Trainer, module: L.LightningModule, batch: int) -> None:
        step = self._step(trainer, trainer.current_epoch, batch)
        if self._restored:
            self._put_back(trainer, module)
            self._last, self._look = step, step + 1
        elif self._is_due(trainer, step):
            self._last, self._last_at = step, time.monotonic()
            self._take(trainer, module, trainer.current_epoch, batch)

    def _take(self, trainer: L.Trainer, module: L.LightningModule, epoch: int, batch: int, folder: str = OWN) -> None:
        check_weights(module, self._step(trainer, epoch, batch))  # nobody goes on from a place where all is lost
        self._place, self._taking = (epoch, batch), True
        with trainer.strategy.in_parts() if isinstance(trainer.strategy, Sharded) else nullcontext():
            trainer.save_checkpoint(self._run.path / folder, weights_only=False)
        self._taking = False

    def _recounted(self, loops: dict[str, Any]) -> dict[str, Any]:
        """Return the counters for ranks of another number, whose epochs may have more or fewer batches."""
        counted, batch = loops["epoch_loop.batch_progress"], self._restored["batch"]
        if self._loader is not None:
            done = self._restored["epoch"] * self._steps + batch
            counted["total"] = dict.fromkeys(counted["total"], done)
            counted["current"] = dict.fromkeys(counted["current"], batch or self._steps)
        return loops

    def _step(self, trainer: L.Trainer, epoch: int, batch: int) -> int:
        done: int = trainer.fit_loop.epoch_loop.batch_progress.total.completed
        return epoch * self._steps + batch if self._steps else done

    def _is_due(self, trainer: L.Trainer, step: int) -> bool:
        """Whether to take one now; all ranks come to the same answer, without a word in most steps."""
        if step == 0 or step < self._look:
            return False
        if self._loader is None:  # epochs are few: no rank need guess when the next one ends
            return self._agreed(trainer, step)
        if self._pace.steps:
            if step - self._last < self._pace.steps:
                return False
            due, following = not self._writer.busy, 1
        elif self._pace.seconds:
            due, following = self._by_the_clock(step, trainer.world_size)
        else:
            return False
        if trainer.world_size > 1:
            due, following = trainer.strategy.broadcast((due, following))
        self._look = step + following
        return bool(due)

    def _agreed(self, trainer: L.Trainer, step: int) -> bool:
        passed = time.monotonic() - self._last_at
        due = step - self._last >= self._pace.steps if self._pace.steps else bool(self._pace.seconds) and passed >= self._pace.seconds
        due = due and not self._writer.busy
        return bool(trainer.strategy.broadcast(due)) if trainer.world_size > 1 else due

    def _by_the_clock(self, step: int, world: int) -> tuple[bool, int]:
        """Return whether one is due, and after how many steps to ask again: one process alone can always ask."""
        passed = time.monotonic() - self._last_at
        due = passed >= self._pace.seconds and not self._writer.busy
        if world == 1:
            return due, 1
        pace = (step - self._last) / max(passed, 1e-6)  # steps a second
        left = self._pace.seconds if due else self._pace.seconds - passed
        return due, max(1, min(int(left * pace), 2 * (step - self._last)))

    def _put_back(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        found, self._restored = self._restored, {}
        trainer.fit_loop._restarting = False  # or it leaves schedulers that look at a metric alone until the epoch has ended
        for name, metric in _metrics(module):
            _set_metric(metric, found["metrics"][trainer.global_rank].get(name))
        for name, one in found["sums"][trainer.global_rank].items():
            trainer.fit_loop.epoch_loop._results[name] = _logged(trainer, one)
        if found["batch"] > 0:
            trainer._logger_connector._first_loop_iter = False  # at the first batch of an epoch, log() begins its sums again
        parameters = dict(module.named_parameters())
        # Where all ranks have the same, or each has the one of its part, only the first is there.
        mine = next(iter(found["gradients"][trainer.global_rank :]), None) or found["gradients"][0]
        for name, gradient in mine.items():
            parameters[name].grad = spread_like(gradient, parameters[name]).to(parameters[name].device)
        after = [rank["log"] for rank in _gathered(trainer, {"log": _log_size(self._run, trainer)})]
        if trainer.is_global_zero and found["run"] == self._run.path.name:  # of another run, nothing is done once more here
            step = self._step(trainer, found["epoch"], found["batch"])
            self._run.say(taken_over(step, found["events"], found["logs"][: len(after)], after))
        _set_random_state(trainer, found["random"][trainer.global_rank])
        if self._loader is None:
            iter(trainer.fit_loop._data_fetcher)  # a loader that begins draws its order, and began before this was put back


def _in_parts(trainer: L.Trainer) -> bool:
    """Whether each rank holds, and writes, a part of the model."""
    return isinstance(trainer.strategy, Sharded)


def _between_batches(loops: dict[str, Any], epoch: int, batch: int) -> dict[str, Any]:
    """Return the counters of Lightning's loops as they are between two batches.

    Seen from the hooks that we come from, the next batch or epoch has been counted as ready already, and a restart
    would then count it twice (or validate once more). Between two epochs nothing is to be restarted at all.
    """
    counted, epochs = loops["epoch_loop.batch_progress"], loops["epoch_progress"]
    done = counted["total"]["completed"]
    counted["total"] = dict.fromkeys(counted["total"], done)
    counted["current"] = dict.fromkeys(counted["current"], batch or counted["current"]["completed"])
    counted["is_last_batch"] = False
    if batch == 0:
        for tracker in (epochs["total"], epochs["current"]):
            tracker.update(dict.fromkeys(tracker, epoch))
    return loops


def _gathered(trainer: L.Trainer, mine: dict[str, Any]) -> list[dict[str, Any]]:
    if trainer.world_size == 1:
        return [mine]
    found: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(found, move_data_to_device(mine, "cpu"))  # no rank can read another's device
    return found


def _log_size(run: RunFolder, trainer: L.Trainer) -> int:
    return size_of(log_of(run.path, trainer.global_rank))


def _random_state(trainer: L.Trainer) -> dict[str, Any]:
    name, key, position, has_gauss, gauss = np.random.get_state()
    cuda = torch.cuda.get_rng_state(trainer.strategy.root_device) if trainer.strategy.root_device.type == "cuda" else None
    return {
        "python": random.getstate(),
        "numpy": (str(name), np.asarray(key), int(position), int(has_gauss), float(gauss)),
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def _set_random_state(trainer: L.Trainer, state: Mapping[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], trainer.strategy.root_device)


def _sums(trainer: L.Trainer) -> dict[str, dict[str, Any]]:
    """What `self.log(..., on_epoch=True)` has summed up in this epoch, which Lightning does not save.

    All but what is reduced within a sync_dist_group: a group cannot be written down, and is another after a restart.
    """
    results = trainer.fit_loop.epoch_loop._results
    logged = {name: one for name, one in results.items() if one.is_tensor and one.meta.on_epoch and not one.has_reset}
    return {name: _sum(one) for name, one in logged.items() if one.meta.sync.group is None}


def _sum(metric: _ResultMetric) -> dict[str, Any]:
    meta = metric.meta
    return {
        "states": {name: getattr(metric, name) for name in metric._defaults},
        "meta": {name: getattr(meta, name) for name in _LOGGED},
        "reduce": [meta.reduce_fx.__name__, meta.reduce_fx in (sum, min, max)],
        "sync": [meta.sync.should, meta.sync.rank_zero_only],
    }


def _logged(trainer: L.Trainer, found: Mapping[str, Any]) -> _ResultMetric:
    """Return what `self.log` had made of the batches before the kill, so that it goes on with it, or the epoch ends with it."""
    (reduce, is_builtin), (should, only_first) = found["reduce"], found["sync"]
    made = _Metadata if should is not None else _AsCalledNext
    meta = made(**found["meta"], reduce_fx=getattr(builtins if is_builtin else torch, reduce))
    should = bool(should) and trainer.world_size > 1
    meta.sync = _Sync(fn=trainer.strategy.reduce, _should=should, rank_zero_only=only_first)  # log() refuses one that is not the same
    metric = _ResultMetric(meta, is_tensor=True)
    for name, value in found["states"].items():
        setattr(metric, name, value.to(trainer.strategy.root_device))
    metric._update_count = 1  # or it warns that nothing was logged
    return metric


class _AsCalledNext(_Metadata):
    """Of what one process had summed up: whether several put theirs together, as `sync_dist` says, the next call of log() says."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Metadata):
            return NotImplemented
        self.sync = other.sync
        return vars(self) == vars(other)


def _metrics(module: L.LightningModule) -> list[tuple[str, torchmetrics.Metric]]:
    return [(name, one) for name, one in module.named_modules() if isinstance(one, torchmetrics.Metric)]


def _metric_state(metric: torchmetrics.Metric) -> dict[str, Any]:
    return {"updates": metric._update_count, "states": {name: getattr(metric, name) for name in metric._defaults}}


def _set_metric(metric: torchmetrics.Metric, state: Mapping[str, Any] | None) -> None:
    if state is None:
        return
    for name, value in state["states"].items():
        moved = [one.to(metric.device) for one in value] if isinstance(value, list) else value.to(metric.device)
        setattr(metric, name, moved)
    metric._update_count, metric._computed = state["updates"], None


def _gradients(trainer: L.Trainer, module: L.LightningModule) -> dict[str, torch.Tensor]:
    """Gradients that the next step adds to: where steps accumulate them, each rank its own; a model that steps by itself has the same."""
    if module.automatic_optimization and trainer.accumulate_grad_batches == 1:
        return {}
    if not module.automatic_optimization and trainer.global_rank > 0 and not _in_parts(trainer):
        return {}
    return {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}
