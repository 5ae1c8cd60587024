"""The time of one answer of a small model at one connection, beside the best of all peers that are installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from endpoint_load import SMALL, Best, clients, servers
from serving_peers import ALL

WHAT = "an endpoint's answer, p50, 1 connection | best peer"
LIMIT, TARGET, LIMIT_S = 1.0, None, None
_best = Best(lambda server: clients(server, connections=1)[0])


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """Median seconds of an answer."""
    with servers(SMALL, ALL) as found:
        yield _best.sides(found)


def note() -> str:
    """Each one's median."""
    return _best.note(lambda seconds: f"{seconds * 1000:.2f} ms")
