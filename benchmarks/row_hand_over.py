"""A result of 1 GB into the kernel, first time: executors write and the notebook maps, beside toPandas with Arrow."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from result import ROWS, SQL, opened

WHAT = "1 GB to Arrow, first time | toPandas with Arrow"
LIMIT, TARGET, LIMIT_S = 0.5, None, None
ROUNDS = 3
_parts: dict[str, list[float]] = {"answered": [], "handed over": [], "toPandas": []}


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], None]]]:
    """Ours runs the query, writes its version and maps it; so does the peer, through the socket."""
    with opened() as (mlp, plain):

        def ours() -> None:
            begun = time.perf_counter()
            answer = mlp.query(SQL, name="numbers", fresh=True)
            written = time.perf_counter()
            assert answer.to_arrow().num_rows == ROWS
            _parts["answered"].append(written - begun)
            _parts["handed over"].append(time.perf_counter() - written)

        def peer() -> None:
            begun = time.perf_counter()
            assert len(plain.sql(SQL).toPandas()) == ROWS
            _parts["toPandas"].append(time.perf_counter() - begun)

        yield {"ours": ours, "peer": peer}


def note() -> str:
    """Say how much of it is Spark's query and write, and how much the hand-over of what is written."""
    answered, handed, peer = (statistics.median(_parts[part]) for part in _parts)
    return f"of ours {answered:.1f} s are the query and its write; handing over what is written takes {handed / peer:.2f} of toPandas"
