"""Ends what Spark leaves: one Python process for every session that ran Python, 36 MB each, as long as the server lives.

    server (JVM)
    ├── pyspark.daemon  of one session: forks its workers, and stays when the session is long over
    │   └── worker      Spark ends it after a minute without work
    └── pyspark.daemon  of another

A daemon without workers is ended here after a while. Where its session comes back, Spark starts it again
(`createThroughDaemon` in Spark's PythonWorkerFactory.scala), which takes a second.
"""

from __future__ import annotations

import time
from contextlib import suppress

import psutil

_PATIENCE_S = 300.0


class Idle:
    """The daemons that had no worker at the last look, and since when."""

    def __init__(self, patience_s: float = _PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._since: dict[psutil.Process, float] = {}

    def end(self, server: int) -> None:
        """Look at the daemons of the server with this pid, and end those that had no worker at any look for long enough.

        Looks must be closer together than the minute that a worker outlives its work: then none is missed.
        """
        now = time.monotonic()
        self._since = {daemon: self._since.get(daemon, now) for daemon in _without_workers(server)}
        for daemon, since in self._since.items():
            if now - since >= self._patience_s:
                with suppress(psutil.NoSuchProcess):
                    daemon.terminate()


def _without_workers(server: int) -> list[psutil.Process]:
    try:
        return [child for child in psutil.Process(server).children() if _is_idle_daemon(child)]
    except psutil.NoSuchProcess:
        return []


def _is_idle_daemon(process: psutil.Process) -> bool:
    try:
        return "pyspark.daemon" in process.cmdline() and not process.children()
    except psutil.Error:  # it ended: the server has a dead child from its own start, too
        return False
