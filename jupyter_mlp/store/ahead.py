"""A thread that works ahead of whoever uses its results."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T], name: str) -> Iterator[T]:
    """Let a thread work one item ahead of the one in use: with the one it works on, three exist at a time."""
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=1)
    stopped = threading.Event()

    def work() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if not _put(ready, (item, None), stopped):
                    return
        except BaseException as caught:  # noqa: BLE001 - raised again where the batches are used
            error = caught
        _put(ready, (None, error), stopped)

    threading.Thread(target=work, daemon=True, name=name).start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        stopped.set()


def _put(target: queue.Queue[Any], item: Any, stopped: threading.Event) -> bool:
    while not stopped.is_set():
        try:
            target.put(item, timeout=0.2)
        except queue.Full:
            continue
        return True
    return False
