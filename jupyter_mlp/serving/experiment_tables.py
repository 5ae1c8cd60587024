"""An endpoint's answers and what really happened, as lake tables that queries can read.

    lake.<endpoint>_predictions   one row an answered instance: time, id, model, generation, shadow, key, ms, prediction, label, instance
                                 (generation 0: from the store, instance then holds the key it was asked by)
    lake.<endpoint>_outcomes      one row an outcome: time, id, value, label; of several for one id the last counts

The serving processes append to their logs; `fold` brings what is new into the tables, each line exactly once: how far each
file was read is committed together with its rows, as a property of the table.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.references import Ref
from jupyter_mlp.serving import requests_log, segments
from jupyter_mlp.store import races, sources
from jupyter_mlp.store.deployments import EndpointFolder
from jupyter_mlp.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

CURSOR = "mlp.folded"  # the table's property: how far each file of the log was read
_AT_ONCE = 16 * 2**20  # bytes of the log that one version takes: they are 15 times as much in memory


def ids(request_id: str, rows: int) -> list[str]:
    """Return the ids of a request's rows: its own where it has one row, else id/0, id/1 and so on."""
    return [request_id] if rows == 1 else [f"{request_id}/{row}" for row in range(rows)]


def names(endpoint: str) -> tuple[str, str]:
    """Return the names of an endpoint's two tables."""
    plain = endpoint.replace("-", "_")
    return f"lake.{plain}_predictions", f"lake.{plain}_outcomes"


def fold(workspace: Workspace, folder: EndpointFolder, at_once: int = _AT_ONCE) -> list[Ref]:
    """Bring what the logs have and the tables have not into the tables; return the tables' exact versions."""
    predictions, outcomes = names(folder.name)
    with folder.waiting("fold"):
        made = [
            _fold(workspace, predictions, folder.requests, _predicted, at_once),
            _fold(workspace, outcomes, folder.outcomes, _happened, at_once),
        ]
    return [ref for ref in made if ref is not None]


def _fold(workspace: Workspace, name: str, log: Path, rows_of: Callable[[bytes], pa.Table], at_once: int) -> Ref | None:
    """Bring one log into its table; then drop what the table has and nobody needs any more."""
    before = workspace.lake.current(name)
    ref = Ref("table", name, before) if before else None
    cursor = _cursor(workspace, name)
    older = ref if cursor is None else None  # it has rows, and does not say of which files: all of them are compared, in one go
    while True:
        piece = segments.unread(log, cursor or {}, sys.maxsize if older else at_once)
        rows = rows_of(piece.data)
        if older:
            rows = _unknown(workspace, older, rows)
        if len(rows):
            ref = _append(workspace, ref, name, rows, piece.cursor)
        cursor = piece.cursor
        if not piece.more:
            break
    segments.tidy(log, cursor)
    segments.note(log, cursor, segments.whole(log, cursor))
    return ref


def _cursor(workspace: Workspace, name: str) -> segments.Cursor | None:
    """How far a table has its log; None where it does not say."""
    table = workspace.lake.open(name)
    told = table.properties.get(CURSOR) if table is not None else None
    found: dict[str, int] | None = json.loads(told) if told else None
    return found


def read(workspace: Workspace, ref: Ref, columns: Sequence[str]) -> pa.Table:
    """Return some columns of a table's exact version."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    assert ref.version is not None
    return pa.concat_tables(
        [pq.read_table(path, columns=list(columns), partitioning=None) for path in workspace.lake.files(ref.name, ref.version)]
    )


def _append(workspace: Workspace, ref: Ref | None, name: str, new: pa.Table, cursor: segments.Cursor) -> Ref:
    before = ref.version if ref else None
    opened = sources.open_source(new)
    staged = workspace.lake.stage(name, opened.batches(), opened.schema)
    with workspace.lake.leased(staged), workspace.activities.recording("table", name=name, parameters={"append": True}) as draft:
        noted = {CURSOR: json.dumps(cursor)}
        made = races.commit(workspace, name, opened, staged, before, append=True, noted=noted)
        ref = Ref("table", name, made.snapshot)
        draft.made.append(ref)
        if made.parent:
            draft.used.append(Ref("table", name, made.parent))
        columns = [[field.name, str(field.type)] for field in made.schema]
        draft.facts.update(rows=made.rows, columns=columns, content=str(made.snapshot))
    return ref


def _unknown(workspace: Workspace, ref: Ref, rows: pa.Table) -> pa.Table:
    """What is not in a table yet that an older release wrote."""
    keys = [name for name in ("time", "id", "model") if name in rows.schema.names]
    there = set(zip(*(column.to_pylist() for column in read(workspace, ref, keys).columns), strict=True))
    mine = zip(*(rows.column(name).to_pylist() for name in keys), strict=True)
    return rows.filter([one not in there for one in mine])


def _predicted(data: bytes) -> pa.Table:
    import pyarrow as pa

    found: dict[str, list[Any]] = {name: [] for name in _PREDICTIONS}
    for entry in requests_log.decoded(data, requests_log.Entry):
        if entry.status != 200:
            continue
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


def _happened(data: bytes) -> pa.Table:
    import pyarrow as pa

    outcomes = requests_log.decoded(data, requests_log.Outcome)
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
