"""Imports of large libraries: without Python's collector, and while somebody else is waited for."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def importing() -> Iterator[None]:
    """Let Python's collector rest while the block imports: walking all that stays again and again takes it a fifth of the time."""
    was_at_work = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_at_work:
            gc.enable()


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Do `work`, which makes the next steps ready, in a thread while the block waits; its end is awaited with the block's.

    What it raises is dropped: whoever needs what it makes ready finds the same fault, and can say what it is for.
    """

    def quietly() -> None:
        with suppress(Exception):
            work()

    thread = threading.Thread(target=quietly, name="mlp-ready", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()
