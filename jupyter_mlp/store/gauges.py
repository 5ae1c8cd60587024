"""How far long reading and copying is, told while it goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from jupyter_mlp.core.cards import size_text

Progress = Callable[[dict[str, Any]], None]
_PIECE = 2**20


class Gauge:
    """Reads files piece by piece and tells how far the whole work is.

    Args:
        doing: what is done, like `unpacking`. `total`: bytes in all; 0 where nobody knows yet.
        progress: called with {"text", "share"}.
    """

    def __init__(self, doing: str, total: int = 0, progress: Progress | None = None) -> None:
        self._doing = doing
        self._total = total
        self._progress = progress
        self._done = 0

    def read(self, source: Any) -> Iterator[bytes]:
        """Yield what is left in an open file."""
        while piece := source.read(_PIECE):
            self._done += len(piece)
            if self._progress is not None:
                self._progress(self._told())
            yield piece

    def _told(self) -> dict[str, Any]:
        done = f"{self._doing} {size_text(self._done)}"
        return {"text": f"{done} of {size_text(self._total)}", "share": self._done / self._total} if self._total else {"text": done}
