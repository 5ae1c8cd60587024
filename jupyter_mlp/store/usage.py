"""What the processes of a training use of their machines: processor, memory and GPU, a line of use.jsonl every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields

import psutil

from jupyter_mlp.store.jobs import RunFolder

FILE = "use.jsonl"


@dataclass(frozen=True)
class Use:
    """What one rank used, with the processes that it started.

    Attributes:
        at: seconds since 1970.
        device: what it trains on: the name of a GPU, or cpu.
        cores: of the processor, since the line before.
        memory: bytes.
        gpu: part of the time in which the GPU computed, by its driver; None on the processor, or where the driver does not tell.
        gpu_memory, gpu_has: bytes of the GPU's memory that are taken, and all of them.
    """

    at: float
    rank: int
    device: str
    cores: float
    memory: int
    gpu: float | None = None
    gpu_memory: int | None = None
    gpu_has: int | None = None


def say(folder: RunFolder, use: Use) -> None:
    """Add a line."""
    folder.say(asdict(use), FILE)


def said(folder: RunFolder) -> list[Use]:
    """Return all lines of a run, oldest first."""
    names = {field.name for field in fields(Use)}
    return [Use(**{name: value for name, value in line.items() if name in names}) for line in folder.events(name=FILE)[0]]


class Meter:
    """Measures this process and what it started, from one look to the next."""

    def __init__(self) -> None:
        self._me = psutil.Process()
        self._before = time.monotonic(), _total(self._all(), _seconds)

    def look(self) -> tuple[float, int]:
        """Return the cores in use since the last look, and the bytes of memory now."""
        processes = self._all()
        now = time.monotonic(), _total(processes, _seconds)
        passed, worked = now[0] - self._before[0], now[1] - self._before[1]
        self._before = now
        return max(0.0, worked) / max(passed, 1e-3), int(_total(processes, lambda one: one.memory_info().rss))

    def _all(self) -> list[psutil.Process]:
        return [self._me, *self._me.children(recursive=True)]


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _total(processes: Sequence[psutil.Process], of: Callable[[psutil.Process], float]) -> float:
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # it ended while we looked, or became another user's
            total += of(process)
    return total
