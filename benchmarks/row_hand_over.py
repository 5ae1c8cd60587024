"""A result of 1 GB into the kernel, first time: executors write and the notebook maps, beside toPandas with Arrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from result import ROWS, SQL, opened

WHAT = "1 GB to Arrow, first time | toPandas with Arrow"
LIMIT, TARGET, LIMIT_S = 0.5, None, None
ROUNDS = 3


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], None]]]:
    """Ours runs the query, writes its version and maps it; so does the peer, through the socket."""
    with opened() as (mlp, plain):

        def ours() -> None:
            assert mlp.query(SQL, name="numbers", fresh=True).to_arrow().num_rows == ROWS

        def peer() -> None:
            assert len(plain.sql(SQL).toPandas()) == ROWS

        yield {"ours": ours, "peer": peer}
