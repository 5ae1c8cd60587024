"""How long work is shown while it runs: one line that is rewritten, in a notebook and in a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from html import escape
from typing import Any

_QUIET_S = 0.4  # what is over sooner shows no bar
_EVERY_S = 0.25
MIME = "application/vnd.jupyter-mlp.progress+json"


class Bar:
    """A line `title: done of total, detail`; call it as often as you like.

    It takes what the steps report: (done, total, bytes read) of Spark, or a text.
    """

    def __init__(self, title: str, show: Callable[[str, float | None, bool], None]) -> None:
        self._title = title
        self._show = show
        self._begun = time.perf_counter()
        self._last = 0.0
        self._shown = False
        self._stages = (0, 0)

    def stages(self, done: int, total: int) -> None:
        """Take how many stages of Spark's are done, of those that it has planned so far; shown with the next report."""
        self._stages = done, total

    def __call__(self, *report: Any) -> None:
        """Show a report, at most four times a second."""
        now = time.perf_counter()
        if now - self._begun < _QUIET_S or now - self._last < _EVERY_S:
            return
        self._last = now
        self._shown = True
        text, share = describe(*report, stages=self._stages)
        self._show(f"{self._title}: {text} ({now - self._begun:.0f} s)", share, False)

    def close(self) -> None:
        """Say how long it took, if anything was shown."""
        if self._shown:
            self._show(f"{self._title}: {time.perf_counter() - self._begun:.1f} s", 1.0, True)


def describe(*report: Any, stages: tuple[int, int] = (0, 0)) -> tuple[str, float | None]:
    """Return a text and, where it is known, the share that is done.

    Args:
        stages: of Spark, done and in all.
    """
    if len(report) == 3 and all(isinstance(one, int) for one in report):
        done, total, size = report
        read = f", {size / 2**20:,.1f} MB read" if size else ""
        parts = f", {stages[0]} of {stages[1]} stages" if stages[1] > 1 else ""
        return (f"{done} of {total} tasks{parts}{read}" if total else "starting"), (done / total if total else None)
    if len(report) == 1 and isinstance(report[0], dict):
        state = report[0]
        return str(state.get("text", "")), state.get("share")
    return " ".join(str(one) for one in report), None


def in_notebook(title: str) -> Bar:
    """Return a bar for the running cell."""
    from IPython.display import display

    handle: list[Any] = []

    def show(text: str, share: float | None, last: bool) -> None:
        bar = "" if last else f"<progress max='1' {'' if share is None else f'value={chr(39)}{share:.3f}{chr(39)}'}></progress> "
        bundle = {"text/plain": text, "text/html": f"{bar}<small>{escape(text)}</small>", MIME: {"share": share, "done": last}}
        if handle:
            handle[0].update(bundle, raw=True)
        else:
            handle.append(display(bundle, raw=True, display_id=True))

    return Bar(title, show)


def in_terminal(title: str) -> Bar:
    """Return a bar on standard error; silent when that is no terminal."""

    def show(text: str, share: float | None, last: bool) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text}" + ("\n" if last else ""))
            sys.stderr.flush()

    return Bar(title, show)
