"""What an answer that is known costs when much is known: the same query again at 100,000 records, beside the same at 100."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import many

WHAT = "a known answer at 100,000 records | at 100"
LIMIT, TARGET, LIMIT_S = 2.0, 1.2, None
SQL = "SELECT k, avg(v) AS v FROM lake.numbers GROUP BY k ORDER BY k"
_TIMES = 20


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """Two workspaces that differ in how much happened before and after the query was asked first."""
    import pyarrow as pa

    import jupyter_mlp as mlp
    from jupyter_mlp.store.workspace import current

    with tempfile.TemporaryDirectory() as folder:

        def asking(count: int) -> Callable[[], float]:
            root = str(Path(folder, str(count)))
            os.environ["MLP_WORKSPACE"] = root
            mlp.write_table("lake.numbers", pa.table({"k": [1, 2, 2], "v": [1.0, 2.0, 3.0]}))
            mlp.query(SQL, name="means")
            many.fill(current(), count)

            def ask() -> float:
                os.environ["MLP_WORKSPACE"] = root
                mlp.query(SQL, name="means")
                begun = time.perf_counter()
                for _ in range(_TIMES):
                    assert mlp.query(SQL, name="means").reused
                return (time.perf_counter() - begun) / _TIMES

            return ask

        yield {"ours": asking(100_000), "peer": asking(100)}
