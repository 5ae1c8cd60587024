"""Answers a second of a model that computes for about 10 ms, behind one process a core, beside the same model behind one process.

The callers need a part of the cores, too, and one process answers what comes together in one call of the model, so the ratio is not that
of the cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from endpoint_load import HEAVY, clients, processes

WHAT = "100 answers of a 10 ms model, 8 connections | one process"
LIMIT, TARGET, LIMIT_S = None, None, None  # on two cores, of which the callers take one, several processes are slower
_NUMBER = len(os.sched_getaffinity(0))


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """Seconds for a hundred answers."""
    with processes(HEAVY, _NUMBER) as found:
        yield {name: partial(_hundred, at) for name, at in found.items()}


def _hundred(server: tuple[int, bytes]) -> float:
    return 100 / clients(server, connections=8)[1]


def note() -> str:
    """How many processes there were."""
    return f"{_NUMBER} processes"
