"""TPC-H at scale 1 in a workspace of its own, generated once and kept in the user's cache folder."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
import tpch

QUERIES = tpch.QUERIES
SCALE = float(os.environ.get("MLP_BENCH_SCALE", "1"))
FILES = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jupyter_mlp" / f"tpch-{SCALE:g}"


@contextmanager
def opened() -> Iterator[tuple[Any, Any]]:
    """Give the package on a fresh workspace that holds the tables, and a plain session that reads the same files."""
    files = tpch.generate(FILES, SCALE)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLP_WORKSPACE"] = str(Path(folder, "workspace"))
        import jupyter_mlp as mlp
        from jupyter_mlp.store.workspace import current

        workspace = current()
        for name in tpch.TABLES:
            mlp.write_table(f"lake.{name}", str(files / f"{name}.parquet"))
        plain = workspace.engine.session.newSession()
        plain.conf.set("spark.sql.execution.arrow.pyspark.enabled", "true")
        for name in tpch.TABLES:
            # The same files: what is measured is what we add, not how the generator laid out its own.
            lake = workspace.lake
            paths = lake.files(f"lake.{name}", str(lake.current(f"lake.{name}")))
            plain.read.parquet(*paths).createOrReplaceTempView(name)
        yield mlp, plain


def warm(mlp: Any, plain: Any) -> None:
    """Run everything once on both sides: code is compiled, files are in memory."""
    for sql in tpch.QUERIES.values():
        plain.sql(sql).toPandas()
        mlp.query(sql, name="warm", fresh=True)
