"""Step 2, train: a LightningModule of the notebook, fitted on a dataset version in a job that outlives the kernel."""

from __future__ import annotations

import re
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_mlp import models
from jupyter_mlp.core import trainer_arguments
from jupyter_mlp.core.cards import Card, Shown
from jupyter_mlp.core.clusters import Sight
from jupyter_mlp.core.entities import CANCELLED, FAILED, FINISHED, RUNNING, Activity
from jupyter_mlp.core.errors import DetachedError, InvalidInputError, JobError, nearest
from jupyter_mlp.core.identity import digest
from jupyter_mlp.core.references import Ref
from jupyter_mlp.notebook import capture as code
from jupyter_mlp.notebook import history, own
from jupyter_mlp.reports import runs
from jupyter_mlp.store import attempts, clusters, datasets, jobs, modes, queue, recipes
from jupyter_mlp.store.activities import new_id
from jupyter_mlp.store.artifacts import publish_bytes
from jupyter_mlp.store.attempts import Attempt
from jupyter_mlp.store.datasets import DatasetVersion
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.recipes import RecipeVersion
from jupyter_mlp.store.workspace import Workspace, current

_HOW = ("where", "on", "nodes", "device", "priority", "retries", "checkpoint_every")  # of a run, and not of what it makes
HELD_OUT = 0.1  # of the rows, for validation, where no validation dataset is given

Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, repr=False)
class Run(Shown):
    """A training run: a handle on a job that lives without this kernel. Everything it says is true now.

    Attributes:
        reused: whether the same code, data and settings had been trained before.
    """

    id: str
    workspace: Workspace
    reused: bool = False

    @property
    def ref(self) -> str:
        """The exact reference, as text."""
        return f"run:{self.id}"

    @property
    def state(self) -> str:
        """`queued`, `running`, `finished`, `failed`, `cancelled`; `unreachable` while its cluster does not answer."""
        state = self._activity.state
        return clusters.sight(self._folder).state if state == RUNNING else state

    @property
    def error(self) -> str | None:
        """Why it failed, or None."""
        return self._activity.error

    @property
    def metrics(self) -> dict[str, float]:
        """The newest value of every metric that the model logged."""
        return {name: points[-1][1] for name, points in jobs.metric_series(self._folder).items()}

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Its starts: more than one where something was killed, each with the reason and the step it went on from."""
        return tuple(attempts.attempts(self._folder))

    @property
    def inputs(self) -> tuple[Ref, ...]:
        """The exact dataset versions it learns from."""
        return tuple(ref for ref in self._activity.used if ref.kind != "recipe")

    @property
    def recipe(self) -> str | None:
        """The reference of the fitted recipe that made its features."""
        return next((str(ref) for ref in self._activity.used if ref.kind == "recipe"), None)

    @property
    def model(self) -> str | None:
        """The reference of the model it made; None before it has finished."""
        return next((str(ref) for ref in self._activity.made if ref.kind == "model"), None)

    def logs(self) -> str:
        """Return everything the job printed so far, each line once, however often it was killed and went on."""
        return attempts.log(self._folder)

    def wait(self, progress: Progress | None = None) -> Run:
        """Wait for the end and return the run.

        Raises:
            JobError: it failed (the message says why) or was cancelled.
            DetachedError: waiting was interrupted; the job goes on.
        """
        now: dict[str, Any] = {"text": "starting"}
        try:
            for events in jobs.follow(self._folder):
                now = next((shown for shown in map(runs.news, reversed(events)) if shown), now)
                if progress:  # also when nothing is new, so that the clock goes on
                    seen = clusters.sight(self._folder)
                    progress({"text": seen.why} if seen.why else now)
        except KeyboardInterrupt:
            raise DetachedError(
                f"Waiting for {self.ref} was interrupted; the training goes on.",
                f"%mlp_attach {self.ref} --wait waits again; with --cancel it stops the training.",
            ) from None
        state = self.state
        if state == FAILED:
            ended = self._folder.read("exit.json") or {}
            raise JobError(f"{self.ref} failed: {self.error}", str(ended.get("hint", "")))
        if state == CANCELLED:
            raise JobError(f"{self.ref} was cancelled.", "Train again, or with --fresh where another run is reused.")
        return self

    def cancel(self) -> None:
        """Stop the job; a run that has ended stays as it is."""
        if self._activity.state == RUNNING:
            jobs.cancel(self._folder)

    @property
    def _folder(self) -> RunFolder:
        return jobs.folder_of(self.workspace, self.id)

    @property
    def _activity(self) -> Activity:
        return jobs.fold(self.workspace, self.id)

    def to_dict(self) -> dict[str, Any]:
        """Return state, metrics and references as JSON types."""
        activity = self._activity
        return {
            "ref": self.ref,
            "kind": "run",
            "name": activity.name,
            "state": self.state,
            "model": self.model,
            "data": activity.parameters["data"],
            "inputs": [str(ref) for ref in self.inputs],
            "recipe": self.recipe,
            "parameters": dict(activity.parameters),
            "metrics": self.metrics,
            "error": activity.error,
            "attempts": [vars(attempt) for attempt in self.attempts],
            "reused": self.reused,
            "seconds": activity.seconds,
        }

    def card(self) -> Card:
        """Return state, metrics and how they came about."""
        activity = self._activity
        if activity.state != RUNNING:
            return runs.card(self, activity, self._folder, None, Sight())
        return runs.card(self, activity, self._folder, queue.places(self.workspace).get(self.id), clusters.sight(self._folder))


def train(
    model: Any,
    *,
    data: Any = None,
    target: str | None = None,
    task: str | None = None,
    validation: Any = None,
    gpus: int | None = None,
    cluster: str = "local",
    settings: Mapping[str, Any] | None = None,
    recipe: str | RecipeVersion | None = None,
    max_epochs: int = 5,
    batch_size: int = 1024,
    seed: int = 7,
    priority: int = 0,
    retries: int = 5,
    checkpoint_every: int | str = "30s",
    strategy: str = "auto",
    trainer: Mapping[str, Any] | None = None,
    callbacks: Any = None,
    early_stopping: str | None = None,
    detach: bool = False,
    fresh: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Train a LightningModule on a dataset version and return the run, which made a model.

    The model's batches are `(features, target)`: float32 [rows, width] and the target [rows] (float32, or class
    numbers int64 for multiclass). Its constructor may ask for what the recipe decides: `width` (number of features),
    `outputs` (number of outputs), `cardinalities` ({column: number of indices}, of columns that end in an embedding or
    tokens) and `positions` ({column: places of its features in a row}); everything else comes from its defaults and from
    `settings`. The same code on the same data with the same settings is answered from the record.

    A model whose batches are no rows of a dataset brings its own: `data` is then a LightningDataModule or a DataLoader of
    the notebook (`validation` another one), or left out where the model has train_dataloader(). It is made again in the
    job by the statements that made it here.

    Args:
        model: the class or its name; FILE.py:CLASS or NOTEBOOK.ipynb:CLASS outside a notebook; mlp:NAME for one of
            `jupyter_mlp.models`. A variable that holds a model stands for the statement that made it: its weights do not travel.
        target: the column to predict. `task`: regression, binary or multiclass; seen from the target when left out.
        validation: a dataset version; a tenth of the rows when left out.
        gpus: processes, one a GPU; processes of the CPU where there is none. On a cluster they are spread evenly over the
            fewest nodes that have them, and start all together or wait.
        cluster: local, or a cluster of the settings file; mlp.clusters() shows them.
        settings: arguments of the model's constructor.
        recipe: how columns become features, fitted on `data` (an exact fitted version is used as it is); the default
            for the data's columns when left out. It learns from all rows of `data`, those set aside for validation too.
        batch_size: rows a step, over all processes.
        priority: jobs of a higher one are first in the queue where the machine has not enough processes for all.
        retries: how often it is started again after a kill, from its last checkpoint, before it gets a step further.
        checkpoint_every: steps (100), or a time ("30s", "5min"); 0 for none.
        strategy: the Trainer's; auto takes one process, ddp or fsdp from the model's size and the memory, and says why.
        trainer: further arguments of Lightning's Trainer, by its own names: precision, accumulate_grad_batches,
            gradient_clip_val, max_steps, limit_train_batches ...
        callbacks: a variable of the notebook that holds callbacks. `early_stopping`: a metric; the run ends when it gets no
            better over three looks.
        detach: return at once; the job goes on.
        fresh: train even when the answer is known.

    Raises:
        NotFoundError: the data, the column or the class is unknown; the message names the nearest.
        InvalidInputError: the class or a setting cannot work. JobError: the training failed.

    Example:
        >>> mlp.train(DelayModel, data="trips", target="arr_delay", max_epochs=3).metrics
        {'train_loss': 9.8, 'val_mae': 9.6}
    """
    workspace = current()
    values = history.variables()
    brought = _brought(model, data, validation, values)
    named = own.name_of(callbacks, values, "callbacks") if callbacks is not None and not isinstance(callbacks, str) else callbacks
    also = [name for name in (*(brought or {}).values(), named) if name]
    captured = code.capture(_premade(model), history.sources(), values, also)
    count = gpus if gpus is not None else 1
    where = clusters.named(workspace, cluster)
    shape = clusters.launcher(where).shape(count)
    dataset = held = fitted = None
    if brought is None:
        dataset = _dataset(workspace, data)
        held = _dataset(workspace, validation) if validation is not None else None
        written = recipes.load(workspace, recipe) if isinstance(recipe, str) else recipe
        _learnable(dataset, held, written, target, task)
        if progress is not None:
            progress({"text": "fitting the recipe"})
        fitted = recipes.for_training(workspace, recipe, dataset, target, task)
        assert fitted.fitted is not None
    else:
        _checked(brought, captured, target, recipe)
    question = {
        "model": captured.class_name,
        "code": digest(captured.digest, models.version()) if _is_premade(model) else captured.digest,
        "data": dataset.ref if dataset else None,
        "own": brought,
        "validation": held.ref if held else None,
        "recipe": fitted.ref if fitted else None,
        "target": fitted.fitted.target if fitted and fitted.fitted else None,
        "task": task,
        "settings": _settings(captured, settings or {}, values),
        "gpus": count,
        "max_epochs": max_epochs,
        "batch_size": batch_size,
        "seed": seed,
        "strategy": strategy,
        "trainer": trainer_arguments.checked(trainer or {}),
        "callbacks": named,
        "early_stopping": early_stopping,
    }
    key = digest("train", 1, question, _versions())
    reuse = not fresh and (modes.reuses() or modes.replays())
    placed = {"cluster": cluster, "where": where.to_dict(), "on": shape.on, "nodes": shape.nodes, "device": shape.device}
    how = {**placed, "priority": priority, "retries": retries, "checkpoint_every": _pace(checkpoint_every)}
    run = (_known(workspace, key) if reuse else None) or _submit(
        workspace, captured, dataset, held, fitted, {**question, **how}, key, reuse
    )
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


def _is_premade(model: Any) -> bool:
    return isinstance(model, str) and model.startswith("mlp:")


def _premade(model: Any) -> Any:
    """Turn mlp:tabular into the class of that name."""
    if _is_premade(model):
        return models.source_of(model.removeprefix("mlp:"))
    return model


def _brought(model: Any, data: Any, validation: Any, values: Mapping[str, Any]) -> dict[str, str | None] | None:
    """Return the names of the data module or loaders of the user's own; None where the data is a dataset version."""
    found = {"data": data, "validation": validation}
    for what, one in found.items():
        if not isinstance(one, str | None) and own.is_data(one):
            found[what] = own.name_of(one, values, what)
    if data is None or found["data"] is not data or own.is_data(values.get(str(data))):
        return found
    if isinstance(data, str) and isinstance(model, str) and ".py:" in model:
        path = Path(model.rpartition(":")[0])
        if path.is_file() and data in own.defined(path.read_text(encoding="utf-8")):
            return found
    return None


def _checked(brought: Mapping[str, Any], captured: code.Captured, target: str | None, recipe: Any) -> None:
    if brought["data"] is None and not own.has_method(captured.source, "train_dataloader"):
        raise InvalidInputError(
            f"Which data? {captured.class_name} has no train_dataloader() of its own.",
            "Give --data DATASET --target COLUMN, or --data with a LightningDataModule or DataLoader of this notebook.",
        )
    if target is not None or recipe is not None:
        raise InvalidInputError(
            f"{'--target' if target else '--recipe'} is said of the columns of a dataset, and this model brings its own batches.",
            "Leave it out, or give --data DATASET.",
        )


def _dataset(workspace: Workspace, data: str | DatasetVersion) -> DatasetVersion:
    return data if isinstance(data, DatasetVersion) else datasets.load(workspace, data)


def _learnable(
    dataset: DatasetVersion, held: DatasetVersion | None, recipe: RecipeVersion | None, target: str | None, task: str | None
) -> None:
    """Refuse here and now what the job could only refuse later."""
    from jupyter_mlp.core.fitting import prepared
    from jupyter_mlp.core.recipe import DEFAULT
    from jupyter_mlp.core.recipe_text import parse
    from jupyter_mlp.core.values import kind_of, same_kind

    chosen = prepared(recipe.definition if recipe else parse(DEFAULT), dataset.schema, target, task)
    for column in [need.column for need in chosen.needs] if held else ():
        if held is not None and column not in held.schema.names:
            raise InvalidInputError(
                f"{held.reference.short} has no column {column}, which {dataset.reference.short} has.",
                nearest(column, held.schema.names),
            )
        if held is not None and not same_kind(held.schema.field(column), kind_of(dataset.schema.field(column))):
            was, now = dataset.schema.field(column).type, held.schema.field(column).type
            raise InvalidInputError(
                f"{column} is {was} in {dataset.reference.short} and {now} in {held.reference.short}.", "Cast it in one of the queries."
            )


def _settings(captured: code.Captured, given: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    if given and own.is_model(values.get(captured.class_name)):
        raise InvalidInputError(
            f"{captured.class_name} is a model that was made already, so it takes no settings.", "Change the cell that makes it."
        )
    known = code.constructor_names(captured)
    for name in given:
        if known is not None and name not in known:
            raise InvalidInputError(f"{captured.class_name} takes no setting {name}.", nearest(name, known) or "Leave --set out.")
    return {name: trainer_arguments.travels(name, value) for name, value in given.items()}


def _versions() -> dict[str, str]:
    """The packages whose version can change what a training gives."""
    from importlib import metadata

    found = {}
    for name in ("torch", "lightning"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


def _known(workspace: Workspace, key: str) -> Run | None:
    """The run that answers this already, or is about to: the same submission twice is one job."""
    for state in (FINISHED, RUNNING):
        found = workspace.activities.find(key, state)
        if found is not None and jobs.fold(workspace, jobs.run_of(found)).state in (FINISHED, RUNNING):
            if state == FINISHED:
                workspace.activities.again(found)
            return Run(jobs.run_of(found), workspace, reused=True)
    return None


def _pace(every: int | str) -> dict[str, float]:
    """Return when checkpoints are due, as the run's spec says it."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *(|s|min|h)", str(every).strip())
    if found is None:
        raise InvalidInputError(
            f"Checkpoints every {every!r} is no number of steps and no time.", "Give 100 (steps), 30s, 5min or 1h; 0 for none."
        )
    number, unit = float(found[1]), found[2]
    return {"seconds": number * {"s": 1, "min": 60, "h": 3600}[unit]} if unit else {"steps": int(number)}


def _submit(
    workspace: Workspace,
    captured: code.Captured,
    dataset: DatasetVersion | None,
    held: DatasetVersion | None,
    fitted: RecipeVersion | None,
    question: Mapping[str, Any],
    key: str,
    reuse: bool,
) -> Run:
    """Write what is to be done, claim its record, start it. Whoever is killed on the way leaves nothing or a job that starts."""
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
            "data": {"ref": dataset.ref, "files": dataset.files} if dataset else {"ref": None},
            "validation": {"ref": held.ref, "files": held.files} if held else None,
            "held_out": HELD_OUT,
            "tracker": workspace.settings.tracker,
            "python": sys.executable,
            "submitted_at": time.time(),
        },
    )
    used = [one.reference for one in (dataset, held, fitted) if one is not None]
    told = {name: value for name, value in question.items() if name not in _HOW}
    while True:
        activity, ours = workspace.activities.claim(
            "train", name=captured.class_name, key=key, used=used, parameters=told, activity_id=folder.path.name, reuse=reuse
        )
        if ours:
            break
        found = jobs.fold(workspace, jobs.run_of(activity))
        if found.state == RUNNING or (reuse and found.state == FINISHED):
            shutil.rmtree(folder.path, ignore_errors=True)  # somebody else submitted the same a moment before
            if found.state == FINISHED:
                workspace.activities.again(found)
            return Run(found.id, workspace, reused=True)
    try:
        jobs.start(folder)
    except BaseException as error:
        # The supervisor may be up already: it ends by this wish. Where even that cannot be written, the record stays as it
        # is, and whoever looks next starts the job or finds it running.
        folder.write(jobs.CANCEL, {"at": time.time()})
        workspace.activities.fail(activity, f"The job could not be started: {error}")
        raise
    return Run(folder.path.name, workspace)
