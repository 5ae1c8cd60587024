"""How long a notebook waits for its first magic, beside what any PySpark notebook pays for its first import."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import fresh

WHAT = "%load_ext + %mlp_status | import pyspark.sql"
LIMIT, TARGET, LIMIT_S = 0.8, 0.25, None


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """Ours on a workspace that has been used before, as every notebook but the first."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder, "workspace")
        ours = "shell.run_line_magic('load_ext', 'jupyter_mlp'); repr(shell.run_line_magic('mlp_status', ''))"
        fresh.kernel(ours, workspace)
        fresh.process("import pyspark.sql", workspace)
        yield {"ours": lambda: fresh.kernel(ours, workspace), "peer": lambda: fresh.process("import pyspark.sql", workspace)}
