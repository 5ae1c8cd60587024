"""A result of 1 GB into the kernel once more: mapped, beside toPandas with Arrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from result import ROWS, SQL, opened

WHAT = "1 GB to Arrow, again | toPandas with Arrow"
LIMIT, TARGET, LIMIT_S = 0.01, None, None
ROUNDS = 3


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], None]]]:
    """The floor maps an Arrow file of the same rows and nothing else."""
    with opened() as (mlp, plain):
        import pyarrow as pa

        first = mlp.query(SQL, name="numbers").to_arrow()
        path = next(mlp.query(SQL, name="numbers").cache.glob("*.arrow"))

        def ours() -> None:
            assert mlp.query(SQL, name="numbers").to_arrow().num_rows == ROWS

        def peer() -> None:
            assert len(plain.sql(SQL).toPandas()) == ROWS

        def floor() -> None:
            with pa.memory_map(str(path)) as source:
                assert pa.ipc.open_file(source).read_all().num_rows == len(first)

        yield {"ours": ours, "peer": peer, "floor": floor}
