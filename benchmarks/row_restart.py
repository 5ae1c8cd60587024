"""The first question of a new kernel when its answer is known, beside plain PySpark: a session and its first query."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fresh import kernel, process

WHAT = "new kernel, known answer shown | session + first query"
LIMIT, TARGET, LIMIT_S = 0.005, None, None
SQL = "SELECT k, avg(v) AS v, count(*) AS n FROM {table} GROUP BY k ORDER BY k"
OURS = """
shell.run_line_magic("load_ext", "jupyter_mlp")
found = shell.run_cell_magic("mlp_data", "means", %r)
assert found.reused
shell.display_formatter.format(found)
"""
PEER = """
import os, warnings
warnings.filterwarnings("ignore")
os.environ.update(SPARK_LOCAL_IP="127.0.0.1", JAVA_HOME=%r)
from pyspark.sql import SparkSession
made = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
spark = made.config("spark.driver.extraJavaOptions", "-XX:+UseParallelGC").getOrCreate()
assert len(spark.sql(%r).toPandas()) == 1000
"""


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """A million rows, asked once before; every round is a process of its own, the peer's Spark too."""
    with tempfile.TemporaryDirectory() as folder:
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        from jupyter_mlp.backends import java
        from jupyter_mlp.backends.spark_runtime import runtime_folder

        file, workspace = Path(folder, "numbers.parquet"), Path(folder, "workspace")
        values = np.random.default_rng(7)
        pq.write_table(pa.table({"k": values.integers(0, 1_000, 1_000_000), "v": values.random(1_000_000)}), file)
        sql = SQL.format(table="lake.numbers")
        kernel(f"import jupyter_mlp as mlp; mlp.write_table('lake.numbers', {str(file)!r}); mlp.query({sql!r}, name='means')", workspace)
        home = java.choose(runtime_folder()).home
        plain = SQL.format(table=f"parquet.`{file}`")
        yield {"ours": lambda: kernel(OURS % sql, workspace), "peer": lambda: process(PEER % (home, plain), workspace)}
