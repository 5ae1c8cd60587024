"""The identity of rows: by content, not by order, files or encoding."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jupyter_mlp.store import content


def rows(count: int = 500) -> pa.Table:
    random = np.random.default_rng(1)
    day = datetime.date(2013, 1, 1)
    return pa.table(
        {
            "whole": random.integers(-5, 5, count),
            "real": [None if i % 7 == 0 else float(i) / 3 for i in range(count)],
            "text": [None if i % 11 == 0 else f"t{i % 20}" for i in range(count)],
            "flag": pa.array([i % 3 == 0 for i in range(count)]),
            "day": [day + datetime.timedelta(days=i % 9) for i in range(count)],
            "moment": pa.array([i * 1_000_003 for i in range(count)], pa.timestamp("us", "UTC")),
            "price": pa.array([Decimal(i) / 100 for i in range(count)], pa.decimal128(9, 2)),
            "list": [[i % 4, None] for i in range(count)],
        }
    )


def identity(folder: Path, *tables: pa.Table) -> str:
    paths = []
    for number, table in enumerate(tables):
        paths.append(str(folder / f"{number}.parquet"))
        pq.write_table(table, paths[-1], row_group_size=64)
    return content.of_files(paths)


def test_order_and_files_do_not_matter(tmp_path: Path) -> None:
    table = rows()
    shuffled = table.take(np.random.default_rng(2).permutation(len(table)))
    assert identity(tmp_path, table) == identity(tmp_path, shuffled) == identity(tmp_path, table.slice(300), table.slice(0, 300))


@pytest.mark.parametrize("name", rows(1).schema.names)
def test_any_changed_cell_is_another_identity(tmp_path: Path, name: str) -> None:
    table = rows()
    values = table.column(name).to_pylist()
    assert values[123] != values[1]
    values[123] = values[1]
    changed = table.set_column(table.schema.names.index(name), name, pa.array(values, table.schema.field(name).type))
    assert identity(tmp_path, table) != identity(tmp_path, changed)


def test_cells_that_change_places_are_another_identity(tmp_path: Path) -> None:
    assert identity(tmp_path, pa.table({"a": [1, 2], "b": [3, 4]})) != identity(tmp_path, pa.table({"a": [1, 2], "b": [4, 3]}))
    assert identity(tmp_path, pa.table({"a": [1, 2], "b": [3, 4]})) != identity(tmp_path, pa.table({"a": [3, 4], "b": [1, 2]}))


def test_equal_numbers_are_equal(tmp_path: Path) -> None:
    assert identity(tmp_path, pa.table({"a": [0.0, float("nan")]})) == identity(tmp_path, pa.table({"a": [-0.0, -float("nan")]}))
    assert identity(tmp_path, pa.table({"a": [0.0, None]})) != identity(tmp_path, pa.table({"a": [0.0, 0.0]}))
    assert identity(tmp_path, pa.table({"a": pa.array([], pa.int64())})).startswith("rows:0:")
