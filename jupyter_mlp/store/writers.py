"""Who is writing here now: the clean-up must never take a half-written file from under its living writer.

Whoever writes under a record that is still running is known by that record. What is written before there is a record (rows
that are staged for a table) is covered by a lease: a file that its writer keeps locked. The kernel lets go of the lock when
the writer dies, however it dies, so nothing has to be cleaned up for that to be seen.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from jupyter_mlp.core.errors import ConflictError, storage_error

_SLACK_S = 0.05  # a snapshot's time is cut to milliseconds, a file's to the kernel's tick


@contextmanager
def at_work(root: Path) -> Iterator[None]:
    """Say that this process writes files below `root` that no record names yet, until the block ends."""
    path = root / "writers" / os.urandom(16).hex()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise storage_error(error, "writing the table") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(handle)


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Hold the one lock of the clean-up while the block runs.

    Raises:
        ConflictError: another clean-up of this workspace is at work.
    """
    try:
        handle = os.open(root / "gc.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise storage_error(error, "locking the workspace") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError("Another clean-up of this workspace is at work.", "Run it again when that one is done.") from None
        yield
    finally:
        os.close(handle)


class Since(NamedTuple):
    """What is younger than this (seconds since 1970) is left alone.

    Attributes:
        living: since when the oldest living writer writes, or now.
        old: the same, and not within the grace time: for what nobody ever recorded.
    """

    living: float
    old: float


def since(root: Path, grace_s: float, running: list[float]) -> Since:
    """Return since when a file that nothing reaches may belong to somebody who still writes.

    Args:
        running: when the activities began that truly run now.
    """
    begun = [one.stat().st_ctime for one in _living(root / "writers")]
    living = min([time.time(), *begun, *running]) - _SLACK_S
    return Since(living, min(living, time.time() - grace_s))


def _living(folder: Path) -> Iterator[Path]:
    """The leases whose writers live; those of the dead are removed on the way."""
    for path in folder.glob("*"):
        try:
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except BlockingIOError:
            yield path
        finally:
            os.close(handle)
