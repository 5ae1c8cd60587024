"""Step 2, train: a LightningModule of the notebook, fitted on a dataset version in a job that outlives the kernel."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from jupyter_mlp import models, training_notes
from jupyter_mlp import training_claiming as claiming
from jupyter_mlp import training_inputs as inputs
from jupyter_mlp import training_resuming as resuming
from jupyter_mlp.core import parallelism, trainer_arguments
from jupyter_mlp.core.clusters import LOCAL
from jupyter_mlp.core.entities import FINISHED
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.identity import digest
from jupyter_mlp.core.references import Ref
from jupyter_mlp.notebook import capture as code
from jupyter_mlp.notebook import history, own
from jupyter_mlp.store import batches, clusters, elsewhere, jobs, modes, recipes
from jupyter_mlp.store.activities import new_id
from jupyter_mlp.store.artifacts import publish_bytes
from jupyter_mlp.store.datasets import DatasetVersion
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.recipes import RecipeVersion
from jupyter_mlp.store.workspace import Workspace, current
from jupyter_mlp.training_run import Progress, Run

# Of a run, and not of what it makes:
_HOW = ("where", "on", "nodes", "device", "folder", "priority", "retries", "checkpoint_every", "max_stall_s")


def train(
    model: Any = None,
    *,
    data: Any = None,
    target: str | None = None,
    task: str | None = None,
    validation: Any = None,
    gpus: int | None = None,
    cluster: str | None = None,
    settings: Mapping[str, Any] | None = None,
    recipe: str | RecipeVersion | None = None,
    max_epochs: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    priority: int | None = None,
    retries: int | None = None,
    checkpoint_every: int | str | None = None,
    max_stall: int | str | None = None,
    strategy: str | None = None,
    tensor_parallel_size: int | None = None,
    trainer: Mapping[str, Any] | None = None,
    callbacks: Any = None,
    early_stopping: str | None = None,
    detach: bool = False,
    fresh: bool = False,
    resume: Any = None,
    progress: Progress | None = None,
) -> Run:
    """Train a LightningModule on a dataset version, or on Parquet files where they lie, and return the run, which made a model.

    The model's batches are `(features, target)`: float32 [rows, width] and the target [rows] (float32, or class
    numbers int64 for multiclass). Its constructor may ask for what the recipe decides: `width` (number of features),
    `outputs` (number of outputs), `cardinalities` ({column: number of indices}, of columns that end in an embedding or
    tokens) and `positions` ({column: places of its features in a row}); everything else comes from its defaults and from
    `settings`. The same code on the same data with the same settings is answered from the record.

    A model whose batches are no rows of a dataset brings its own: `data` is then a LightningDataModule or a DataLoader of
    the notebook (`validation` another one), or left out where the model has train_dataloader(). It is made again in the
    job by the statements that made it here, and trained on anew each time: what it reads may have changed.

    The job works in this process's folder (each process on a cluster, too, where that folder is there), so relative paths
    of the code mean what they mean in the notebook, for reading and for writing.

    With `resume`, a run that has ended (it failed, was cancelled or has finished) goes on as a new one: with its own code,
    data, recipe, seed and settings, from its last checkpoint. Only gpus, max_epochs, cluster, retries, checkpoint_every,
    max_stall, priority, and of the Trainer's arguments how long it trains, can be others. With other gpus, the rows of an
    epoch that nobody had seen yet are shared out anew.

    Args:
        model: the class or its name; FILE.py:CLASS or NOTEBOOK.ipynb:CLASS outside a notebook; mlp:NAME for one of
            `jupyter_mlp.models`. A variable that holds a model stands for the statement that made it: its
            weights do not travel, the seeding statements before it do.
        data: a dataset; a table of the lake (`lake.flights`); or Parquet files by a URL that fsspec reaches, a folder or a glob
            (`s3://bucket/trips`, `data/trips/*.parquet`). Those are read where they lie, each process its own row groups; they
            are pinned now, and a process that finds one changed says so instead of learning from it. The keys come from the
            environment, here and where the training runs.
        target: the column to predict. `task`: regression, binary or multiclass; seen from the target when left out.
        validation: a dataset version; a tenth of the rows when left out.
        gpus: processes, one a GPU; processes of the CPU where there is none. On a cluster they are spread evenly over the
            fewest nodes that have them, and start all together or wait.
        cluster: local, the default, or a cluster of the settings file; mlp.clusters() shows them.
        settings: arguments of the model's constructor.
        recipe: how columns become features, fitted on `data` (an exact fitted version is used as it is); the default
            for the data's columns when left out. It learns from all rows of `data`, those set aside for validation too.
        max_epochs: passes over the data, 5 when left out. `batch_size`: rows a step, over all processes; 1024. `seed`: 7.
        priority: jobs of a higher one are first in the queue where the machine has not enough processes for all; 0.
        retries: how often it is started again after a kill, from its last checkpoint, before it gets a step further; 5.
        checkpoint_every: steps (100), or a time ("30s", the default, "5min"); 0 for none.
        max_stall: how long it may stand still, no process getting a batch further ("10min"); then it is ended as by a kill, and
            the process that the others wait for is named. "1h", the default; 0 for ever.
        strategy: the Trainer's, or model_parallel; auto, the default, takes one process, ddp or fsdp from the model's size and the
            memory, model_parallel for a model that spreads itself in configure_model() with self.device_mesh, and says why.
        tensor_parallel_size: processes that share each layer, for model_parallel; the others are data parallel. Lightning's
            default when left out: all processes of a machine.
        trainer: further arguments of Lightning's Trainer, by its own names: precision, accumulate_grad_batches,
            gradient_clip_val, max_steps, limit_train_batches ...
        callbacks: a variable of the notebook that holds callbacks; a ModelCheckpoint without a folder writes into the run's.
        early_stopping: a metric; the run ends when it gets no better over three looks.
        detach: return at once; the job goes on.
        fresh: train even when the answer is known.
        resume: the run to go on with, run:ID.

    Raises:
        NotFoundError: the data, the column or the class is unknown; the message names the nearest.
        InvalidInputError: the class or a setting cannot work. JobError: the training failed.

    Example:
        >>> mlp.train(DelayModel, data="trips", target="arr_delay", max_epochs=3).metrics
        {'train_loss': 9.8, 'val_mae': 9.6}
    """
    workspace = current()
    if resume is not None:
        fixed: dict[str, Any] = {"model": model, "data": data, "target": target, "task": task, "validation": validation, "recipe": recipe}
        fixed |= {"settings": settings, "batch_size": batch_size, "seed": seed, "strategy": strategy, "callbacks": callbacks}
        fixed |= {"tensor_parallel_size": tensor_parallel_size}
        asked: dict[str, Any] = {"gpus": gpus, "max_epochs": max_epochs, "cluster": cluster, "priority": priority, "retries": retries}
        asked |= {"checkpoint_every": checkpoint_every, "max_stall": max_stall, "trainer": trainer}
        going = resuming.resumed(workspace, resume, {**fixed, "early_stopping": early_stopping}, asked, fresh)
        return going if detach else going.wait(progress)
    if model is None:
        raise InvalidInputError(
            "Which model?", "%mlp_train MODEL --data DATASET --target COLUMN; or %mlp_train --resume run:ID to go on with a run."
        )
    values = history.variables()
    brought = inputs.brought_names(model, data, validation, values)
    named = own.name_of(callbacks, values, "callbacks") if callbacks is not None and not isinstance(callbacks, str) else callbacks
    also = [name for name in (*(brought or {}).values(), named) if name]
    cells = history.sources()
    captured = code.capture(inputs.premade(model), cells, values, also)
    count = gpus if gpus is not None else 1
    parallelism.check_size(strategy or parallelism.AUTO, tensor_parallel_size, count)
    where = clusters.named(workspace, cluster or LOCAL.name)
    shape = clusters.launcher(where).shape(count)
    # Before the recipe is fitted, which may take minutes.
    arguments, options = inputs.settings_of(captured, settings or {}, values), trainer_arguments.checked(trainer or {})
    pace = inputs.pace("30s" if checkpoint_every is None else checkpoint_every)
    stall_s = inputs.stall("1h" if max_stall is None else max_stall)
    dataset = held = fitted = None
    if brought is None:
        dataset = elsewhere.load(workspace, data)
        held = elsewhere.load(workspace, validation) if validation is not None else None
        written = recipes.load(workspace, recipe) if isinstance(recipe, str) else recipe
        inputs.check_learnable(dataset, held, written, target, task)
        if progress is not None:
            progress({"text": "fitting the recipe"})
        fitted = recipes.for_training(workspace, recipe, dataset, target, task)
        assert fitted.fitted is not None
    else:
        inputs.check_brought(brought, captured, target, recipe)
    question = {
        "model": captured.class_name,
        "code": digest(captured.digest, models.version()) if inputs.is_premade(model) else captured.digest,
        "data": dataset.ref if dataset else None,
        "own": brought,
        "validation": held.ref if held else None,
        "recipe": fitted.ref if fitted else None,
        "target": fitted.fitted.target if fitted and fitted.fitted else None,
        "task": task,
        "settings": arguments,
        "gpus": count,
        "max_epochs": 5 if max_epochs is None else max_epochs,
        "batch_size": 1024 if batch_size is None else batch_size,
        "seed": 7 if seed is None else seed,
        "strategy": strategy or parallelism.AUTO,
        **({"tensor_parallel_size": tensor_parallel_size} if tensor_parallel_size is not None else {}),
        "trainer": options,
        "callbacks": named,
        "early_stopping": early_stopping,
    }
    key = digest("train", 1, question, claiming.versions())
    # Nobody knows what the user's own loaders read, so what they gave once is no answer; a replay asks for what was.
    reuse = not fresh and (modes.replays() or (modes.reuses() and brought is None))
    placed = {"cluster": where.name, "where": where.to_dict(), "on": shape.on, "nodes": shape.nodes, "device": shape.device}
    placed["folder"] = str(inputs.folder_of(model))
    how = {**placed, "priority": priority or 0, "retries": 5 if retries is None else retries}
    how |= {"checkpoint_every": pace, "max_stall_s": stall_s}
    run = claiming.known(workspace, key) if reuse else None
    if run is None:
        notes = training_notes.before_launch(where, priority or 0, captured, cells)
        if brought is not None and not fresh and (before := workspace.activities.find(key, FINISHED)):
            notes.append(f"Trained anew: what {brought['data'] or 'the model'} reads may have changed since run:{jobs.run_of(before)}.")
        if progress is not None:
            for note in notes:
                progress({"text": note})
        run = _submit(workspace, captured, dataset, held, fitted, {**question, **how}, key, reuse, notes)
    return run if detach else run.wait(progress)


def run(ref: str) -> Run:
    """Return a training run again, in whatever kernel and whether it still runs or not.

    Raises:
        NotFoundError: there is no such run.

    Example:
        >>> mlp.run("run:20261124-101500-1f3c9a2b").state
        'running'
    """
    workspace = current()
    name = workspace.activities.complete("train", Ref.parse(str(ref), kind="run").name)
    jobs.folder_of(workspace, name)
    return Run(name, workspace)


def _submit(
    workspace: Workspace,
    captured: code.Captured,
    dataset: DatasetVersion | None,
    held: DatasetVersion | None,
    fitted: RecipeVersion | None,
    question: Mapping[str, Any],
    key: str,
    reuse: bool,
    notes: Sequence[str] = (),
) -> Run:
    """Write what is to be done, claim its record, start it."""
    folder = RunFolder(workspace.runs / new_id())
    for name, text in {"captured.py": captured.source, **captured.modules}.items():
        publish_bytes(folder.path / "code" / name, text.encode())
    if fitted is not None and fitted.fitted is not None:
        folder.write("fitted.json", fitted.fitted.to_dict())
    folder.write(
        "spec.json",
        {
            **question,
            "run": folder.path.name,
            "model": str(uuid.uuid4()),
            "class_name": captured.class_name,
            "captured": captured.names,
            "data": dataset.to_spec() if dataset else {"ref": None},
            "validation": held.to_spec() if held else None,
            "held_out": batches.SHARE_HELD_OUT,
            "tracker": workspace.settings.tracker,
            "python": sys.executable,
            "submitted_at": time.time(),
        },
    )
    used = [one.reference for one in (dataset, held, fitted) if one is not None]
    told = {name: value for name, value in question.items() if name not in _HOW}
    return claiming.begun(workspace, folder, name=captured.class_name, key=key, used=used, told=told, reuse=reuse, notes=notes)
