"""Between steps 2 and 3: training runs beside each other, filtered, sorted, their curves in one picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jupyter_mlp.core import conditions
from jupyter_mlp.core.cards import Card, Figure, Shown, Table
from jupyter_mlp.core.entities import RUNNING, Activity
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.metric_names import rises
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import jobs
from jupyter_mlp.store.workspace import Workspace, current

_MOST = 1000  # of the newest runs are looked through
_DRAWN = 8  # lines that can be told apart
_ALWAYS = ("run", "model", "state", "data")
_HOW = ("gpus", "cluster", "max_epochs", "batch_size", "seed", "strategy", "tensor_parallel_size", "early_stopping")


@dataclass(frozen=True, repr=False)
class Runs(Shown):
    """Runs beside each other.

    Attributes:
        rows: one a run: run, model, state, data, started_at, seconds; its settings and last metrics under their own names.
        metrics: the names among these that are metrics. `drawn`: the metric of the picture.
        curves: {run: [(step, value)]} of that metric.
    """

    rows: tuple[Mapping[str, Any], ...]
    metrics: tuple[str, ...]
    settings: tuple[str, ...]
    drawn: str | None
    curves: Mapping[str, list[tuple[int, float]]]
    of: int

    def to_dict(self) -> dict[str, Any]:
        """Return rows and curves as JSON types."""
        curves = {name: [list(point) for point in points] for name, points in self.curves.items()}
        return {"kind": "runs", "rows": [dict(row) for row in self.rows], "drawn": self.drawn, "curves": curves, "of": self.of}

    def card(self) -> Card:
        """Return the table with what differs, and the curves in one picture."""
        if not self.rows:
            told = "No run fulfils this." if self.of else "Nothing was trained here yet."
            return Card(told, notes=["%mlp_runs without --where shows all."] if self.of else ["%mlp_train MODEL --data DATASET trains."])
        differ = [name for name in self.settings if len({str(row.get(name)) for row in self.rows}) > 1]
        names = [*_ALWAYS, *self.metrics, *differ, "seconds"]
        rows = [[_cell(name, row.get(name)) for name in names] for row in self.rows]
        same = [f"{name}={row}" for name in self.settings if name not in differ and (row := self.rows[0].get(name)) is not None]
        facts = [("the same in all", ", ".join(same))] if same and len(self.rows) > 1 else []
        return Card(f"{len(self.rows)} of {self.of} runs", facts, [Table(names, rows)], self._figures())

    def _figures(self) -> list[Figure]:
        found = {_short(run): points for run, points in self.curves.items() if len(points) > 1}
        if not found or self.drawn is None:
            return []
        from jupyter_mlp.reports import charts

        return [charts.lines(f"{self.drawn} of {len(found)} runs", found, "step", self.drawn)]


def runs(where: str | None = None, *, sort: str | None = None, curve: str | None = None, limit: int = 20) -> Runs:
    """Return training runs beside each other, the newest first.

    Args:
        where: conditions on metrics, settings, model, state, data, seconds: "val_mae < 12 and state = finished".
        sort: a metric (the best first), or another column (the smallest first).
        curve: the metric whose curves are drawn; left out, the one sorted by, else one that most runs have.
        limit: how many are shown.

    Raises:
        InvalidInputError: `where` is no condition. NotFoundError: no run has a value of that name; the nearest is named.

    Example:
        >>> mlp.runs("val_mae < 12", sort="val_mae").rows[0]["run"]
        'run:20261124-101500-1f3c9a2b'
    """
    if limit < 1:
        raise InvalidInputError(f"limit is {limit}.", "Give a number from 1 up.")
    workspace = current()
    asked = conditions.parse(where) if where else []
    told = [_row(workspace, one) for one in workspace.activities.recent(["train"], limit=_MOST)]
    rows = [row for row, _, _ in told]
    metrics = list(dict.fromkeys(name for _, names, _ in told for name in names))
    settings = list(dict.fromkeys(name for _, _, names in told for name in names))
    for name in [*(one.name for one in asked), *([sort] if sort else [])]:
        conditions.known(name, rows, "No run here")
    if curve and rows and curve not in metrics:
        conditions.known(curve, [dict.fromkeys(metrics)], "No run here")
    found = [row for row in rows if all(one.holds(row) for one in asked)]
    if sort:
        found.sort(key=lambda row: _place(row.get(sort), sort in metrics and rises(sort)))
    found = found[:limit]
    shown = [name for name in metrics if any(name in row for row in found)]
    drawn = curve or (sort if sort in shown else _widest(found, shown))
    curves = {row["run"]: _curve(workspace, row["run"], drawn) for row in found[:_DRAWN]} if drawn else {}
    return Runs(tuple(found), tuple(shown), tuple(settings), drawn, curves, len(rows))


def _row(workspace: Workspace, activity: Activity) -> tuple[dict[str, Any], list[str], list[str]]:
    """Return what is told of a run, and which of it are metrics and which settings."""
    settled = jobs.settled(workspace, activity) if activity.state == RUNNING else activity
    ref, told = f"run:{jobs.run_of(settled)}", settled.parameters
    metrics = settled.facts.get("metrics")
    if metrics is None:
        metrics = {name: points[-1][1] for name, points in _series(workspace, ref).items()}
    settings = {**{name: told.get(name) for name in _HOW}, **dict(told.get("trainer") or {}), **dict(told.get("settings") or {})}
    own = (told.get("own") or {}).get("data")
    row = {
        **{name: value for name, value in settings.items() if value is not None},
        **metrics,
        "run": ref,
        "model": settled.name,
        "state": settled.state,
        "data": Ref.parse(told["data"]).short.removeprefix("dataset:") if told.get("data") else own or "its own",
        "started_at": settled.started_at,
        "seconds": settled.seconds,
    }
    return row, list(metrics), list(settings)


def _series(workspace: Workspace, ref: str) -> dict[str, list[tuple[int, float]]]:
    path = workspace.runs / ref.removeprefix("run:")
    return jobs.metric_series(jobs.RunFolder(path)) if path.is_dir() else {}


def _curve(workspace: Workspace, ref: str, metric: str) -> list[tuple[int, float]]:
    return _series(workspace, ref).get(metric, [])


def _place(value: Any, rising: bool) -> tuple[bool, bool, Any]:
    """Order of a value: numbers before texts, what is missing last."""
    if isinstance(value, int | float):
        return False, False, -value if rising else value
    return value is None, True, str(value)


def _widest(rows: list[dict[str, Any]], metrics: list[str]) -> str | None:
    """Return the metric that most rows have; of the validation where there is a choice."""
    return max(metrics, key=lambda name: (sum(name in row for row in rows), name.startswith("val_")), default=None)


def _cell(name: str, value: Any) -> Any:
    return _short(value) if name == "run" else value


def _short(run: str) -> str:
    """The end of a run's id, by which it can be named."""
    return f"run:{run.rpartition('-')[2]}"
