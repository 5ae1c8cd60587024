"""Seconds for a thousand answers at 32 connections, beside plain FastAPI + uvicorn: 0.25 is four times as many a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from endpoint_load import clients, servers

WHAT = "1,000 answers at 32 connections | FastAPI"
LIMIT, TARGET, LIMIT_S = 0.25, 0.167, None


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """Seconds for a thousand answers."""
    with servers() as found:
        yield {name: partial(_thousand, at) for name, at in zip(("ours", "peer"), found.values(), strict=False)}


def _thousand(server: tuple[int, bytes]) -> float:
    return 1000 / clients(server, connections=32)[1]
