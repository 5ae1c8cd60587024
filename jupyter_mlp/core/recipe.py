"""Recipes: how columns become numbers, said once and used in training, in batch and online, so that nothing can drift.

A recipe is plain data. `Recipe.infer` chooses a step for each column, `fit` learns the steps' numbers in one streaming
pass, and `features` / `rows` apply them.

    number    (x - mean) / std, missing -> 0 (the mean)           1 feature
    flag      0 or 1, missing -> 0                                1 feature
    category  one-hot of the most frequent values, others -> all 0
    time      scaled date; sine and cosine of hour and of day of year   5 features
"""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, nearest

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TASKS = ("regression", "binary", "multiclass")
_MOST_VALUES = 64
_MOST_CLASSES = 100
_SAMPLE = 50_000
_BINS = 10
_DAY_S, _YEAR_S = 86_400.0, 31_556_952.0


@dataclass(frozen=True)
class Step:
    """How one column becomes features.

    Attributes:
        kind: number, flag, category or time.
        mean, std: of numbers, and of times in seconds since 1970.
        values: the categories that have a feature of their own.
    """

    column: str
    kind: str
    mean: float = 0.0
    std: float = 1.0
    values: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Names of the features it makes."""
        if self.kind == "category":
            return [f"{self.column}={value}" for value in self.values]
        if self.kind == "time":
            return [f"{self.column}.{part}" for part in ("date", "hour_sin", "hour_cos", "day_sin", "day_cos")]
        return [self.column]


@dataclass(frozen=True)
class Recipe:
    """Steps for the input columns, and what the target is.

    Attributes:
        task: regression, binary or multiclass; None without a target.
        classes: the target's values in the order of the model's outputs, for classification.
        statistics: per column what the training data looked like (counts, quantile bins, frequent values).
    """

    steps: tuple[Step, ...]
    target: str | None = None
    task: str | None = None
    classes: tuple[Any, ...] | None = None
    statistics: Mapping[str, Any] = field(default_factory=dict)
    rows_seen: int = 0

    @classmethod
    def infer(cls, schema: pa.Schema, target: str | None = None, task: str | None = None) -> Recipe:
        """Return an unfitted recipe for a dataset's columns.

        Raises:
            NotFoundError: there is no column `target`; the hint names the nearest.
            InvalidInputError: a column's type cannot become numbers, or the task does not fit.
        """
        if target is not None and target not in schema.names:
            raise NotFoundError(f"The data has no column {target}.", nearest(target, schema.names))
        if task is not None and task not in TASKS:
            raise InvalidInputError(f"{task!r} is no task.", f"Tasks: {', '.join(TASKS)}.")
        steps = tuple(Step(column.name, _kind_of(column)) for column in schema if column.name != target)
        if not steps:
            raise InvalidInputError("There is no column to learn from beside the target.", "Select more columns in the query.")
        return cls(steps, target, task)

    @property
    def columns(self) -> list[str]:
        """Names of the input columns, in order."""
        return [step.column for step in self.steps]

    @property
    def names(self) -> list[str]:
        """Names of the features, in the order of the matrix."""
        return [name for step in self.steps for name in step.names]

    @property
    def width(self) -> int:
        """Number of features."""
        return sum(len(step.names) for step in self.steps)

    def fit(self, batches: Iterable[pa.RecordBatch]) -> Recipe:
        """Return the recipe with its numbers learned from the rows, in one pass; rows without a target do not count.

        Raises:
            InvalidInputError: there is no row with a target, or the target's values do not fit the task.
        """
        fits = {step.column: _Fit(step.kind) for step in self.steps}
        goal = _Fit("target")
        rows = 0
        for batch in batches:
            if self.target is not None:
                batch = batch.filter(batch.column(self.target).is_valid())
                goal.add(batch.column(self.target))
            rows += batch.num_rows
            for column, fit in fits.items():
                fit.add(batch.column(column))
        if rows == 0:
            raise InvalidInputError("There is no row to learn from.", "Check the query: every row lacks the target, or there is none.")
        task, classes = goal.task(self.task) if self.target is not None else (None, None)
        statistics = {column: fit.statistics() for column, fit in fits.items()}
        if self.target is not None:
            statistics[self.target] = goal.statistics()
        steps = tuple(fits[step.column].learned(step) for step in self.steps)
        return replace(self, steps=steps, task=task, classes=classes, statistics=statistics, rows_seen=rows)

    def features(self, columns: Mapping[str, Any]) -> np.ndarray:
        """Return float32 [rows, width] for Arrow columns (arrays or chunked arrays, or a batch's mapping).

        Raises:
            NotFoundError: a column is missing.
        """
        import numpy as np

        missing = [step.column for step in self.steps if step.column not in columns]
        if missing:
            raise NotFoundError(f"The data has no column {missing[0]}.", f"This model reads: {', '.join(self.columns)}.")
        count = len(columns[self.steps[0].column])
        out = np.zeros((count, self.width), dtype=np.float32)
        at = 0
        for step in self.steps:
            width = len(step.names)
            _APPLY[step.kind](step, columns[step.column], out[:, at : at + width])
            at += width
        return out

    def rows(self, instances: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Return float32 [rows, width] for rows as they come over the network, checked field by field.

        Raises:
            InvalidInputError: a field is missing, unknown or of the wrong type; the message names it.
        """
        import pyarrow as pa

        for index, row in enumerate(instances):
            self._check_row(index, row)
        types = {"number": pa.float64(), "flag": pa.bool_(), "category": pa.string(), "time": pa.timestamp("us", "UTC")}
        arrays = {}
        for step in self.steps:
            values = [row[step.column] for row in instances]
            if step.kind == "time":
                values = [_moment(v) for v in values]
            elif step.kind == "number":  # Arrow refuses whole numbers that no float holds exactly
                values = [None if v is None else float(v) for v in values]
            arrays[step.column] = pa.array(values, types[step.kind])
        return self.features(arrays)

    def labels(self, column: Any) -> np.ndarray:
        """Return the target as numbers: float32 for regression and binary (0 or 1), int64 class indices otherwise."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.task == "regression":
            return _numpy(column).astype(np.float32)
        assert self.classes is not None
        values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        codes = pc.index_in(values.cast(pa.string()), pa.array([_text(value) for value in self.classes]))
        numbers = codes.fill_null(-1).to_numpy(zero_copy_only=False)
        return numbers.astype(np.float32) if self.task == "binary" else numbers.astype(np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON types."""
        return {
            "target": self.target,
            "task": self.task,
            "classes": list(self.classes) if self.classes is not None else None,
            "rows_seen": self.rows_seen,
            "steps": [{"column": s.column, "kind": s.kind, "mean": s.mean, "std": s.std, "values": list(s.values)} for s in self.steps],
            "statistics": dict(self.statistics),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Recipe:
        """Read what `to_dict` wrote."""
        steps = tuple(Step(s["column"], s["kind"], s["mean"], s["std"], tuple(s["values"])) for s in value["steps"])
        classes = tuple(value["classes"]) if value["classes"] is not None else None
        return cls(steps, value["target"], value["task"], classes, value["statistics"], value["rows_seen"])

    def _check_row(self, index: int, row: Any) -> None:
        if not isinstance(row, Mapping):
            raise InvalidInputError(f"instances[{index}] is {_said(row)}, not an object.", 'Send {"instances": [{"column": value, ...}]}.')
        for step in self.steps:
            if step.column not in row:
                raise InvalidInputError(f"instances[{index}].{step.column} is missing.", f"Give {_WANTS[step.kind]}, or null.")
            if not _fits(step.kind, row[step.column]):
                raise InvalidInputError(
                    f"instances[{index}].{step.column} is {_said(row[step.column])}, not {_WANTS[step.kind]}.",
                    f"Give {_WANTS[step.kind]}, or null.",
                )
        if len(row) > len(self.steps):
            unknown = next(name for name in row if name not in self.columns)
            raise InvalidInputError(f"instances[{index}].{str(unknown)[:60]} is unknown.", nearest(str(unknown), self.columns))


class _Fit:
    """What is learned of one column while batches stream by."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.count = self.nulls = 0
        self.total = self.squares = self.shift = 0.0
        self.low, self.high = math.inf, -math.inf
        self.sample: list[Any] = []
        self.sampled = 0
        self.values: Counter[str] = Counter()
        self.type: Any = None

    def add(self, column: Any) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        self.type = column.type
        self.nulls += column.null_count
        counted = self.kind in ("category", "flag") or (
            self.kind == "target" and not pa.types.is_floating(column.type) and len(self.values) <= 10_000
        )
        if counted:
            for pair in pc.value_counts(column.drop_null()).to_pylist():
                self.values[_text(pair["values"])] += pair["counts"]
        if self.kind in ("number", "time") or (self.kind == "target" and _is_number(column.type)):
            self._add_numbers(_seconds(column) if self.kind == "time" else _numpy(column))

    def _add_numbers(self, numbers: np.ndarray) -> None:
        import numpy as np

        finite = numbers[np.isfinite(numbers)]
        if not len(finite):
            return
        if self.count == 0:
            self.shift = float(finite[0])  # sums around a first value lose no digits to a large mean
        moved = finite - self.shift
        self.count += len(finite)
        self.total += float(moved.sum())
        self.squares += float((moved * moved).sum())
        self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))
        stride = max(1, len(finite) * 8 // _SAMPLE)
        self.sample.append(finite[::stride])
        self.sampled += len(self.sample[-1])
        if self.sampled > 2 * _SAMPLE:
            thinned = np.concatenate(self.sample)[::2]
            self.sample, self.sampled = [thinned], len(thinned)

    @property
    def mean(self) -> float:
        return self.shift + self.total / self.count if self.count else 0.0

    @property
    def std(self) -> float:
        if self.count < 2:
            return 1.0
        variance = self.squares / self.count - (self.total / self.count) ** 2
        return math.sqrt(variance) if variance > 1e-24 else 1.0

    def learned(self, step: Step) -> Step:
        if self.kind == "category":
            return replace(step, values=tuple(sorted(value for value, _ in self.values.most_common(_MOST_VALUES))))
        return replace(step, mean=self.mean, std=self.std)

    def statistics(self) -> dict[str, Any]:
        import numpy as np

        if self.kind in ("category", "flag") or (self.kind == "target" and not self.count):
            common = self.values.most_common(_MOST_VALUES)
            return {"kind": "category", "nulls": self.nulls, "values": [v for v, _ in common], "counts": [n for _, n in common]}
        if not self.count:
            return {"kind": "number", "nulls": self.nulls, "count": 0, "edges": [], "shares": [1.0]}
        sample = np.concatenate(self.sample)
        edges = np.unique(np.quantile(sample, np.linspace(0, 1, _BINS + 1)[1:-1]))
        shares = np.bincount(np.searchsorted(edges, sample, side="right"), minlength=len(edges) + 1) / len(sample)
        found = {"kind": "number", "nulls": self.nulls, "count": self.count, "mean": self.mean, "std": self.std}
        found |= {"min": self.low, "max": self.high, "median": float(np.median(sample)), "edges": edges.tolist(), "shares": shares.tolist()}
        if self.kind == "target" and self.values:
            found |= {"values": list(self.values), "counts": list(self.values.values())}
        return found

    def task(self, asked: str | None) -> tuple[str, tuple[Any, ...] | None]:
        """Decide the task from the target's values, or check the one that was asked for."""
        number = _is_number(self.type)
        distinct = len(self.values)
        task = asked or ("regression" if number and (not distinct or distinct > 2) else "binary" if distinct <= 2 else "multiclass")
        if task == "regression":
            if not number:
                raise InvalidInputError(
                    f"The target holds {self.type}, which no regression can learn.", "Use --task multiclass, or cast it to a number."
                )
            return task, None
        if not distinct or distinct > _MOST_CLASSES:
            raise InvalidInputError(
                f"The target has too many values for {task} (over {_MOST_CLASSES}, or not whole).",
                "Use --task regression, or a target with fewer values.",
            )
        if task == "binary" and distinct > 2:
            raise InvalidInputError(f"The target has {distinct} values; binary takes 2.", "Use --task multiclass.")
        values: list[Any] = [int(value) for value in self.values] if number else list(self.values)
        return task, tuple(sorted(values))


def _kind_of(column: pa.Field) -> str:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_boolean(kind):
        return "flag"
    if _is_number(kind):
        return "number"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "category"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "time"
    raise InvalidInputError(
        f"The column {column.name} holds {kind}, which cannot become numbers.", f"Leave {column.name} out of the query, or cast it."
    )


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _apply_number(step: Step, column: Any, out: np.ndarray) -> None:
    import numpy as np

    scaled = (_numpy(column) - step.mean) / step.std
    out[:, 0] = np.where(np.isfinite(scaled), scaled, 0.0)


def _apply_flag(step: Step, column: Any, out: np.ndarray) -> None:
    import pyarrow as pa

    out[:, 0] = _numpy(column.cast(pa.uint8()).fill_null(0))


def _apply_category(step: Step, column: Any, out: np.ndarray) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if not step.values:
        return
    values = column.combine_chunks() if _chunked(column) else column
    codes = pc.index_in(values.cast(pa.string()), pa.array(step.values)).fill_null(-1).to_numpy(zero_copy_only=False)
    known = np.flatnonzero(codes >= 0)
    out[known, codes[known]] = 1.0


def _apply_time(step: Step, column: Any, out: np.ndarray) -> None:
    import numpy as np

    seconds = _seconds(column)
    known = np.isfinite(seconds)
    day = seconds % _DAY_S / _DAY_S * 2 * np.pi
    year = seconds % _YEAR_S / _YEAR_S * 2 * np.pi
    for index, part in enumerate(((seconds - step.mean) / step.std, np.sin(day), np.cos(day), np.sin(year), np.cos(year))):
        out[:, index] = np.where(known, part, 0.0)


def _numpy(column: Any) -> np.ndarray:
    """The column as float64, nulls as NaN."""
    import numpy as np
    import pyarrow as pa

    if pa.types.is_decimal(column.type) or column.null_count:
        column = column.cast(pa.float64(), safe=False)
    found = column.to_numpy() if _chunked(column) else column.to_numpy(zero_copy_only=False)
    return np.asarray(found, dtype=np.float64)


def _seconds(column: Any) -> np.ndarray:
    """Moments as seconds since 1970, nulls as NaN."""
    import numpy as np
    import pyarrow as pa

    zone = getattr(column.type, "tz", None)
    whole = column.cast(pa.timestamp("us", zone)).cast(pa.int64())
    numbers = _numpy(whole)
    return np.asarray(numbers / 1e6)


def _chunked(column: Any) -> bool:
    import pyarrow as pa

    return isinstance(column, pa.ChunkedArray)


def _moment(value: Any) -> datetime.datetime | None:
    if value is None:
        return None
    moment = datetime.datetime.fromisoformat(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def _fits(kind: str, value: Any) -> bool:
    if value is None:
        return True
    if kind == "number":
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
        )  # false for NaN; true integers may be longer than a float
    if kind == "flag":
        return isinstance(value, bool)
    if kind == "time":
        try:
            return isinstance(value, str) and _moment(value) is not None
        except ValueError:
            return False
    return isinstance(value, str)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _said(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object", type(None): "null"}
    shown = repr(value)
    return (
        f"{names.get(type(value), type(value).__name__)} ({shown[:40]})" if len(shown) <= 40 else names.get(type(value), "something else")
    )


_WANTS = {"number": "a finite number", "flag": "true or false", "category": "text", "time": "a time like 2013-01-31T08:00:00"}
_APPLY = {"number": _apply_number, "flag": _apply_flag, "category": _apply_category, "time": _apply_time}
