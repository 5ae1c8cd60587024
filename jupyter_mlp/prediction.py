"""Step 5, predict: a model over a dataset version, or rows sent to an endpoint."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.cards import Card, Shown, Table
from jupyter_mlp.core.errors import InvalidInputError, JobError, NotFoundError, nearest, storage_error
from jupyter_mlp.core.identity import digest
from jupyter_mlp.core.references import Ref, named
from jupyter_mlp.serving import experiment_tables, scoring
from jupyter_mlp.store import datasets, deployments, modes, registry
from jupyter_mlp.store.activities import Draft
from jupyter_mlp.store.datasets import DatasetVersion
from jupyter_mlp.store.workspace import Workspace, current

if TYPE_CHECKING:
    from jupyter_mlp.serving.predictor import Prediction

HERE_ROWS = 1_000_000  # up to so many rows are scored in this process, in less time than Spark needs to start
_SHOWN = 8
_COLUMN = scoring.PREDICTION
_ATTEMPTS = 3

Progress = Callable[[int, int, int], None]


@dataclass(frozen=True, repr=False)
class Answers(Shown):
    """Predictions that were asked for, in the order of the rows.

    Attributes:
        predictions: one value or label per row. `models`: the model that answered each row.
        data: the dataset version they were published as, if a name was given.
        ids: what `mlp.outcomes` takes to say what really happened, one per row; empty where no endpoint answered.
    """

    reference: Ref
    predictions: list[Any]
    models: list[str]
    rows: list[dict[str, Any]]
    seconds: float
    data: DatasetVersion | None = None
    ids: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """What answered, as text."""
        return str(self.reference)

    def __len__(self) -> int:
        return len(self.predictions)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.predictions)

    def __getitem__(self, index: int) -> Any:
        return self.predictions[index]

    def to_dict(self) -> dict[str, Any]:
        """Return the predictions as JSON types."""
        return {
            "ref": self.ref,
            "kind": "answers",
            "predictions": self.predictions,
            "models": sorted(set(self.models)),
            "ids": list(self.ids),
            "rows": len(self.predictions),
            "data": self.data.ref if self.data else None,
            "seconds": round(self.seconds, 4),
        }

    def card(self) -> Card:
        """Return the first rows with their predictions, and who answered."""
        per_model = {model: self.models.count(model) for model in dict.fromkeys(self.models)}
        facts: list[tuple[str, Any]] = [(f"model {model[:8]}", f"answered {count:,} rows") for model, count in per_model.items()]
        facts += [("took", f"{self.seconds:,.2f} s")] + ([("published", self.data.reference.short)] if self.data else [])
        names = list(self.rows[0]) if self.rows else []
        cells = [[value, *(row.get(n) for n in names)] for value, row in zip(self.predictions[:_SHOWN], self.rows, strict=False)]
        caption = f"first {_SHOWN} of {len(self.predictions):,} rows" if len(self.predictions) > _SHOWN else ""
        return Card(f"{len(self.predictions):,} predictions by {self.reference.short}", facts, [Table([_COLUMN, *names], cells, caption)])


def predict(
    target: str | Shown,
    *,
    data: Any,
    into: str | None = None,
    keep: str | Sequence[str] | None = None,
    progress: Progress | None = None,
) -> DatasetVersion | Answers:
    """Let a model score a dataset version, or an endpoint answer rows.

    A dataset scored by a model becomes a dataset version: its columns and `prediction`, named `into` or
    `<data>_predictions`; asked again on the same versions it is answered from the record. A large one is a Spark job: its
    tasks read, predict and write the rows split by split, and the version is committed when all are there, or not at all.
    Everything else gives answers.

    Args:
        target: `model:<uuid>`, `run:<id>`, a model's name, or `endpoint:<name>`.
        data: a dataset version, a list of dictionaries or a pandas DataFrame.
        into: name of the dataset version to publish.
        keep: of a scored dataset, the columns to keep beside the prediction, as "id,carrier" or a list; all when left out.
        progress: called with tasks done, tasks in all and bytes read.

    Raises:
        NotFoundError: the model, the dataset, the endpoint or a column is unknown.
        JobError: Spark failed three times, or the endpoint does; no version was made.

    Example:
        >>> mlp.predict("endpoint:delays", data=[{"dep_delay": 4.0, "carrier": "UA"}]).predictions
        [1.7]
    """
    workspace, target = current(), named(target)
    if into is not None:
        datasets.check_name(into)
    source = _Source.read(workspace, data)
    if target.startswith("endpoint:"):
        return _by_endpoint(workspace, target, source, into)
    model = registry.load(workspace, target)
    if source.dataset is not None:
        name = into or f"{source.dataset.reference.name}_predictions"
        return _score(workspace, model, source.dataset, name, target, _listed(keep), progress)
    return _by_model(workspace, model, source, into)


def _listed(keep: str | Sequence[str] | None) -> list[str] | None:
    """Read "id,carrier"; an empty text keeps nothing."""
    if keep is None:
        return None
    return [name.strip() for name in keep.split(",") if name.strip()] if isinstance(keep, str) else list(keep)


@dataclass(frozen=True)
class _Source:
    """Rows from wherever they come."""

    dataset: DatasetVersion | None
    rows: list[dict[str, Any]]

    @classmethod
    def read(cls, workspace: Workspace, data: Any) -> _Source:
        if isinstance(data, str):
            return cls(datasets.load(workspace, data), [])
        if isinstance(data, DatasetVersion):
            return cls(data, [])
        if hasattr(data, "to_dict") and hasattr(data, "columns"):
            return cls(None, [{str(k): v for k, v in row.items()} for row in data.to_dict("records")])
        if isinstance(data, Mapping):
            return cls(None, [dict(data)])
        if isinstance(data, Sequence) and all(isinstance(row, Mapping) for row in data):
            return cls(None, [dict(row) for row in data])
        raise InvalidInputError(
            f"{type(data).__name__} is nothing to predict for.", "Give a dataset's name, a list of dictionaries or a DataFrame."
        )

    @property
    def used(self) -> list[Ref]:
        return [self.dataset.reference] if self.dataset else []

    def each(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows with these columns only; a column that is not there is left for the endpoint to name."""
        if self.dataset is None:
            yield from self.rows
            return
        names = [name for name in columns if name in self.dataset.schema.names]
        for batch in self.dataset.batches(names):
            yield from batch.to_pylist()


def _score(
    workspace: Workspace, model: Any, dataset: DatasetVersion, name: str, asked: str, keep: Sequence[str] | None, progress: Progress | None
) -> DatasetVersion:
    """Score a dataset version split by split and publish the result as one version; memory stays flat."""
    begun = time.perf_counter()
    activities = workspace.activities
    key = digest("predict", 3, f"model:{model.uuid}", dataset.ref, name, keep)
    known = activities.find(key) if modes.reuses() else None
    if known is not None:
        made = next(ref for ref in known.made if ref.kind == "dataset")
        again = activities.again(known)
        return replace(datasets.of_activity(workspace, again, made), reused=True, seconds=time.perf_counter() - begun)
    used = [Ref("model", model.uuid), dataset.reference]
    parameters = {"target": asked, "data": dataset.ref, "into": name, "keep": keep}
    with activities.recording("predict", name=name, key=key, used=used, parameters=parameters) as draft:
        _has_columns(model, dataset, keep)
        todo = scoring.splits(dataset.files)
        if not todo:
            raise InvalidInputError(f"{dataset.reference.short} has no rows to predict for.", "Check the query.")
        by = "here" if dataset.rows <= HERE_ROWS else "spark"
        draft.facts["scored"] = {"by": by, "splits": len(todo)}

        def write(folder: Path) -> list[str]:
            _fill(model.folder, todo, keep, folder, None if by == "here" else workspace.engine, progress)
            return []

        ref = datasets.publish(workspace, draft, name, write, key)
    return replace(datasets.of_activity(workspace, draft.activity, ref), seconds=time.perf_counter() - begun)


def _fill(
    model: Path, todo: Sequence[scoring.Split], keep: Sequence[str] | None, folder: Path, engine: Any, progress: Progress | None
) -> None:
    """Make a folder with the predictions of all splits, in this process or by an engine; where that fails, there is none."""
    whole = False
    try:
        _make(folder)
        if engine is None:
            _here(model, todo, keep, folder)
        else:
            _by(engine, model, todo, keep, folder, progress)
        whole = True
    finally:
        if not whole:
            shutil.rmtree(folder, ignore_errors=True)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise storage_error(error, "writing the predictions") from error


def _here(model: Path, todo: Sequence[scoring.Split], keep: Sequence[str] | None, folder: Path) -> None:
    from jupyter_mlp.serving.predictor import Predictor

    predictor = Predictor.load(model)
    try:
        for split in todo:
            scoring.write(predictor, split, keep, folder)
    finally:
        predictor.close()


def _by(
    engine: Any, model: Path, todo: Sequence[scoring.Split], keep: Sequence[str] | None, folder: Path, progress: Progress | None
) -> None:
    """Let Spark share the splits out; those whose task was killed are shared out again."""
    left = list(todo)
    for attempt in range(_ATTEMPTS):
        try:
            engine.each(len(left), partial(scoring.score, model, left, keep, folder), progress)
        except JobError:
            if attempt == _ATTEMPTS - 1:
                raise
        left = scoring.missing(left, folder)
        if not left:
            scoring.tidy(folder)
            return
    raise JobError(f"{len(left)} of {len(todo)} parts were not predicted.", "Run it again; mlp doctor shows how Spark is.")


def _has_columns(model: Any, dataset: DatasetVersion, keep: Sequence[str] | None) -> None:
    names = dataset.schema.names
    for column in keep or ():
        if column not in names:
            raise NotFoundError(f"{dataset.reference.short} has no column {column} to keep.", nearest(column, names))
    for column in model.recipe.columns:
        if column not in names:
            raise NotFoundError(f"{dataset.reference.short} has no column {column}, which {model.name} reads.", nearest(column, names))


def _by_model(workspace: Workspace, model: Any, source: _Source, into: str | None) -> Answers:
    from jupyter_mlp.serving.predictor import Predictor, json_ready

    begun = time.perf_counter()
    reference = Ref("model", model.uuid)
    with workspace.activities.recording("predict", name=into or model.name, used=[reference], parameters={"into": into}) as draft:
        predictor = Predictor.load(model.folder)
        try:
            found: Prediction = predictor.answer([{name: json_ready(value) for name, value in row.items()} for row in source.rows])
        finally:
            predictor.close()
        draft.facts["rows"] = len(source.rows)
        published = _publish(workspace, draft, into, source.rows, found.values)
    return Answers(
        reference,
        found.values,
        [model.uuid] * len(source.rows),
        source.rows[:_SHOWN],
        time.perf_counter() - begun,
        datasets.of_activity(workspace, draft.activity, published) if published else None,
    )


def _by_endpoint(workspace: Workspace, target: str, source: _Source, into: str | None) -> Answers:
    from jupyter_mlp.serving.client import Client

    begun = time.perf_counter()
    reference = deployments.newest(workspace, target)
    folder = deployments.folder(workspace, reference.name)
    served = next(iter(folder.wanted().get("variants", [])), None)
    if served is None or folder.address is None or not folder.running:
        raise InvalidInputError(
            f"The endpoint {reference.name} is not running.", f"Deploy to it again: %mlp_deploy MODEL --to {reference.name}"
        )
    columns = registry.load(workspace, f"model:{served['model']}").recipe.columns
    with workspace.activities.recording(
        "predict", name=into or reference.name, used=[reference, *source.used], parameters={"into": into}
    ) as draft:
        asked: list[dict[str, Any]] = []
        predictions: list[Any] = []
        models: list[str] = []
        ids: list[str] = []
        with Client(folder.address, reference.name, folder.token()) as client:
            for answer in client.ask_all(_kept(source.each(columns), asked, all_rows=into is not None)):
                predictions += answer.predictions
                ids += experiment_tables.ids(answer.id, len(answer.predictions))
                models += [answer.model] * len(answer.predictions)
        draft.facts.update(rows=len(predictions), models=sorted(set(models)))
        published = _publish(workspace, draft, into, asked, predictions)
    data = datasets.of_activity(workspace, draft.activity, published) if published else None
    return Answers(reference, predictions, models, asked[:_SHOWN], time.perf_counter() - begun, data, tuple(ids))


def _kept(rows: Iterator[dict[str, Any]], kept: list[dict[str, Any]], all_rows: bool) -> Iterator[dict[str, Any]]:
    """Pass rows on, keeping those that are shown or published."""
    for row in rows:
        if all_rows or len(kept) < _SHOWN:
            kept.append(row)
        yield row


def _publish(workspace: Workspace, draft: Draft, into: str | None, rows: list[dict[str, Any]], values: list[Any]) -> Ref | None:
    if into is None:
        return None
    import pyarrow as pa

    table = pa.Table.from_pylist(rows)
    kept = table.drop_columns([_COLUMN]) if _COLUMN in table.column_names else table
    return datasets.publish_table(workspace, draft, into, kept.add_column(0, _COLUMN, pa.array(values)))
