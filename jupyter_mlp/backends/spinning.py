"""Threads of OpenMP that have nothing to do: awake while a training has its cores to itself, asleep while it shares them.

An idle thread of GNU's OpenMP turns some 300,000 times before it sleeps. That is right for a training alone, which has work
for it again in a moment: asleep at once, a small model takes twice as long. Where others want the same cores it takes them
away for nothing: two small trainings on two cores took ten times as long as one. The number is read once, when the library is
loaded, but with more threads than processors it turns a hundred times only. So while cores are short, a team of threads that
sleep is added here, and it is sent home when they are not.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_LOOK_S = 0.25
_SHORT, _AMPLE = 0.15, 0.03  # of the time in which this process could have run, how much it waited for a processor
_LACKING = 2  # looks in a row with too few cores before idle threads sleep early: what a start takes is over by then
_CALM = 8  # looks in a row with ample cores before they stay awake again
_SAID = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@contextmanager
def considerate(threads: int) -> Iterator[None]:
    """Let this process' idle threads, of `threads` that compute, sleep early whenever others want the cores, until the block ends.

    Does nothing where the user has said how threads wait, where torch uses another OpenMP, and off Linux.
    """
    library = None if any(name in os.environ for name in _SAID) else _gnu_openmp()
    if library is None or _waited_s() is None:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(Crowd(library, threads), over), daemon=True, name="mlp-spinning")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Crowd:
    """A team of sleeping threads that makes OpenMP count more threads than processors, with those of the training.

    It is no larger than it must be: OpenMP ends the process where the system gives it no more threads.
    """

    def __init__(self, library: ctypes.CDLL, threads: int) -> None:
        self._size = max(2, (os.cpu_count() or 1) - threads + 2)  # one of them is the thread that makes it
        self._parallel: Callable[..., None] = library.GOMP_parallel
        self._nothing = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p)  # a function that each of them calls once
        self._home: threading.Event | None = None

    @property
    def gathered(self) -> bool:
        """Whether it is there."""
        return self._home is not None

    def gather(self) -> None:
        """Make it; a team belongs to the thread that made it, and ends with it."""
        self._home = home = threading.Event()

        def hold() -> None:
            self._parallel(self._nothing, None, ctypes.c_uint(self._size), ctypes.c_uint(0))
            home.wait()

        threading.Thread(target=hold, daemon=True, name="mlp-crowd").start()

    def leave(self) -> None:
        """Send it home."""
        if self._home is not None:
            self._home.set()
        self._home = None


def _watch(crowd: Crowd, over: threading.Event) -> None:
    at, waited, lacking, calm = time.monotonic(), _waited_s() or 0.0, 0, 0
    while not over.wait(_LOOK_S):
        at, before = time.monotonic(), at
        waited, waited_before = _waited_s() or 0.0, waited
        share = (waited - waited_before) / (at - before)
        lacking = lacking + 1 if share > _SHORT else 0
        calm = calm + 1 if share < _AMPLE else 0
        if lacking >= _LACKING and not crowd.gathered:
            crowd.gather()
        elif calm >= _CALM:
            crowd.leave()
    crowd.leave()


def _waited_s() -> float | None:
    """Seconds for which this process' main thread was ready and no processor was free; None where Linux does not tell."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return None


def _gnu_openmp() -> ctypes.CDLL | None:
    """Return the OpenMP that torch has loaded, where it is GNU's."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    found = {line.split(maxsplit=5)[5] for line in lines if "/libgomp" in line}
    mine = {path for path in found if "/torch" in path} or found  # scikit-learn brings another
    return ctypes.CDLL(mine.pop()) if len(mine) == 1 else None
