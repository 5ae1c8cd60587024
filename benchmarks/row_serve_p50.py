"""The time of one answer, one connection: validation, routing and the log of requests on, beside plain FastAPI + uvicorn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from endpoint_load import clients, servers

WHAT = "an endpoint's answer, p50, 1 connection | FastAPI"
LIMIT, TARGET, LIMIT_S = 0.6, 0.5, None


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """Median seconds of an answer."""
    with servers() as found:
        yield {name: partial(_median, at) for name, at in zip(("ours", "peer"), found.values(), strict=False)}


def _median(server: tuple[int, bytes]) -> float:
    return clients(server, connections=1)[0]
