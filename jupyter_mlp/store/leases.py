"""Leases: what at most one holder may do, held by a lock that the system frees when its last holder ends, however.

A pid in a file can be stale and a time-out can be wrong; the kernel's own lock is neither. It belongs to the open
file, so a process hands its lease to the child it starts: there is no moment in which nobody or both hold it.

    runs/<id>/supervisor.lock    held by the one supervisor of a run
    runs/<id>/ranks.lock         held by every training process of an attempt, until the last of them has ended
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_PATIENCE_S = 0.05  # whoever only looks holds the lock for microseconds


class Lease:
    """One lock file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def held(self) -> bool:
        """Whether anybody holds it now."""
        import fcntl  # not on every system that can show a notebook

        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def take(self) -> int | None:
        """Return an open file that holds the lease until it and every copy in a child is closed; None when another holds it."""
        import fcntl

        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return handle
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(handle)
                    return None
                time.sleep(0.005)
