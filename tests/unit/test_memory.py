"""How much memory rows take is known before they are read."""

from __future__ import annotations

import decimal
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.store import datasets, memory
from jupyter_mlp.store.workspace import Workspace

ROWS = 200_000
LONG = "a text that is the same in every row, and long enough to matter " * 2
NUMBERS = np.random.default_rng(0)

COLUMNS: dict[str, Any] = {
    "repeated": pa.array([LONG] * ROWS),
    "few": pa.array([f"{LONG}{at % 7}" for at in range(ROWS)]),
    "different": pa.array([f"{at * 7919 % 1000003:x}" * (1 + at % 5) for at in range(ROWS)]),
    "sorted": pa.array(["x" * (1 + at // 5000) for at in range(ROWS)]),
    "sparse": pa.array([LONG if at % 10 == 0 else None for at in range(ROWS)]),
    "whole": pa.array(np.arange(ROWS)),
    "same": pa.array(np.zeros(ROWS)),
    "flags": pa.array(np.arange(ROWS) % 2 == 0),
    "money": pa.array([decimal.Decimal("1.25")] * ROWS, pa.decimal128(10, 2)),
    "lists": pa.array([[1.5] * (at % 9) for at in range(ROWS)]),
    "a.b": pa.array([{"t": LONG, "n": at} for at in range(ROWS)]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_it_is_within_a_factor_of_two_of_what_arrow_takes(tmp_path: Path, name: str) -> None:
    table = pa.table({name: COLUMNS[name]})
    paths = []
    for part in range(2):
        paths.append(str(tmp_path / f"{part}.parquet"))
        pq.write_table(table.slice(part * ROWS // 2, ROWS // 2), paths[-1], compression="zstd", row_group_size=20_000)
    taken = sum(pq.read_table(path).nbytes for path in paths)
    assert 0.5 < memory.needed(paths, None, 0) / taken < 2


def test_what_surely_fits_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "small.parquet")
    pq.write_table(pa.table({"t": [LONG] * 1000, "n": range(1000)}), path)
    monkeypatch.delattr(memory, "_seen")
    assert pq.read_table(path).nbytes <= memory.needed([path], None, 1e9) <= 1e9


def test_only_the_columns_that_are_taken_count(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    with workspace.activities.recording("query", name="texts") as draft:
        ref = datasets.publish_table(workspace, draft, "texts", pa.table({"t": COLUMNS["repeated"], "n": COLUMNS["whole"]}))
    found = mlp.dataset(str(ref))
    free = psutil.virtual_memory()._replace(available=ROWS * 40)  # more than all is encoded, less than all in memory
    assert found.bytes < free.available
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    for take in (found.to_arrow, found.to_pandas):
        with pytest.raises(InvalidInputError, match=r"needs about 2.* MB in memory; 8\.0 MB are free") as error:
            take()
        assert "to_arrow(['a', 'b'])" in error.value.hint
        assert len(take(["n"])) == ROWS
        with pytest.raises(InvalidInputError):
            take(["t"])
