"""Recipes on Spark: the executors measure what a recipe learns from, and apply it to whole tables.

    pass 1    one aggregate over all columns: counts, moments, smallest, largest
    pass 2    one count over all columns: how often each key occurs, how many numbers fall into each cell

Each reads the files once, and only the columns it needs; only counts come back. What is measured is defined in
`core.statistics`, what a recipe does to a batch in `core.steps`: the same code that trains and serves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from jupyter_mlp.core.recipe import Recipe
from jupyter_mlp.core.statistics import NOTHING, SPLIT, SPLIT_TIMES, Facts, Moments, Need
from jupyter_mlp.core.values import LARGEST

_MOMENTS = ("count", "avg", "var_pop", "min", "max")


def measure(frame: Any, needs: Sequence[Need], target: Need | None = None) -> tuple[dict[str, Facts], int]:
    """Return the facts of every column that is needed, and how many passes over the rows that took.

    Args:
        target: rows without a value in this column do not count.
    """
    if target is not None:
        value = _number(target) if target.numbers else _name(target.column)
        frame = frame.where(f"{value} IS NOT NULL")
    read = frame.selectExpr(*_read(needs))  # every column in one form, so that no later expression says it again
    moments = read.selectExpr(*_aggregates(needs)).toArrow().to_pylist()[0]
    counted = {need.column: _Counted() for need in needs}
    parts = [need for need in needs if need.most or need.numbers]
    if parts:
        _count(read, needs, counted)
    return {need.column: _facts(place, need, moments, counted[need.column]) for place, need in enumerate(needs)}, 1 + bool(parts)


def apply(frame: Any, recipe: Recipe, keep: Sequence[str] = ()) -> Any:
    """Return a frame of the recipe's features, and its target as a number where it has one.

    Columns: those to `keep`, `features` (an array of float, in the order of `recipe.names`), `label`.
    Rows whose target is missing or of no known class keep their features; their label is NULL.
    """
    from pyspark.sql.types import ArrayType, DoubleType, FloatType, StructField, StructType

    labels = recipe.target in frame.columns
    read = list(dict.fromkeys([*keep, *recipe.columns, *([str(recipe.target)] if labels else [])]))
    kept = [StructField(name, frame.schema[name].dataType) for name in keep]
    made = [StructField("features", ArrayType(FloatType())), *([StructField("label", DoubleType())] if labels else [])]
    work = partial(_batches, recipe.to_dict(), tuple(keep), labels)
    return frame.select(*map(_name, read)).mapInArrow(work, StructType([*kept, *made]))


def _batches(recipe: Mapping[str, Any], keep: Sequence[str], labels: bool, batches: Iterable[Any]) -> Iterator[Any]:
    """Runs on the executors."""
    import numpy as np
    import pyarrow as pa

    learned = Recipe.from_dict(recipe)
    for batch in batches:
        found = learned.features({name: batch.column(name) for name in learned.columns})
        ends = np.arange(len(found) + 1, dtype=np.int32) * learned.width
        columns = {name: batch.column(name) for name in keep}
        columns["features"] = pa.ListArray.from_arrays(ends, pa.array(found.ravel()))
        if labels:
            label = np.asarray(learned.labels(batch.column(learned.target)), dtype=np.float64)
            unknown = ~np.isfinite(label) if learned.task == "regression" else label < 0
            columns["label"] = pa.array(label, mask=unknown)
        yield pa.RecordBatch.from_pydict(columns)


def _read(needs: Sequence[Need]) -> Iterator[str]:
    """Of column i: its number x<i>, the log of it l<i>, its key v<i>, or only whether it is there."""
    for place, need in enumerate(needs):
        if need.numbers:
            yield f"{_number(need)} AS x{place}"
        if need.log:
            yield f"{_log(_number(need))} AS l{place}"
        if need.most:
            yield f"CAST({_name(need.column)} AS STRING) AS v{place}"
        elif not need.numbers:
            yield f"CAST(isnotnull({_name(need.column)}) AS INT) AS there{place}"


def _aggregates(needs: Sequence[Need]) -> Iterator[str]:
    yield "count(*) AS n"
    for place, need in enumerate(needs):
        if need.numbers:
            for one in (f"x{place}", *([f"l{place}"] if need.log else [])):
                yield from (f"{name}({one}) AS {one}_{name}" for name in _MOMENTS)
        else:
            yield f"count(v{place}) AS known{place}" if need.most else f"coalesce(sum(there{place}), 0) AS known{place}"


class _Counted:
    """What the second pass found of one column."""

    def __init__(self) -> None:
        self.values: list[tuple[str, int]] = []
        self.cells: list[tuple[float, int]] = []
        self.distinct = 0


def _count(frame: Any, needs: Sequence[Need], counted: Mapping[str, _Counted]) -> None:
    found = _ranked(frame, needs).toArrow()
    columns = (found.column(name).to_pylist() for name in ("k", "v", "least", "n", "many"))
    for place, value, least, count, many in zip(*columns, strict=True):
        need = needs[place // 2]
        one = counted[need.column]
        if place % 2:
            one.cells.append((least, count))
        else:
            one.values.append((value, count))
            one.distinct = many


def _ranked(read: Any, needs: Sequence[Need]) -> Any:
    """Every row once, unfolded to one row per column: key or cell. Even places are keys, odd ones cells."""
    from pyspark.sql.connect.functions import expr

    parts = [part for place, need in enumerate(needs) for part in _parts(place, need)]
    times = [str(2 * place + 1) for place, need in enumerate(needs) if need.split == SPLIT_TIMES]
    split = f"CASE WHEN k IN ({', '.join(times)}) THEN {SPLIT_TIMES!r}D ELSE {SPLIT!r}D END" if times else f"{SPLIT!r}D"
    unfolded = read.selectExpr(f"stack({len(parts)}, {', '.join(parts)}) AS (k, v, x)").where("v IS NOT NULL OR x IS NOT NULL")
    moved = unfolded.selectExpr("k", "v", "x", f"x * {split} AS moved")
    cells = moved.selectExpr("k", "v", "x", "moved - (moved - x) AS cell")
    counts = cells.groupBy("k", "v", "cell").agg(expr("count(*) AS n"), expr("min(x) AS least"))
    most = " ".join(f"WHEN {2 * place} THEN {need.most}" for place, need in enumerate(needs) if need.most)
    ranked = counts.selectExpr(
        "*", "row_number() OVER (PARTITION BY k ORDER BY n DESC, v) AS place", "count(*) OVER (PARTITION BY k) AS many"
    )
    kept = ranked.where(f"v IS NULL OR place <= CASE k {most} END") if most else ranked
    return kept.select("k", "v", "least", "n", "many")


def _parts(place: int, need: Need) -> Iterator[str]:
    if need.most:
        yield f"{2 * place}, v{place}, CAST(NULL AS DOUBLE)"
    if need.numbers:
        yield f"{2 * place + 1}, CAST(NULL AS STRING), x{place}"


def _facts(place: int, need: Need, moments: Mapping[str, Any], counted: _Counted) -> Facts:
    import numpy as np

    rows = moments["n"]
    values = tuple(sorted(counted.values, key=lambda pair: (-pair[1], pair[0])))
    if not need.numbers:
        return Facts(rows, rows - moments[f"known{place}"], values=values, distinct=counted.distinct)
    cells = np.array(sorted(counted.cells), dtype=np.float64).reshape(-1, 2)
    found = _moments(moments, f"x{place}")
    logged = _moments(moments, f"l{place}") if need.log else NOTHING
    return Facts(rows, rows - found.count, found, logged, cells[:, 0], cells[:, 1].astype(np.int64), values, counted.distinct)


def _moments(found: Mapping[str, Any], prefix: str) -> Moments:
    count, mean, variance, low, high = (found[f"{prefix}_{name}"] for name in _MOMENTS)
    return Moments(count, mean, variance, low, high) if count else NOTHING


def _number(need: Need) -> str:
    """The column as a finite double or NULL, as `core.values.numbers` reads it."""
    name = _name(need.column)
    if need.kind == "instant":
        return f"(unix_micros({name}) / 1000000D)"
    if need.kind == "time":  # a difference of times without a zone depends on none
        return f"CAST(CAST(CAST({name} - TIMESTAMP_NTZ '1970-01-01 00:00:00' AS INTERVAL SECOND) AS DECIMAL(30, 6)) AS DOUBLE)"
    if need.kind == "date":
        return f"(unix_date({name}) * 86400D)"
    double = f"CAST({name} AS DOUBLE)"
    return f"CASE WHEN abs({double}) <= {LARGEST!r}D THEN {double} END" if need.kind == "number" else double


def _log(number: str) -> str:
    return f"signum({number}) * log1p(abs({number}))"


def _name(column: str) -> str:
    return "`" + column.replace("`", "``") + "`"
