"""Tables whose columns changed, and files left in place, as Spark reads them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import StorageError
from jupyter_mlp.store.workspace import Workspace

NARROW = pa.schema([("k", pa.int32()), ("f", pa.float32()), ("d", pa.decimal128(5, 2)), ("gone", pa.string())])
WIDE = pa.schema([("k", pa.int64()), ("f", pa.float64()), ("d", pa.decimal128(18, 2)), ("new", pa.string())])


def test_spark_reads_what_was_widened_added_and_dropped(workspace: Workspace) -> None:
    rows = {"k": [1], "f": [0.5], "d": [Decimal("1.25")], "gone": ["x"]}
    first = mlp.write_table("t", pa.table(rows, schema=NARROW))
    big = {"k": [2**40], "f": [0.1], "d": [Decimal("123456789.25")], "new": ["y"]}
    mlp.write_table("t", pa.table(big, schema=WIDE), append=True)
    found = mlp.query("SELECT k, f, d, gone, new FROM lake.t ORDER BY k", name="both").to_arrow().to_pydict()
    assert found == {
        "k": [1, 2**40],
        "f": [0.5, 0.1],
        "d": [Decimal("1.25"), Decimal("123456789.25")],
        "gone": ["x", None],
        "new": [None, "y"],
    }
    mlp.write_table("t", pa.table(big, schema=WIDE))
    assert mlp.query("SELECT * FROM lake.t", name="now").schema.names == ["k", "f", "d", "new"]
    version = first.ref.split("@")[1]
    assert mlp.query(f"SELECT * FROM lake.t VERSION AS OF {version}", name="old").to_arrow().to_pydict() == rows


def test_a_file_in_place_is_read_and_its_change_named(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "year=2013" / "a b.parquet"  # the folder's name is no column, when the file itself is named
    path.parent.mkdir()
    pq.write_table(pa.table({"k": [1, 2]}), path)
    mlp.write_table("t", str(path), in_place=True)
    sql = "SELECT sum(k) AS s FROM lake.t"
    first = mlp.query(sql, name="sums")
    assert first.to_pandas()["s"].tolist() == [3] and mlp.query(sql, name="sums").reused
    pq.write_table(pa.table({"k": [5, 5]}), path)
    with pytest.raises(StorageError, match=r"a b\.parquet changed since version"):
        mlp.query(sql, name="sums")  # not even the known answer is given in silence
    mlp.write_table("t", str(path), in_place=True)
    assert mlp.query(sql, name="sums").to_pandas()["s"].tolist() == [10]
    assert mlp.dataset(first.ref).to_pandas()["s"].tolist() == [3]
