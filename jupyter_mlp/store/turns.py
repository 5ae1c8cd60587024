"""Taking turns: of several kernels that ask the same question at once, one computes and the others get its answer."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def turn(root: Path, key: str | None) -> Iterator[bool]:
    """Hold the turn for `key` during the block, after whoever has it now; the system takes it back from the dead.

    Yields:
        whether it had to wait. Ctrl-C ends the wait.
    """
    if key is None:
        yield False
        return
    path = root / "cache" / "turns" / key
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, waited = _held(path)
    except OSError:  # a full or read-only disk: the work itself says so, in its own words
        yield False
        return
    try:
        yield waited
    finally:
        path.unlink(missing_ok=True)  # while it is held: who waits for this file sees that it is gone, and tries the next
        os.close(handle)


def _held(path: Path) -> tuple[int, bool]:
    waited = False
    while True:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = True
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
            except BaseException:
                os.close(handle)
                raise
        try:
            if os.stat(path).st_ino == os.fstat(handle).st_ino:
                return handle, waited
        except FileNotFoundError:
            pass
        os.close(handle)
