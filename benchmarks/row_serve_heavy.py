"""The time of one answer of a model that computes for about 10 ms: what an endpoint adds must not be seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from endpoint_load import HEAVY, clients, servers

WHAT = "an answer of a 10 ms model, p50, 1 connection | FastAPI"
LIMIT, TARGET, LIMIT_S = 1.05, None, None


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """Median seconds of an answer."""
    with servers(HEAVY) as found:
        yield {name: partial(_median, at) for name, at in found.items()}


def _median(server: tuple[int, bytes]) -> float:
    return clients(server, connections=1)[0]
