"""How much memory the rows of Parquet files take once they are read, without reading them all.

Footers tell sizes as encoded. A text that repeats is one entry of a dictionary there and stands in every row in memory, so
texts and nested values are looked at in a few places. A column's exact size lies between two bounds that footers do tell:

    encoded bytes  <=  bytes in memory  <=  values x encoded bytes      (no value is longer than all that is encoded)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

_PLACES = 5  # row groups that are looked at, spread over all files
_ROWS = 4096  # rows that are looked at in each
_VALID = 1 / 8  # a bit a row says whether there is a value, where one is missing


class _Group(NamedTuple):
    """One row group: its file, its place there, its rows, and column -> (values, encoded bytes)."""

    path: str
    at: int
    rows: int
    chunks: dict[str, tuple[int, int]]


def needed(files: Sequence[str], columns: Sequence[str] | None, plenty: float) -> float:
    """Return about how many bytes these columns take as Arrow; an upper bound where that is at most `plenty` anyhow."""
    import pyarrow.parquet as pq

    groups = [group for path in files for group in _groups(path)]
    if not groups:
        return 0
    schema = pq.read_schema(groups[0].path)
    names = [name for name in schema.names if columns is None or name in columns]
    widths = {name: width for name in names if (width := _width(schema.field(name).type)) is not None}
    most = sum(_of_width(widths[name] + _VALID, groups) if name in widths else _most(name, groups) for name in names)
    if most <= plenty:
        return most
    varying = [name for name in names if name not in widths]
    seen = _seen(groups, varying)
    return sum(_of_width(width, groups) for width in widths.values()) + sum(max(seen[name], _least(name, groups)) for name in varying)


def _groups(path: str) -> list[_Group]:
    import pyarrow.parquet as pq

    meta = pq.read_metadata(path)
    names = meta.schema.to_arrow_schema().names
    found = []
    for at in range(meta.num_row_groups):
        group = meta.row_group(at)
        chunks: dict[str, tuple[int, int]] = {}
        for chunk in map(group.column, range(group.num_columns)):
            name = _top(chunk.path_in_schema, names)
            values, size = chunks.get(name, (0, 0))
            chunks[name] = values + chunk.num_values, size + chunk.total_uncompressed_size
        found.append(_Group(path, at, group.num_rows, chunks))
    return found


def _top(path: str, names: Sequence[str]) -> str:
    """The column that a leaf lies in; a column's name may hold a point itself."""
    return path if "." not in path else max((name for name in names if path == name or path.startswith(name + ".")), key=len, default=path)


def _width(kind: pa.DataType) -> float | None:
    """Bytes of one value; None where values differ in that."""
    try:
        return float(kind.bit_width) / 8
    except ValueError:
        return None


def _of_width(width: float, groups: Sequence[_Group]) -> float:
    return width * sum(group.rows for group in groups)


def _least(name: str, groups: Sequence[_Group]) -> float:
    return sum(group.chunks[name][1] for group in groups if name in group.chunks)


def _most(name: str, groups: Sequence[_Group]) -> float:
    return sum((values + 1) * (size + 16) for group in groups if name in group.chunks for values, size in [group.chunks[name]])


def _seen(groups: Sequence[_Group], names: list[str]) -> dict[str, float]:
    """About how many bytes these columns take, judged by the first rows of some row groups."""
    import pyarrow.parquet as pq

    sizes: dict[str, float] = dict.fromkeys(names, 0.0)
    rows = 0
    full = [group for group in groups if group.rows]
    for group in full[:: max(1, len(full) // _PLACES)]:
        file = pq.ParquetFile(group.path)
        kept = [name for name in names if name in file.schema_arrow.names]
        for batch in islice(file.iter_batches(batch_size=_ROWS, row_groups=[group.at], columns=kept), 1):
            rows += batch.num_rows
            for name in kept:
                sizes[name] += batch.column(name).nbytes
    total = sum(group.rows for group in groups)
    return {name: size * total / max(rows, 1) for name, size in sizes.items()}
