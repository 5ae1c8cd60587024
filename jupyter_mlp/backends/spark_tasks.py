"""Python functions as Spark tasks: no row passes through the JVM, a task reads and writes files itself.

The JVM-to-Python socket costs several times a Parquet read, so Spark only says who does what, and sees to what was killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any


def each(session: Any, count: int, work: Callable[[int], None]) -> None:
    """Call `work` with every number below `count` on the executors, each in a task of its own."""
    session.range(0, count, 1, count).mapInArrow(partial(_tasks, work), "id long").toArrow()


def _tasks(work: Callable[[int], None], batches: Iterable[Any]) -> Iterator[Any]:
    """Runs on the executors."""
    for batch in batches:
        for number in batch.column(0).to_pylist():
            work(number)
        yield batch
