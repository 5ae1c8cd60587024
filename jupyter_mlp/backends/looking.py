"""Looks at an engine's jobs, remembered for a moment: a cell that waits looks ten times a second, an engine is asked once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

from jupyter_mlp.core.clusters import UNREACHABLE, Sight
from jupyter_mlp.core.errors import UnreachableError

_FRESH_S = 1.0


class Looks:
    """What was seen of each job last."""

    def __init__(self, fresh_s: float = _FRESH_S) -> None:
        self._fresh_s = fresh_s
        self._seen: dict[Hashable, tuple[float, Sight]] = {}
        self._lock = threading.Lock()

    def at(self, job: Hashable, ask: Callable[[], Sight]) -> Sight:
        """Return what was seen of a job a moment ago, or ask; who does not answer is UNREACHABLE."""
        with self._lock:
            then, seen = self._seen.get(job, (0.0, Sight()))
            if time.monotonic() - then < self._fresh_s and then:
                return seen
            try:
                seen = ask()
            except UnreachableError as error:
                seen = Sight(UNREACHABLE, error.message)
            self._seen[job] = (time.monotonic(), seen)
            return seen

    def forget(self, job: Hashable) -> None:
        """Ask at the next look."""
        self._seen.pop(job, None)
