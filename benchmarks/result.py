"""A query whose result is about 1 GB: 32 columns of doubles and integers, on a server of its own with room for the peer."""

from __future__ import annotations

import os
import subprocess
import sys
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
        # The peer's rows pass through the server's heap, which the default of 2 GB does not hold.
        os.environ.update(MLP_WORKSPACE=str(Path(folder, "workspace")), MLP_SPARK_MEMORY="7g", XDG_RUNTIME_DIR=folder)
        import jupyter_mlp as mlp
        from jupyter_mlp.backends.spark_runtime import runtime_folder
        from jupyter_mlp.store.workspace import current

        plain = current().engine.session.newSession()
        plain.conf.set("spark.sql.execution.arrow.pyspark.enabled", "true")
        try:
            yield mlp, plain
        finally:
            found = os.environ | {"SPARK_LOCAL_CONNECT_DISCOVERY": str(runtime_folder() / "connect.json")}
            subprocess.run([sys.executable, "-m", "pyspark.sql.connect.local_server", "--stop"], env=found, capture_output=True)
