"""An endpoint's answers and what really happened, as lake tables that queries can read.

    lake.<endpoint>_predictions   one row an answered instance: time, id, model, generation, shadow, key, ms, prediction, label, instance
                                 (generation 0: from the store, instance then holds the key it was asked by)
    lake.<endpoint>_outcomes      one row an outcome: time, id, value, label; of several for one id the last counts

The serving process appends to its logs; `fold` brings what is new into the tables. A fold that is killed loses nothing
and doubles nothing: what is new is told from what the table holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.references import Ref
from jupyter_mlp.serving import requests_log
from jupyter_mlp.store import races, sources
from jupyter_mlp.store.deployments import EndpointFolder
from jupyter_mlp.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa


def ids(request_id: str, rows: int) -> list[str]:
    """Return the ids of a request's rows: its own where it has one row, else id/0, id/1 and so on."""
    return [request_id] if rows == 1 else [f"{request_id}/{row}" for row in range(rows)]


def names(endpoint: str) -> tuple[str, str]:
    """Return the names of an endpoint's two tables."""
    plain = endpoint.replace("-", "_")
    return f"lake.{plain}_predictions", f"lake.{plain}_outcomes"


def fold(workspace: Workspace, folder: EndpointFolder) -> list[Ref]:
    """Bring what the logs have and the tables have not into the tables; return the tables' exact versions."""
    predictions, outcomes = names(folder.name)

    def answered(since: float) -> pa.Table:
        entries = requests_log.lines(folder.requests, requests_log.Entry, since=since)
        return _predicted([entry for entry in entries if entry.status == 200])

    def happened(since: float) -> pa.Table:
        return _happened(requests_log.lines(folder.outcomes, requests_log.Outcome, since=since))

    with folder.waiting("fold"):
        made = [_append(workspace, predictions, answered), _append(workspace, outcomes, happened)]
    return [ref for ref in made if ref is not None]


def read(workspace: Workspace, ref: Ref, columns: Sequence[str]) -> pa.Table:
    """Return some columns of a table's exact version."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    assert ref.version is not None
    return pa.concat_tables(
        [pq.read_table(path, columns=list(columns), partitioning=None) for path in workspace.lake.files(ref.name, ref.version)]
    )


def _append(workspace: Workspace, name: str, rows_since: Callable[[float], pa.Table]) -> Ref | None:
    before = workspace.lake.current(name)
    new = rows_since(0.0) if before is None else _unknown(workspace, Ref("table", name, before), rows_since)
    if not len(new):
        return Ref("table", name, before) if before else None
    opened = sources.open_source(new)
    staged = workspace.lake.stage(name, opened.batches(), opened.schema)
    with workspace.lake.leased(staged), workspace.activities.recording("table", name=name, parameters={"append": True}) as draft:
        made = races.commit(workspace, name, opened, staged, before, append=True)
        ref = Ref("table", name, made.snapshot)
        draft.made.append(ref)
        if made.parent:
            draft.used.append(Ref("table", name, made.parent))
        columns = [[field.name, str(field.type)] for field in made.schema]
        draft.facts.update(rows=made.rows, columns=columns, content=str(made.snapshot))
    return ref


def _unknown(workspace: Workspace, ref: Ref, rows_since: Callable[[float], pa.Table]) -> pa.Table:
    """What is younger than the youngest row of the table, or as young and not there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    stored = read(workspace, ref, ["time", "id"])
    last = pc.max(stored.column("time"))
    there = stored.filter(pc.equal(stored.column("time"), last)).column("id")
    rows = rows_since(last.cast(pa.int64()).as_py() / 1e6 - 1e-3)  # a little before: a float is not exact
    rows = rows.filter(pc.greater_equal(rows.column("time"), last.cast(rows.column("time").type)))
    known = pc.and_(pc.equal(rows.column("time"), last.cast(rows.column("time").type)), pc.is_in(rows.column("id"), there))
    return rows.filter(pc.invert(known))


def _predicted(entries: Sequence[requests_log.Entry]) -> pa.Table:
    import pyarrow as pa

    found: dict[str, list[Any]] = {name: [] for name in _PREDICTIONS}
    for entry in entries:
        for row_id, instance, value in zip(ids(entry.id, entry.rows), entry.instances or entry.asked, entry.predictions, strict=False):
            if value is None:  # a key that nothing was published for
                continue
            number, label = _typed(value)
            line = (
                int(entry.time * 1e6), row_id, entry.model, entry.generation, entry.shadow, entry.key or None, entry.ms, number, label,
                json.dumps(instance, ensure_ascii=False),
            )  # fmt: skip
            for values, one in zip(found.values(), line, strict=True):
                values.append(one)
    return pa.table({name: pa.array(found[name], _type(kind)) for name, kind in _PREDICTIONS.items()})


def _happened(outcomes: Sequence[requests_log.Outcome]) -> pa.Table:
    import pyarrow as pa

    typed = [_typed(one.value) for one in outcomes]
    return pa.table(
        {
            "time": pa.array([int(one.time * 1e6) for one in outcomes], _type("time")),
            "id": pa.array([one.id for one in outcomes], pa.string()),
            "value": pa.array([number for number, _ in typed], pa.float64()),
            "label": pa.array([label for _, label in typed], pa.string()),
        }
    )


_PREDICTIONS = {
    "time": "time",
    "id": "string",
    "model": "string",
    "generation": "int64",
    "shadow": "bool",
    "key": "string",
    "ms": "double",
    "prediction": "double",
    "label": "string",
    "instance": "string",
}


def _typed(value: Any) -> tuple[float | None, str | None]:
    """A prediction or outcome as number or label."""
    if isinstance(value, bool):
        return None, str(value).lower()
    return (float(value), None) if isinstance(value, int | float) else (None, str(value))


def _type(kind: str) -> Any:
    import pyarrow as pa

    return pa.timestamp("us", tz="UTC") if kind == "time" else pa.type_for_alias(kind)
