"""A query whose result is about 1 GB: 32 columns of doubles and integers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROWS = int(os.environ.get("MLP_BENCH_ROWS", "4000000"))
COLUMNS = 32
SQL = "SELECT " + ", ".join(f"id * {i}.5D + hash(id + {i}) AS c{i}" for i in range(COLUMNS - 1)) + f", id FROM range({ROWS})"


@contextmanager
def opened() -> Iterator[tuple[Any, Any]]:
    """Give the package on a fresh workspace, and a plain session of the same server."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLP_WORKSPACE"] = str(Path(folder, "workspace"))
        import jupyter_mlp as mlp
        from jupyter_mlp.store.workspace import current

        plain = current().engine.session.newSession()
        plain.conf.set("spark.sql.execution.arrow.pyspark.enabled", "true")
        yield mlp, plain
