"""How an endpoint did hour by hour, or day by day: answers, latency and drift, out of its lake table, in a stream that fits any memory.

It is shown and never judged: of so many hours and columns some are odd by chance, and alarms are raised by `core.alarms` alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from jupyter_mlp.core import drift
from jupyter_mlp.core.references import Ref
from jupyter_mlp.serving import experiment_tables
from jupyter_mlp.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

HOUR, DAY = 3600, 86_400
_PERIODS = 48  # that are shown at most
_SAMPLED = 1000  # rows of a period that drift is judged by
_COLUMNS = ["time", "model", "shadow", "ms", "instance"]


@dataclass
class _Period:
    answers: int = 0
    ms: list[np.ndarray] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)


def periods(workspace: Workspace, endpoint: str, model: str, known: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return for each hour, or day where it is more than two of them, what was answered, how fast, and how far the model's input drifted.

    Args:
        model: whose input is compared with `known`, the statistics of its columns.
    """
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    name = experiment_tables.names(endpoint)[0]
    version = workspace.lake.current(name)
    if version is None:
        return []
    data = ds.dataset(workspace.lake.files(name, version), format="parquet")
    first, last = _span(experiment_tables.read(workspace, Ref("table", name, version), ["time"]))
    width = HOUR if last - first <= _PERIODS * HOUR else DAY
    begin = max(first // width, last // width - _PERIODS + 1) * width
    since = pc.field("time") >= pc.scalar(datetime.fromtimestamp(begin, UTC))
    found: dict[int, _Period] = {}
    for batch in data.to_batches(columns=_COLUMNS, filter=since & ~pc.field("shadow")):
        _add(batch, width, model, found)
    return [_told(at * width, found[at], known) for at in sorted(found)]


def _span(times: pa.Table) -> tuple[int, int]:
    import pyarrow.compute as pc

    ends = pc.min_max(times.column("time").cast("int64")).as_py()
    return ends["min"] // 10**6, ends["max"] // 10**6


def _add(batch: pa.RecordBatch, width: int, model: str, found: dict[int, _Period]) -> None:
    import pyarrow.compute as pc

    micros = batch.column("time").cast("int64").to_numpy()
    mine = pc.equal(batch.column("model"), model).to_numpy(zero_copy_only=False)
    ms, instances = batch.column("ms").to_numpy(), batch.column("instance")
    for at in np.unique(micros // (width * 10**6)).tolist():
        here = np.flatnonzero(micros // (width * 10**6) == at)
        period = found.setdefault(at, _Period())
        period.answers += len(here)
        period.ms.append(ms[here][np.unique(micros[here], return_index=True)[1]])  # the rows of a request have its time
        wanted = here[mine[here]]
        wanted = wanted[:: max(1, len(wanted) // _SAMPLED)][: _SAMPLED - len(period.rows)]
        period.rows += instances.take(wanted).to_pylist()


def _told(begin: int, period: _Period, known: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    p50, p95 = np.percentile(np.concatenate(period.ms), [50, 95]).tolist()
    rows = [json.loads(row) for row in period.rows]
    compared = [drift.compare(name, statistics, [row.get(name) for row in rows]) for name, statistics in known.items()] if rows else []
    judged = {one.name: one.psi for one in compared if one and one.rows >= drift.ENOUGH}
    when = datetime.fromtimestamp(begin, UTC).isoformat()
    return {"from": when, "answers": period.answers, "p50_ms": p50, "p95_ms": p95, "psi": judged}


def drifted_most(told: Sequence[Mapping[str, Any]], most: int = 5) -> Iterator[tuple[str, str, float]]:
    """Yield (when, feature, PSI) of the features whose drift was largest at any time."""
    largest: dict[str, float] = {}
    for one in told:
        for name, psi in one["psi"].items():
            largest[name] = max(psi, largest.get(name, 0.0))
    shown = sorted(largest, key=lambda name: -largest[name])[:most]
    yield from ((one["from"], name, one["psi"][name]) for one in told for name in shown if name in one["psi"])
