"""TPC-H's 22 queries asked again, as pandas frames, beside plain PySpark on the same warm server."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from shop import QUERIES, opened

WHAT = "TPC-H's 22, known | spark.sql().toPandas()"
LIMIT, TARGET, LIMIT_S = 0.02, None, None
P95_S = 0.020
_times: list[float] = []


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], None]]]:
    """The 95th percentile of single answers is checked too: at most 20 ms each."""
    with opened() as (mlp, plain):
        for sql in QUERIES.values():
            mlp.query(sql, name="answer")
            plain.sql(sql).toPandas()

        def ours() -> None:
            for sql in QUERIES.values():
                begun = time.perf_counter()
                found = mlp.query(sql, name="answer")
                _times.append(time.perf_counter() - begun)
                assert found.reused
                found.to_pandas()

        def peer() -> None:
            for sql in QUERIES.values():
                plain.sql(sql).toPandas()

        yield {"ours": ours, "peer": peer}


def note() -> str:
    """Return the 95th percentile of single answers."""
    return f"p95 of one answer {_p95() * 1000:.1f} ms" + (f", OVER THE LIMIT of {P95_S * 1000:.0f} ms" if broken() else "")


def broken() -> bool:
    """Whether single answers take too long."""
    return _p95() > P95_S


def _p95() -> float:
    return statistics.quantiles(_times, n=20)[-1]
