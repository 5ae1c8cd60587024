"""The places of an endpoint's serving processes: which process serves in each, and how soon the next one may after it died."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

LEAVE = signal.SIGUSR1  # tells a process that others serve what it does
REST = signal.SIGUSR2  # asks it to end where nobody is connected, because memory is short
_QUICK_DEATH_S = 5.0
_CRASHES = 3  # in a row, before the last good models are taken instead of the wanted ones
_LONGEST_S = 2.0  # between two tries


class Slot:
    """One place of several.

    Args:
        number: of this one, from 0. `of`: how many there are; each serves every so-manieth socket of the endpoint.
    """

    def __init__(self, number: int, of: int = 1) -> None:
        self.number = number
        self.of = of
        self.child: subprocess.Popen[bytes] | None = None
        self._begun = self._not_before = 0.0
        self._crashes = 0
        self.rests = False

    @property
    def is_due(self) -> bool:
        """Whether a process should begin to serve here now."""
        return self.child is None and time.monotonic() >= self._not_before

    @property
    def wants_last_good(self) -> bool:
        """Whether what is wanted has killed too many in a row."""
        return self._crashes >= _CRASHES

    @property
    def wait_s(self) -> float:
        """How long until a process is due; 0 where one serves."""
        return 0.0 if self.child is not None else max(0.0, self._not_before - time.monotonic())

    def is_calm(self, for_s: float) -> bool:
        """Whether a process has served here for so long."""
        return self.child is not None and time.monotonic() > self._begun + for_s

    def begin(self, child: subprocess.Popen[bytes]) -> None:
        """Let a process that stands by serve here."""
        self.child, self._begun, self.rests = child, time.monotonic(), False
        words = f"{self.number} {self.of}{' --last-good' if self.wants_last_good else ''}"
        assert child.stdin is not None
        with suppress(BrokenPipeError), child.stdin:  # it may have been killed just now: its end is noticed like any other
            child.stdin.write(f"{words}\n".encode())

    def leave(self) -> None:
        """Tell the process that others serve what it does."""
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(LEAVE)

    def end(self) -> int | None:
        """Note the end of the process; return its status, or None while it lives."""
        status = self.child.poll() if self.child is not None else None
        if status is not None:
            self.child = None
            self._crashes = self._crashes + 1 if time.monotonic() - self._begun < _QUICK_DEATH_S else 0
            self._not_before = time.monotonic() + (min(0.05 * 2**self._crashes, _LONGEST_S) if self._crashes else 0.0)
        return status

    def rest(self, for_s: float) -> None:
        """Note that the process left because memory is short: none is due for so long."""
        self.rests, self._crashes = True, 0
        self._not_before = time.monotonic() + for_s

    def wake(self) -> None:
        """Have a process due."""
        self._not_before = 0.0


def wait(slots: Sequence[Slot], within_s: float) -> None:
    """Return when one of the processes ends, when one is due, or after so long."""
    limit = min([within_s, *(slot.wait_s for slot in slots if slot.child is None)])
    children = [slot.child for slot in slots if slot.child is not None]
    if hasattr(os, "pidfd_open"):
        _wait_for_ends(children, limit)
    elif children:  # not on Linux, where one process serves; this looks every 50 ms only
        with suppress(subprocess.TimeoutExpired):
            children[0].wait(limit)
    else:
        time.sleep(limit)


def _wait_for_ends(children: Sequence[subprocess.Popen[bytes]], within_s: float) -> None:
    handles: list[int] = []
    try:
        for child in children:
            handles.append(os.pidfd_open(child.pid))
        select.select(handles, [], [], within_s)
    except ProcessLookupError:  # the handler of a signal has seen its end
        return
    finally:
        for handle in handles:
            os.close(handle)
