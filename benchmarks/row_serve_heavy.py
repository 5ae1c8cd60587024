"""The time of one answer of a model that computes for about 10 ms: what an endpoint adds must not be seen.

Beside the best of all peers that are installed (`serving_peers.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from endpoint_load import HEAVY, Best, clients, servers
from serving_peers import ALL

WHAT = "an answer of a 10 ms model, p50, 1 connection | best peer"
LIMIT, TARGET, LIMIT_S = 1.05, None, None
_best = Best(lambda server: clients(server, connections=1)[0])


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """Median seconds of an answer."""
    with servers(HEAVY, ALL) as found:
        yield _best.sides(found)


def note() -> str:
    """Each peer's median."""
    return _best.note(lambda seconds: f"{seconds * 1000:.1f} ms")
