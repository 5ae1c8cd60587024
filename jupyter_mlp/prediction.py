"""Step 5, predict: a model over a dataset version, or rows sent to an endpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.cards import Card, Shown, Table
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, nearest
from jupyter_mlp.core.identity import digest
from jupyter_mlp.core.references import Ref
from jupyter_mlp.serving import experiment_tables
from jupyter_mlp.store import datasets, deployments, modes, registry
from jupyter_mlp.store.activities import Draft
from jupyter_mlp.store.datasets import DatasetVersion
from jupyter_mlp.store.workspace import Workspace, current

if TYPE_CHECKING:
    import pyarrow as pa

    from jupyter_mlp.serving.predictor import Prediction, Predictor

_SHOWN = 8
_COLUMN = "prediction"


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


def predict(target: str, *, data: Any, into: str | None = None) -> DatasetVersion | Answers:
    """Let a model score a dataset version, or an endpoint answer rows.

    A dataset scored by a model becomes a dataset version: its columns and `prediction`, named `into` or
    `<data>_predictions`; asked again on the same versions it is answered from the record. Everything else gives answers.

    Args:
        target: `model:<uuid>`, `run:<id>`, a model's name, or `endpoint:<name>`.
        data: a dataset version, a list of dictionaries or a pandas DataFrame.
        into: name of the dataset version to publish.

    Example:
        >>> mlp.predict("endpoint:delays", data=[{"dep_delay": 4.0, "carrier": "UA"}]).predictions
        [1.7]
    """
    workspace = current()
    if into is not None:
        datasets.check_name(into)
    source = _Source.read(workspace, data)
    if target.startswith("endpoint:"):
        return _by_endpoint(workspace, target, source, into)
    model = registry.load(workspace, target)
    if source.dataset is not None:
        return _score(workspace, model, source.dataset, into or f"{source.dataset.reference.name}_predictions", target)
    return _by_model(workspace, model, source, into)


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


def _score(workspace: Workspace, model: Any, dataset: DatasetVersion, name: str, asked: str) -> DatasetVersion:
    """Score a dataset version batch by batch and publish the result; memory stays flat."""
    from jupyter_mlp.serving.predictor import Predictor

    begun = time.perf_counter()
    activities = workspace.activities
    key = digest("predict", 2, f"model:{model.uuid}", dataset.ref, name)
    known = activities.find(key) if modes.reuses() else None
    if known is not None:
        made = next(ref for ref in known.made if ref.kind == "dataset")
        again = activities.again(known)
        return replace(datasets.of_activity(workspace, again, made), reused=True, seconds=time.perf_counter() - begun)
    used = [Ref("model", model.uuid), dataset.reference]
    parameters = {"target": asked, "data": dataset.ref, "into": name}
    with activities.recording("predict", name=name, key=key, used=used, parameters=parameters) as draft:
        _has_columns(model, dataset)
        predictor = Predictor.load(model.folder)
        try:
            ref = datasets.publish(workspace, draft, name, lambda folder: _write(predictor, dataset, folder), key)
        finally:
            predictor.close()
    return replace(datasets.of_activity(workspace, draft.activity, ref), seconds=time.perf_counter() - begun)


def _write(predictor: Predictor, dataset: DatasetVersion, folder: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from jupyter_mlp.core.errors import storage_error
    from jupyter_mlp.store.storable import storable

    writer = None
    try:
        folder.mkdir(parents=True, mode=0o700)
        for batch in dataset.batches():
            table = _with_answers(pa.Table.from_batches([batch]), predictor)
            table = table.cast(storable(table.schema))
            writer = writer or pq.ParquetWriter(folder / "part-0.parquet", table.schema, compression="zstd")
            writer.write_table(table)
        if writer is None:
            raise InvalidInputError(f"{dataset.reference.short} has no rows to predict for.", "Check the query.")
    except OSError as error:
        raise storage_error(error, "writing the predictions") from error
    finally:
        if writer is not None:
            writer.close()
    return []


def _with_answers(table: pa.Table, predictor: Predictor) -> pa.Table:
    import pyarrow as pa

    found = predictor.predict_columns({name: table.column(name) for name in predictor.recipe.columns})
    kept = table.drop_columns([name for name in (_COLUMN, "probability") if name in table.column_names])
    if found.probabilities is not None:
        # The chance of the second of two classes, else of the class that was said.
        chance = found.probabilities if found.probabilities.ndim == 1 else found.probabilities.max(axis=1)
        kept = kept.add_column(0, "probability", pa.array(chance))
    return kept.add_column(0, _COLUMN, pa.array(found.values))


def _has_columns(model: Any, dataset: DatasetVersion) -> None:
    names = dataset.schema.names
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
    if served is None or folder.port is None or not folder.running:
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
        with Client("127.0.0.1", folder.port, reference.name, folder.token()) as client:
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
