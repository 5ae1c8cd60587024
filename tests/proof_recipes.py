"""Fitting a recipe on ten million rows: how often Spark reads them, what comes back, and whether the numbers are right.

scans     nodes of the executed plans that read files, and the rows they gave, as Spark counted them
numbers   against numpy, column by column: moments, frequent values; quantiles within a thousandth
memory    of this process: nothing but counts may come back

python tests/proof_recipes.py [--rows 10000000]      prints the figures; 1 when a pass is more than one scan
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

TEXT = """
delay: impute median | scale
distance: log | bucket 10
hour: cyclic 24
dep: time
night: default
carrier: one-hot 20
dest: vocabulary 100 | embedding
arr: target
"""
_CHUNK = 1_000_000


def rows_of(count: int, seed: int) -> pa.Table:
    """A part of the data: numbers with gaps, times, few and many categories."""
    random = np.random.default_rng(seed)
    delay = random.normal(8, 40, count)
    delay[random.random(count) < 0.02] = np.nan
    dest = np.minimum(random.zipf(1.3, count), 5000)
    return pa.table(
        {
            "delay": delay,
            "distance": random.lognormal(6, 1, count),
            "hour": random.integers(0, 24, count),
            "dep": pa.array(1_356_998_400_000_000 + random.integers(0, 31_536_000, count) * 1_000_000).cast(pa.timestamp("us", "UTC")),
            "night": random.random(count) < 0.3,
            "carrier": pa.array([f"C{n}" for n in range(16)]).take(pa.array(random.integers(0, 16, count))),
            "dest": pa.array([f"D{n}" for n in range(5001)]).take(pa.array(dest)),
            "unread": random.random(count),
            "arr": random.normal(0, 1, count),
        }
    )


@contextmanager
def counted_scans() -> Iterator[list[tuple[int, int]]]:
    """Yield a list that gets (scans, rows read) of every answer that Spark gives to this process."""
    from pyspark.sql.connect.dataframe import DataFrame

    found: list[tuple[int, int]] = []
    answer = DataFrame.toArrow

    def counting(self: Any) -> Any:
        table = answer(self)
        read = re.findall(r"Scan parquet \(numOutputRows: (\d+)", self.executionInfo.metrics.toText())
        found.append((len(read), sum(map(int, read))))
        return table

    DataFrame.toArrow = counting
    try:
        yield found
    finally:
        DataFrame.toArrow = answer


def main() -> int:
    """Print the figures; return 1 where one is not what was promised."""
    parser = argparse.ArgumentParser(description="Fitting a recipe on many rows.")
    parser.add_argument("--rows", type=int, default=10_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLP_WORKSPACE"] = folder
        return _proved(rows)


def _proved(rows: int) -> int:
    import jupyter_mlp as mlp
    from jupyter_mlp.store import datasets, recipes
    from jupyter_mlp.store.workspace import current

    workspace = current()
    recipes.HERE_ROWS = 0  # Spark, however few they are

    def write(folder: Path) -> list[str]:
        folder.mkdir(parents=True)
        how = {"compression": "zstd", "row_group_size": 262_144}
        for at in range(0, rows, _CHUNK):
            pq.write_table(rows_of(min(_CHUNK, rows - at), at), folder / f"part-{at:09}.parquet", **how)
        return []

    with workspace.activities.recording("query", name="many") as draft:
        datasets.publish(workspace, draft, "many", write)
    data = datasets.load(workspace, "many")
    _ = workspace.engine.session
    begun = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with counted_scans() as scans:
        found = mlp.recipe("proof", TEXT, data="many")
    took, grown = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    again = mlp.recipe("proof", TEXT, data="many")
    done = f"{found.passes} passes, {len(scans)} Spark queries, {took:.1f} s, +{grown / 1024:,.0f} MB here"
    print(f"{rows:,} rows, {data.bytes / 1e6:,.0f} MB: {done}")
    print(f"  scans and rows read of each query: {', '.join(f'{count} scan of {read:,} rows' for count, read in scans)}")
    print(f"  fitted again: {'known, nothing ran' if again.reused else 'NOT REUSED'}, {again.seconds * 1000:.1f} ms")
    wrong = list(_differences(found.fitted, data))
    print("\n".join(f"  WRONG: {one}" for one in wrong) or "  moments, frequent values and quantiles are those of numpy")
    return int(bool(wrong) or scans != [(1, rows), (1, rows)] or not again.reused or found.engine != "spark")


def _differences(fitted: Any, data: Any) -> Iterator[str]:
    for name in ("delay", "distance", "arr"):
        values = np.concatenate([batch.column(0).to_numpy(zero_copy_only=False) for batch in data.batches([name])])
        values = values[np.isfinite(values)]
        told = fitted.statistics[name]
        exact = {"mean": values.mean(), "std": values.std(), "min": values.min(), "max": values.max(), "count": len(values)}
        for key, value in exact.items():
            if not np.isclose(told[key], value, rtol=1e-9, atol=1e-9):
                yield f"{name} {key}: {told[key]} is not {value}"
        ranks = np.searchsorted(np.sort(values), told["edges"]) / len(values)
        yield from (f"{name} quantile {at / 10}: rank {rank}" for at, rank in enumerate(ranks, 1) if abs(rank - at / 10) > 1e-3)
    for name in ("carrier", "dest"):
        counts = pa.chunked_array([batch.column(0) for batch in data.batches([name])]).value_counts().to_pylist()
        ordered = sorted(((one["values"], one["counts"]) for one in counts), key=lambda pair: (-pair[1], pair[0]))[:100]
        told = fitted.statistics[name]
        if list(zip(told["values"], told["counts"], strict=True)) != ordered[: len(told["values"])]:
            yield f"{name}: the frequent values are others"


if __name__ == "__main__":
    sys.exit(main())
