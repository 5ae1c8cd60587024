"""A table's columns over its versions: what may change, what is refused, and what an old version still says."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.store.workspace import Workspace


def scanned(workspace: Workspace, ref: str) -> dict[str, list[Any]]:
    """The rows of a version as pyiceberg's own reader finds them: columns by field id and name mapping, types promoted."""
    table = workspace.lake.catalog.load_table("lake.t")
    return table.scan(snapshot_id=int(ref.split("@")[1])).to_arrow().sort_by("k").to_pydict()


def write(append: bool = False, **columns: Any) -> str:
    return mlp.write_table("lake.t", pa.table(columns), append=append).ref


def test_new_columns_and_columns_left_out(workspace: Workspace) -> None:
    first = write(k=[1, 2], a=["x", "y"])
    second = write(append=True, k=[3], b=[True])
    third = write(k=[9], b=[False])
    assert scanned(workspace, first) == {"k": [1, 2], "a": ["x", "y"]}
    assert scanned(workspace, second) == {"k": [1, 2, 3], "a": ["x", "y", None], "b": [None, None, True]}
    assert scanned(workspace, third) == {"k": [9], "b": [False]}
    assert workspace.lake.schema("lake.t", first.split("@")[1]).names == ["k", "a"]


@pytest.mark.parametrize(
    ("narrow", "wide", "value"),
    [
        (pa.int32(), pa.int64(), 2**40),
        (pa.float32(), pa.float64(), 0.1),
        (pa.decimal128(5, 2), pa.decimal128(18, 2), Decimal("123456789.25")),
    ],
)
def test_types_widen_and_the_narrower_fits_in(workspace: Workspace, narrow: pa.DataType, wide: pa.DataType, value: Any) -> None:
    first = write(k=[1], v=pa.array([None], narrow))
    second = write(append=True, k=[2], v=pa.array([value], wide))
    third = write(append=True, k=[3], v=pa.array([None], narrow))
    assert workspace.lake.schema("lake.t", first.split("@")[1]).field("v").type == narrow
    assert scanned(workspace, second) == {"k": [1, 2], "v": [None, value]}
    assert scanned(workspace, third) == {"k": [1, 2, 3], "v": [None, value, None]}
    assert workspace.lake.schema("lake.t", third.split("@")[1]).field("v").type == wide


def test_fields_of_a_struct_too(workspace: Workspace) -> None:
    write(k=[1], s=pa.array([{"a": 1}], pa.struct([("a", pa.int32())])))
    second = write(append=True, k=[2], s=pa.array([{"a": 2**40, "b": "x"}], pa.struct([("a", pa.int64()), ("b", pa.string())])))
    assert scanned(workspace, second)["s"] == [{"a": 1, "b": None}, {"a": 2**40, "b": "x"}]


@pytest.mark.parametrize("append", [True, False])
@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        (pa.array([1]), pa.array(["x"]), "The column v is int64 in the table and string in these rows."),
        (pa.array([1.5]), pa.array([1]), "The column v is double in the table and int64 in these rows."),
        (pa.array([{"a": 1}]), pa.array([{"a": "x"}]), "The column v.a is int64 in the table and string in these rows."),
        (pa.array([[1]]), pa.array([["x"]]), "The column v.element is int64 in the table and string in these rows."),
    ],
)
def test_types_that_do_not_fit_are_named(workspace: Workspace, was: pa.Array, now: pa.Array, said: str, append: bool) -> None:
    first = write(k=[1], v=was)
    with pytest.raises(InvalidInputError, match=re.escape(said)) as error:
        write(append=append, k=[2], v=now)
    assert "another table name" in error.value.hint
    assert f"table:lake.t@{workspace.lake.current('lake.t')}" == first
    assert len(list((workspace.root / "lake" / "lake" / "t" / "data").iterdir())) == 1  # nothing is left of what was refused


def test_no_rows_are_a_version_too(workspace: Workspace) -> None:
    write(k=[1])
    empty = mlp.write_table("lake.t", pa.table({"k": pa.array([], pa.int64())}))
    assert empty.rows == 0 and scanned(workspace, empty.ref) == {"k": []}
    assert scanned(workspace, write(append=True, k=[7])) == {"k": [7]}
