"""What versioning, pinning and publishing cost: TPC-H's 22 queries never asked before, through us and through plain PySpark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from shop import QUERIES, opened, warm

WHAT = "TPC-H's 22, first time | spark.sql().toPandas()"
LIMIT, TARGET, LIMIT_S = 1.05, 1.0, None
ROUNDS = 3


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], None]]]:
    """Both ask the same warm server; ours is told not to reuse."""
    with opened() as (mlp, plain):
        warm(mlp, plain)

        def ours() -> None:
            for sql in QUERIES.values():
                mlp.query(sql, name="answer", fresh=True).to_pandas()

        def peer() -> None:
            for sql in QUERIES.values():
                plain.sql(sql).toPandas()

        yield {"ours": ours, "peer": peer}
