"""Lightning: builds the user's model, fits it on its rank's batches, and publishes what came out."""

from __future__ import annotations

import importlib
import inspect
import math
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import lightning as L  # noqa: N812 - how everybody writes it
import numpy as np
import torch
from lightning.pytorch.utilities.model_helpers import is_overridden

from jupyter_mlp.backends import lightning_strategies as strategies
from jupyter_mlp.backends.keeping import keep_freed_memory
from jupyter_mlp.backends.lightning_checkpoints import AsyncCheckpoints
from jupyter_mlp.backends.lightning_feeds import Feed, own_callbacks, own_feed
from jupyter_mlp.backends.lightning_finite import Finite, check_loss, without
from jupyter_mlp.backends.lightning_publishing import publish
from jupyter_mlp.backends.lightning_resuming import Checkpointer, Pace
from jupyter_mlp.backends.lightning_sharding import filled, skeleton
from jupyter_mlp.backends.lightning_stalling import Pulse
from jupyter_mlp.backends.lightning_trainer import make_trainer
from jupyter_mlp.backends.lightning_usage import device_name, measured
from jupyter_mlp.backends.spinning import considerate
from jupyter_mlp.core.errors import InvalidInputError, nearest
from jupyter_mlp.core.parallelism import SHARDED
from jupyter_mlp.core.recipe import Recipe
from jupyter_mlp.store import batches, gpus, shares
from jupyter_mlp.store.batches import HELD_OUT, TRAIN, Plan
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.shares import Share

Spec = Mapping[str, Any]
_EVERY_S = 0.25
# A parameter of the constructor with one of these names is given what the data decides.
WIDTH_NAMES = ("width", "in_features", "input_dim", "input_size", "num_features", "n_features")
OUTPUT_NAMES = ("outputs", "out_features", "output_dim", "output_size", "num_classes", "n_classes")


def train(run: RunFolder, spec: Spec, prepared: Mapping[str, Any] | None, rank: int, world: int) -> None:
    """Fit the model of a run on this rank; rank 0 publishes the result.

    Args:
        prepared: recipe and plan of rows; None where the batches come from the user's own code.
    """
    begun = time.perf_counter()
    keep_freed_memory()
    torch.set_num_threads(int(os.environ.get("MLP_THREADS") or max(1, (os.cpu_count() or 1) // world)))
    L.seed_everything(spec["seed"], workers=True, verbose=False)
    captured = importlib.import_module("captured")  # it may seed for itself; from here on the seed of the run holds
    L.seed_everything(spec["seed"], workers=True, verbose=False)
    recipe = Recipe.from_dict(prepared["recipe"]) if prepared else None
    model, arguments = _model(getattr(captured, spec["class_name"]), spec, recipe)
    features = (max(1, spec["batch_size"] // world), recipe.width) if recipe else None
    choice = strategies.chosen(spec.get("strategy", "auto"), spec.get("tensor_parallel_size"), model, world, features)
    groups = world // choice.tensor_parallel_size  # of processes that see the same rows
    group = rank // choice.tensor_parallel_size
    feed = _columns(spec, prepared, recipe, group, groups) if prepared and recipe else own_feed(captured, spec["own"])
    reporter = Reporter(run, spec["max_epochs"], feed.steps, feed.rows * groups)
    writer = AsyncCheckpoints(lambda told: run.say({"note": told}))
    pace = strategies.pace(choice.strategy, Pace.of(spec["checkpoint_every"]))
    keeper = Checkpointer(run, pace, writer, feed.positioned, feed.steps)
    if rank == 0 and choice.why:
        run.say({"note": choice.why})
    limit_s = float(spec.get("max_stall_s", 0.0))
    watching = Pulse(run, rank, limit_s, lambda: writer.busy) if limit_s else Finite()
    callbacks = [keeper, *([reporter] if rank == 0 else []), watching, *own_callbacks(captured, spec)]
    bare = skeleton(model) if rank == 0 and choice.strategy in SHARDED else None
    trainer = make_trainer(spec, run, world, rank, callbacks, writer, choice)
    validates = feed.held > 0 and is_overridden("validation_step", model)
    sources = {"datamodule": feed.module} if feed.module else {"train_dataloaders": feed.train}
    if not feed.module and feed.validation is not None and validates:
        sources["val_dataloaders"] = feed.validation
    device = device_name(trainer)
    if rank == 0 and device == "cpu" and gpus.count():
        run.say(
            {"note": f"The GPU of this machine is not used: PyTorch {torch.__version__} cannot. Install the PyTorch that is built for it."}
        )
    with measured(run, trainer, rank), considerate(torch.get_num_threads()):
        trainer.fit(model, **sources, ckpt_path=os.environ.get("MLP_RESUME"))
    if rank == 0 and (best := _best_checkpoint(trainer)):
        run.say({"note": best})
    weights = trainer.strategy.lightning_module_state_dict()  # of all ranks, where each held a part
    if rank == 0:
        facts = {"steps": trainer.global_step, "rows": feed.all_rows, "held_out": feed.held if recipe else None}
        facts |= {"metrics": reporter.metrics, "fit_s": time.perf_counter() - begun, "device": device}
        publish(run, spec, filled(bare, weights) if bare else model, weights, recipe, arguments, facts)


def _columns(spec: Spec, prepared: Mapping[str, Any], recipe: Recipe, rank: int, world: int) -> Feed:
    """Return this rank's batches of a dataset version."""
    plan = Plan.from_dict(prepared["plan"])
    held = Plan.from_dict(prepared["validation"]) if prepared["validation"] else plan
    share = shares.regular(spec["batch_size"], world)
    training = Batches(plan, recipe, TRAIN, share, rank)
    count = held.rows(HELD_OUT)
    validation = Batches(held, recipe, HELD_OUT, share, rank) if count >= world else None
    return Feed(training, validation, None, training, len(training), share.rows, training.total, count)


def _best_checkpoint(trainer: L.Trainer) -> str:
    """Say where a ModelCheckpoint of the user's has kept its best; "" where there is none."""
    found = [(str(one.best_model_path), one) for one in trainer.checkpoint_callbacks if getattr(one, "best_model_path", "")]
    if not found:
        return ""
    path, callback = found[0]
    score = getattr(callback, "best_model_score", None)
    told = f" ({callback.monitor} {float(score):.4g})" if score is not None else ""
    return f"ModelCheckpoint kept {path}{told}; the model of this run has the weights of the last step."


def _model(found: Any, spec: Spec, recipe: Recipe | None) -> tuple[L.LightningModule, dict[str, Any]]:
    """Return the model, made of its class with the user's settings and what the data decides, or by its own statement."""
    if isinstance(found, L.LightningModule):
        return found, {}
    name = spec["class_name"]
    if not (isinstance(found, type) and issubclass(found, L.LightningModule)):
        raise InvalidInputError(f"{name} is not a LightningModule.", f"Derive it: class {name}(L.LightningModule), import lightning as L.")
    arguments = _arguments(found, spec["settings"], recipe)
    return found(**arguments), arguments


class Batches:
    """One rank's batches of an epoch, from number `start` on; both are looked up when the first one is wanted.

    The trainer takes them as they come: a DataLoader around them would only look through each once more.
    """

    def __init__(self, plan: Plan, recipe: Recipe, part: str, share: Share, rank: int) -> None:
        self._read = (plan, recipe, part)
        self._rank = rank
        self.total = plan.rows(part)
        self.regular = self.share = share
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self.regular.steps(self.total)

    def __iter__(self) -> Iterator[Any]:
        training = self._read[2] == TRAIN
        found = batches.stream(
            *self._read,
            self.share.rows,
            rank=self._rank,
            epoch=self.epoch,
            start=self.start,
            share=self.share,
            shuffle=training,
            take=_pinned_rows if torch.cuda.is_available() else _rows,
            join=torch.cat,
        )
        for x, y in found:
            yield x if y is None else (x, y)


def _rows(values: np.ndarray, rows: np.ndarray) -> torch.Tensor:
    # Copied to where torch aligns its memory: a kernel may add up in another order where it begins elsewhere, and after
    # a resume the same batch stands elsewhere in its window.
    return torch.from_numpy(values).index_select(0, torch.from_numpy(rows))


def _pinned_rows(values: np.ndarray, rows: np.ndarray) -> torch.Tensor:
    """Copy to memory that the GPU reads by itself, while the step before still computes."""
    found = torch.from_numpy(values)
    pinned = torch.empty((len(rows), *found.shape[1:]), dtype=found.dtype, pin_memory=True)
    return torch.index_select(found, 0, torch.from_numpy(rows), out=pinned)


class Reporter(L.Callback):
    """Says in events.jsonl what happens, and stops a run whose loss is no number any more."""

    def __init__(self, run: RunFolder, epochs: int, steps: int, rows: int) -> None:
        self._run = run
        self._epochs, self._steps, self._rows = epochs, steps, rows
        self._said_at = self._began = 0.0
        self._all = steps * epochs  # batches of the whole training; 0 where nobody knows
        self._first = 0  # batches that were done before this attempt
        self._unread: list[tuple[int, torch.Tensor]] = []  # losses that wait on their device: reading one stops it
        self._last: float | None = None
        self._total, self._count = 0.0, 0
        self.metrics: dict[str, float] = {}
        self._infinite: set[str] = set()  # names that were told

    def state_dict(self) -> dict[str, Any]:
        """Return what the mean loss of the epoch is made of."""
        self._read()
        return {"total": self._total, "count": self._count, "metrics": self.metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with what `state_dict` returned."""
        self._total, self._count, self.metrics = state_dict["total"], state_dict["count"], state_dict["metrics"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say that it begins."""
        self._began = time.perf_counter()
        if math.isfinite(trainer.num_training_batches):  # fewer than there are, where the Trainer is told so
            self._steps = int(trainer.num_training_batches)
        self._all = self._steps * self._epochs
        if trainer.max_steps > 0 and pl_module.automatic_optimization:
            self._all = min(self._all, trainer.max_steps * trainer.accumulate_grad_batches)
        self._first = trainer.fit_loop.epoch_loop.batch_progress.total.completed
        self._run.say({"epoch": trainer.current_epoch, "epochs": self._epochs, "step": self._first, "steps": self._all})

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Remember the loss; four times a second say how far it is."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        done = trainer.fit_loop.epoch_loop.batch_progress.total.completed + 1
        if isinstance(loss, torch.Tensor):
            self._unread.append((done, loss.detach().float()))
        now = time.perf_counter()
        if now - self._said_at < _EVERY_S:
            return
        self._said_at = now
        self._read()
        self._run.say(
            {
                "epoch": trainer.current_epoch,
                "epochs": self._epochs,
                "step": done,
                "steps": self._all,
                "left_s": self._left(done, now) if self._all else None,
                "loss": self._last,
                "rows_per_s": round((done - self._first) * self._rows / (now - self._began)) or None,
            }
        )

    def _left(self, done: int, now: float) -> float:
        """Return the seconds that are left at the pace of this attempt so far, its validations included."""
        return round((self._all - done) * (now - self._began) / (done - self._first), 1)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say the metrics of the epoch; without any of the model's own, the mean loss."""
        self._read()
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self._count and "train_loss" not in found:
            found["train_loss"] = self._total / self._count
        self._total, self._count = 0.0, 0
        for name, value in found.items():
            if "loss" in name.lower():
                check_loss(f"The metric {name}", value, f"in epoch {trainer.current_epoch + 1}")
        self.metrics, infinite = without(found)
        for name in infinite:
            if name not in self._infinite:  # undefined for some epoch's rows, it may be: that fails nothing, and is not hidden
                self._infinite.add(name)
                self._run.say({"note": f"The metric {name} is {found[name]} in epoch {trainer.current_epoch + 1}: left out there."})
        self._run.say({"epoch": trainer.current_epoch + 1, "epochs": self._epochs, "step": trainer.global_step, "metrics": self.metrics})

    def _read(self) -> None:
        """Read the losses since the last time, all at once; one that is no number ends the run."""
        if not self._unread:
            return
        values = torch.stack([loss.reshape(()) for _, loss in self._unread]).tolist()
        steps = [step for step, _ in self._unread]
        self._unread = []
        for step, value in zip(steps, values, strict=True):
            check_loss("The loss", value, f"from step {step:,} on (epoch {(step - 1) // max(1, self._steps) + 1})")
            self._total, self._count = self._total + value, self._count + 1
        self._last = values[-1]


def _arguments(kind: type, settings: Mapping[str, Any], recipe: Recipe | None) -> dict[str, Any]:
    """Return what the constructor gets: the user's settings, and what the data decides under its usual names."""
    parameters = inspect.signature(kind).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    named = {name for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    for name in settings:
        if name not in named and not takes_any:
            raise InvalidInputError(f"{kind.__name__} takes no setting {name}.", nearest(name, named) or "Leave --set out.")
    known: dict[str, Any] = {}
    if recipe is not None:
        outputs = len(recipe.classes or ()) if recipe.task == "multiclass" else 1
        known |= dict.fromkeys(WIDTH_NAMES, recipe.width) | dict.fromkeys(OUTPUT_NAMES, outputs)
        known |= {"cardinalities": recipe.cardinalities, "positions": recipe.positions, "task": recipe.task}
        target = recipe.statistics.get(str(recipe.target), {})
        known |= {"target_mean": target.get("mean", 0.0), "target_std": target.get("std", 1.0) or 1.0}
    decided = {name: value for name, value in known.items() if name in named}
    missing = [n for n in named - {*decided, *settings} if parameters[n].default is inspect.Parameter.empty]
    if missing:
        raise InvalidInputError(
            f"{kind.__name__} needs the argument {missing[0]}, which nothing gives.",
            f"Write --set {missing[0]}=VALUE, or name it {WIDTH_NAMES[0]} (number of features) or {OUTPUT_NAMES[0]} (number of outputs).",
        )
    return {**decided, **settings}
