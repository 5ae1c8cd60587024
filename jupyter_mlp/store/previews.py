"""What is shown of a dataset without reading it again: first rows, types, null counts and ranges, made once when it is written.

Null counts and ranges come from the Parquet footers, so that they cost nothing however large the dataset is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.cards import Table, shown

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 8
_CELL = 160  # characters kept of one value


def make(files: Sequence[str], schema: pa.Schema, rows: int) -> dict[str, Any]:
    """Return the preview of some Parquet files as JSON types: `columns` (name, type, nulls, low, high) and `first` rows."""
    first = first_rows(files, schema)
    columns = [{"name": f.name, "type": str(f.type), **_profile(files, f.name)} for f in schema]
    cells = [[_cell(value) for value in row] for row in zip(*map(_values, first.columns), strict=True)]
    return {"rows": rows, "columns": columns, "first": cells or []}


def table(preview: Mapping[str, Any]) -> Table:
    """Return the preview as the table that a card shows."""
    headings = [f"{c['name']}\t{_about(c, preview['rows'])}" for c in preview["columns"]]
    count = len(preview["first"])
    caption = f"first {count} of {preview['rows']:,} rows" if count < preview["rows"] else ""
    return Table(headings, preview["first"], caption)


def first_rows(files: Sequence[str], schema: pa.Schema, count: int = ROWS) -> pa.Table:
    """Return the first rows of some Parquet files; an older file may lack columns that the table has now, or have more."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    taken = [schema.empty_table()]
    for path in files:
        if sum(len(one) for one in taken) >= count:
            break
        file = pq.ParquetFile(path)
        columns = [name for name in schema.names if name in file.schema_arrow.names]
        taken += [pa.Table.from_batches([batch]) for batch in islice(file.iter_batches(batch_size=count, columns=columns), 1)]
    return pa.concat_tables(taken, promote_options="permissive").select(schema.names).slice(0, count)


def sorted_rows(batches: Iterable[pa.RecordBatch], schema: pa.Schema, column: str, order: str, count: int) -> pa.Table:
    """Return the `count` rows that come first by a column; memory stays flat. `order` is ascending or descending."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kept = schema.empty_table()
    for batch in batches:
        both = pa.concat_tables([kept, pa.Table.from_batches([batch])])
        kept = both.take(pc.sort_indices(both, sort_keys=[(column, order)])[:count])
    return kept


def as_table(rows: pa.Table) -> Table:
    """Return rows as the table that a card shows, types in the header."""
    cells = [[_cell(value) for value in row] for row in zip(*map(_values, rows.columns), strict=True)]
    return Table([f"{f.name}\t{_type_name(str(f.type))}" for f in rows.schema], cells)


def _profile(files: Sequence[str], name: str) -> dict[str, Any]:
    """Null count and range of a plain column, where every file's footer tells them."""
    import pyarrow.parquet as pq

    nulls, lows, highs = 0, [], []
    for path in files:
        meta = pq.read_metadata(path)
        at = next((i for i in range(meta.num_columns) if meta.schema.column(i).path == name), None)
        if at is None:
            return {}
        for group in range(meta.num_row_groups):
            found = meta.row_group(group).column(at).statistics
            if found is None or not found.has_null_count:
                return {}
            nulls += found.null_count
            try:
                if found.has_min_max:
                    lows.append(found.min)
                    highs.append(found.max)
            except OverflowError:  # the year 99999 is no date of Python's
                return {"nulls": nulls}
    try:
        return {"nulls": nulls, **({"low": _cell(min(lows)), "high": _cell(max(highs))} if lows else {})}
    except TypeError:
        return {"nulls": nulls}


def _values(column: pa.ChunkedArray) -> list[Any]:
    """The values as Python has them, or as text where it has none for them, like the year 99999."""
    import numpy as np
    import pyarrow as pa

    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError):
        if not (pa.types.is_date(column.type) or pa.types.is_timestamp(column.type)):
            return ["..."] * len(column)
        # By numpy: what Arrow writes for years past 32767 is another year.
        zone = "+00:00" if getattr(column.type, "tz", None) else ""
        return [None if np.isnat(value) else str(value).replace("T", " ") + zone for value in column.to_numpy()]


def _about(column: Mapping[str, Any], rows: int) -> str:
    said = [_type_name(column["type"])]
    if column.get("nulls"):
        said.append(f"{column['nulls']:,} null" if column["nulls"] < rows else "all null")
    return ", ".join(said)


def profile(preview: Mapping[str, Any]) -> Table:
    """Return one line a column: type, nulls, lowest and highest value."""
    rows = [(c["name"], _type_name(c["type"]), c.get("nulls"), c.get("low"), c.get("high")) for c in preview["columns"]]
    return Table(["column", "type", "nulls", "lowest", "highest"], rows)


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    text = shown(value) if not isinstance(value, bytes) else value.hex()
    return text if len(text) <= _CELL else text[: _CELL - 3] + "..."


def _type_name(kind: str) -> str:
    short = {"string": "text", "large_string": "text", "double": "float64", "float": "float32"}
    return short.get(kind, kind)
