"""Lightning: builds the user's model, fits it on its rank's batches, and publishes what came out."""

from __future__ import annotations

import importlib
import inspect
import logging
import math
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812 - how everybody writes it
import torch
from lightning.pytorch.utilities.model_helpers import is_overridden
from safetensors.torch import save_file
from torch.utils.data import DataLoader, IterableDataset

from jupyter_mlp.backends import onnx
from jupyter_mlp.backends.lightning_checkpoints import AsyncCheckpoints
from jupyter_mlp.backends.lightning_resuming import Checkpointer, Pace
from jupyter_mlp.core.errors import InvalidInputError, JobError, nearest
from jupyter_mlp.core.identity import plain
from jupyter_mlp.core.plugins import load
from jupyter_mlp.core.recipe import Recipe
from jupyter_mlp.core.values import json_ready
from jupyter_mlp.store import batches, environment
from jupyter_mlp.store.artifacts import publish_folder
from jupyter_mlp.store.batches import HELD_OUT, TRAIN, Plan
from jupyter_mlp.store.jobs import RunFolder

Spec = Mapping[str, Any]
_EVERY_S = 0.25
# A parameter of the constructor with one of these names is given what the data decides.
WIDTH_NAMES = ("width", "in_features", "input_dim", "input_size", "num_features", "n_features")
OUTPUT_NAMES = ("outputs", "out_features", "output_dim", "output_size", "num_classes", "n_classes")


def train(run: RunFolder, spec: Spec, prepared: Mapping[str, Any], rank: int, world: int) -> None:
    """Fit the model of a run on this rank; rank 0 publishes the result."""
    begun = time.perf_counter()
    recipe, plan = Recipe.from_dict(prepared["recipe"]), Plan.from_dict(prepared["plan"])
    held = Plan.from_dict(prepared["validation"]) if prepared["validation"] else plan
    torch.set_num_threads(int(os.environ.get("MLP_THREADS") or max(1, (os.cpu_count() or 1) // world)))
    L.seed_everything(spec["seed"], workers=True, verbose=False)
    kind = _class(spec["class_name"])
    arguments = _arguments(kind, spec["settings"], recipe)
    model = kind(**arguments)
    rows = max(1, spec["batch_size"] // world)
    steps = plan.steps(TRAIN, world, rows)
    reporter = Reporter(run, spec["max_epochs"], steps, rows * world)
    batches_of = Batches(plan, recipe, TRAIN, rows, rank, world)
    resumes = os.environ.get("MLP_RESUME")
    writer = AsyncCheckpoints(lambda told: run.say({"note": told}))
    keeper = Checkpointer(run, Pace.of(spec["checkpoint_every"]), writer, batches_of, steps)
    trainer = _trainer(spec, run, world, rank, [keeper, *([reporter] if rank == 0 else [])], writer)
    validates = is_overridden("validation_step", model) and held.rows(HELD_OUT) >= world
    trainer.fit(
        model,
        _loader(batches_of),
        _loader(Batches(held, recipe, HELD_OUT, rows, rank, world)) if validates else None,
        ckpt_path=resumes,
    )
    if rank == 0:
        facts = {"steps": trainer.global_step, "rows": plan.rows(TRAIN), "held_out": held.rows(HELD_OUT)}
        _publish(run, spec, model, recipe, arguments, {**facts, "metrics": reporter.metrics, "fit_s": time.perf_counter() - begun})


class Batches(IterableDataset):
    """One rank's batches of an epoch, from number `start` on; both are looked up when the first one is wanted."""

    def __init__(self, plan: Plan, recipe: Recipe, part: str, rows: int, rank: int, world: int) -> None:
        self._read = (plan, recipe, part, rows)
        self._rank, self._world = rank, world
        self.epoch = self.start = 0

    def __len__(self) -> int:
        plan, _, part, rows = self._read
        return plan.steps(part, self._world, rows)

    def __iter__(self) -> Iterator[Any]:
        training = self._read[2] == TRAIN
        found = batches.stream(*self._read, rank=self._rank, world=self._world, epoch=self.epoch, start=self.start, shuffle=training)
        for x, y in found:
            # Copied to where torch aligns its memory: a kernel may add up in another order where it begins elsewhere,
            # and after a resume the same batch stands elsewhere in its window.
            features = torch.from_numpy(x).clone()
            yield features if y is None else (features, torch.from_numpy(y).clone())


class Reporter(L.Callback):
    """Says in events.jsonl what happens, and stops a run whose loss is no number any more."""

    def __init__(self, run: RunFolder, epochs: int, steps: int, rows: int) -> None:
        self._run = run
        self._epochs, self._steps, self._rows = epochs, steps, rows
        self._said_at = self._began = 0.0
        self._first = 0  # batches that were done before this attempt
        self._unread: list[tuple[int, torch.Tensor]] = []  # losses that wait on their device: reading one stops it
        self._last: float | None = None
        self._total, self._count = 0.0, 0
        self.metrics: dict[str, float] = {}

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
        self._first = trainer.fit_loop.epoch_loop.batch_progress.total.completed
        self._run.say({"epoch": trainer.current_epoch, "epochs": self._epochs, "step": self._first, "steps": self._steps * self._epochs})

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Remember the loss; four times a second say how far it is."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        done = trainer.current_epoch * self._steps + batch_idx + 1
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
                "steps": self._steps * self._epochs,
                "loss": self._last,
                "rows_per_s": round((done - self._first) * self._rows / (now - self._began)),
            }
        )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say the metrics of the epoch; without any of the model's own, the mean loss."""
        self._read()
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self._count and "train_loss" not in found:
            found["train_loss"] = self._total / self._count
        self._total, self._count = 0.0, 0
        self.metrics = {name: value for name, value in found.items() if math.isfinite(value)}
        self._run.say({"epoch": trainer.current_epoch + 1, "epochs": self._epochs, "step": trainer.global_step, "metrics": self.metrics})

    def _read(self) -> None:
        """Read the losses since the last time, all at once; one that is no number ends the run."""
        if not self._unread:
            return
        values = torch.stack([loss.reshape(()) for _, loss in self._unread]).tolist()
        steps = [step for step, _ in self._unread]
        self._unread = []
        for step, value in zip(steps, values, strict=True):
            if math.isnan(value):
                raise JobError(
                    f"The loss is not a number any more from step {step:,} on (epoch {(step - 1) // self._steps + 1}).",
                    "Try a smaller learning rate, or look for a logarithm or division that can be of zero.",
                )
            self._total, self._count = self._total + value, self._count + 1
        self._last = values[-1]


def _class(name: str) -> type[L.LightningModule]:
    found = getattr(importlib.import_module("captured"), name)
    if not (isinstance(found, type) and issubclass(found, L.LightningModule)):
        raise InvalidInputError(f"{name} is not a LightningModule.", f"Derive it: class {name}(L.LightningModule), import lightning as L.")
    return found


def _arguments(kind: type, settings: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Return what the constructor gets: the user's settings, and what the data decides under its usual names."""
    parameters = inspect.signature(kind).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    named = {name for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    for name in settings:
        if name not in named and not takes_any:
            raise InvalidInputError(f"{kind.__name__} takes no setting {name}.", nearest(name, named) or "Leave --set out.")
    outputs = len(recipe.classes or ()) if recipe.task == "multiclass" else 1
    known: dict[str, Any] = dict.fromkeys(WIDTH_NAMES, recipe.width) | dict.fromkeys(OUTPUT_NAMES, outputs)
    known |= {"cardinalities": recipe.cardinalities, "positions": recipe.positions}
    decided = {name: value for name, value in known.items() if name in named}
    missing = [n for n in named - {*decided, *settings} if parameters[n].default is inspect.Parameter.empty]
    if missing:
        raise InvalidInputError(
            f"{kind.__name__} needs the argument {missing[0]}, which nothing gives.",
            f"Write --set {missing[0]}=VALUE, or name it {WIDTH_NAMES[0]} (number of features) or {OUTPUT_NAMES[0]} (number of outputs).",
        )
    return {**decided, **settings}


def _trainer(spec: Spec, run: RunFolder, world: int, rank: int, callbacks: list[L.Callback], writer: AsyncCheckpoints) -> L.Trainer:
    # The batches come ready from a thread of their own: worker processes would only copy them once more.
    for told in (
        "does not have many workers",
        "has `__len__` defined",
        "isinstance.treespec, LeafSpec",
        "your dataloader is not resumable",
        "srun. command is available",
    ):
        warnings.filterwarnings("ignore", message=f".*{told}.*")
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "Tip:" not in record.getMessage())
    return L.Trainer(
        max_epochs=spec["max_epochs"],
        accelerator="auto",
        devices=local,
        num_nodes=world // local,
        strategy="ddp" if world > 1 else "auto",
        callbacks=callbacks,
        plugins=[writer],
        logger=_tracker(spec, run) if rank == 0 else False,
        default_root_dir=run.path,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
    )


def _tracker(spec: Spec, run: RunFolder) -> Any:
    """Return the mirror that the settings name; it is never needed, so it never stops a run."""
    if spec["tracker"] == "none":
        return False
    try:
        return load("trackers", spec["tracker"])(spec, run.path)
    except Exception as error:  # noqa: BLE001 - see above
        run.say({"note": f"The tracker {spec['tracker']} is not used: {error}".splitlines()[0]})
        return False


def _loader(data: Batches) -> DataLoader[Any]:
    # A generator of its own: a loader that begins draws a number, and a resume begins at another time.
    return DataLoader(data, batch_size=None, generator=torch.Generator())


def _publish(run: RunFolder, spec: Spec, model: L.LightningModule, recipe: Recipe, arguments: Spec, facts: Spec) -> None:
    run.say({"note": "exporting"})
    model = model.cpu().eval()
    table = _some_rows(spec["data"]["files"], recipe)
    sample = torch.from_numpy(recipe.features({name: table.column(name) for name in recipe.columns}))

    def write(folder: Path) -> None:
        tensors = {name: value.detach().clone().contiguous() for name, value in model.state_dict().items()}
        save_file(tensors, folder / "weights.safetensors")
        card = _card(spec, recipe, table, arguments, facts)
        card["export"] = onnx.export(model, sample, folder / "model.onnx")
        _copy(run.path / "code", folder / "code")
        RunFolder(folder).write("card.json", card)

    publish_folder(run.path / "result", write)


def _card(spec: Spec, recipe: Recipe, table: Any, arguments: Spec, facts: Spec) -> dict[str, Any]:
    types = {field.name: str(field.type) for field in table.schema}
    known: dict[str, Any] = plain(
        {
            "name": spec["class_name"],
            "run": f"run:{spec['run']}",
            "data": spec["data"]["ref"],
            "prepared_by": spec["recipe"],
            "task": recipe.task,
            "target": recipe.target,
            "classes": list(recipe.classes) if recipe.classes else None,
            "signature": {"inputs": [{"name": name, "type": types[name], "nullable": True} for name in recipe.columns]},
            "example": {name: json_ready(value) for name, value in table.slice(0, 1).to_pylist()[0].items()},
            "arguments": dict(arguments),
            "seed": spec["seed"],
            "environment": environment.describe(),
            **facts,
        }
    )
    return {**known, "recipe": recipe.to_dict()}


def _some_rows(files: list[str], recipe: Recipe) -> Any:
    import pyarrow.parquet as pq

    for path in files:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=64, columns=recipe.columns):
            import pyarrow as pa

            return pa.Table.from_batches([batch]).select(recipe.columns)
    raise JobError("The data has no rows.", "Check the query.")


def _copy(source: Path, target: Path) -> None:
    import shutil

    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
