"""Asking for what is known: no Spark at all, beside the same query through plain PySpark on the same warm server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

WHAT = "the same aggregate again | spark.sql().toPandas()"
LIMIT, TARGET, LIMIT_S = 0.02, 0.01, None
SQL = "SELECT k, avg(v) AS v, count(*) AS n FROM {table} GROUP BY k ORDER BY k"


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], None]]]:
    """A million rows; the floor reads the answer's Parquet file and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLP_WORKSPACE"] = str(Path(folder, "workspace"))
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        import jupyter_mlp as mlp
        from jupyter_mlp.store.workspace import current

        values = np.random.default_rng(7)
        table = pa.table({"k": values.integers(0, 1_000, 1_000_000), "v": values.random(1_000_000)})
        pq.write_table(table, Path(folder, "numbers.parquet"))
        mlp.write_table("lake.numbers", str(Path(folder, "numbers.parquet")))
        first = mlp.query(SQL.format(table="lake.numbers"), name="means")
        spark = current().engine.session

        def ours() -> None:
            found = mlp.query(SQL.format(table="lake.numbers"), name="means")
            assert found.reused
            assert len(found.to_pandas()) == 1_000

        def peer() -> None:
            assert len(spark.sql(SQL.format(table=f"parquet.`{folder}/numbers.parquet`")).toPandas()) == 1_000

        def floor() -> None:
            assert pq.ParquetDataset(first.files).read().to_pandas().shape == (1_000, 3)

        for warm in (ours, peer, floor):
            warm()
        yield {"ours": ours, "peer": peer, "floor": floor}
