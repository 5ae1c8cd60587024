"""Seconds for a thousand answers of a small model at 32 connections, beside the best of all peers that are installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from endpoint_load import SMALL, Best, clients, servers
from serving_peers import ALL

WHAT = "1,000 answers at 32 connections | best peer"
LIMIT, TARGET, LIMIT_S = 1.0, None, None
_best = Best(lambda server: 1000 / clients(server, connections=32)[1])


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """Seconds for a thousand answers."""
    with servers(SMALL, ALL) as found:
        yield _best.sides(found)


def note() -> str:
    """Answers a second of each."""
    return _best.note(lambda seconds: f"{1000 / seconds:,.0f}/s")
