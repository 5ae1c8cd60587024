"""Which endpoints of a workspace have their models in memory: all while they fit a budget, else those that were used last.

    endpoints/memory.json         the budget, as the newest deploy of any endpoint found it in the settings
    endpoints/NAME/warmth.json    what the host of NAME says, each second: warm, loading or cold, and how much memory it takes
    endpoints/NAME/used           touched every half second by a serving process that somebody asks, or is connected to

Nobody coordinates. Each host reads what all of them say, and all come to the same order. Over the budget, the processes that
stand by go first; then, one at a time, the endpoint that was used longest ago. It must have been left alone for `idle_s`, not
load, and have no shares that may move (a ramp, several models). Its serving process decides in the end (accepting.py): it ends
where nobody is connected. The host keeps the port (door.py), and the next request makes it load again.

Requests for health count as no use: a prober would keep every model in memory.

A warm endpoint whose host is killed has its serving process start another. A cold one has none, so another endpoint's host does
that: the first by name of those that live.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from jupyter_mlp.store.deployments import EndpointFolder

RESTS = 75  # exit status of a serving process that ended because memory is short
LOADING, WARM, COLD = "loading", "warm", "cold"
_SILENT_S = 15.0  # a host that has said nothing for so long is gone
_MEASURE_S = 5.0
_MISSED_S, _LONG_AGO_S = 2.0, 60.0  # a cold host that was killed is silent for the first; after the second the machine was off, rather
_AGAIN_S = 30.0  # before a host that was started is given up and started once more
_STANDBY_BYTES = 64 * 2**20  # of a process that stands by, before one was measured
_IMPORTING_BYTES = 32 * 2**20  # it takes at least so much once it has imported all, whatever was measured before


class Budget(NamedTuple):
    """What the endpoints of a workspace may take on this machine."""

    memory: float
    idle_s: float


class Report(NamedTuple):
    """What one host says.

    Attributes:
        memory: bytes of the host and of what serves. `standby`: of the process that stands by, or would, as last measured.
        stays: whether it must not go cold now. `used`: when somebody asked it last.
    """

    name: str
    state: str
    memory: int
    standby: int
    stays: bool
    used: float


class Advice(NamedTuple):
    """What a host does next."""

    stands_by: bool
    goes_cold: bool


def allow(endpoints: Path, budget: Budget) -> None:
    """Let all hosts of a workspace keep to a budget, from their next look on."""
    _publish(endpoints / "memory.json", budget._asdict())


def allowed(endpoints: Path) -> Budget | None:
    """Return the budget; None where nobody set one, as in a container that serves one endpoint."""
    found = _read(endpoints / "memory.json")
    return Budget(float(found["memory"]), float(found["idle_s"])) if found else None


def is_cold(folder: EndpointFolder) -> bool:
    """Whether the host said last that it has no model in memory; ask whether it lives before."""
    return _read(folder.path / "warmth.json").get("state") == COLD


def is_behind(folder: EndpointFolder) -> bool:
    """Whether something else is wanted than what was served last."""
    return folder.wanted().get("generation", 0) != folder.actual().get("generation")


def note_use(folder: EndpointFolder) -> None:
    """Say that the endpoint is used now."""
    with suppress(OSError):  # the folder may be gone, or its disk full: that ends no serving
        (folder.path / "used").touch(mode=0o600)


def turn(reports: Sequence[Report], budget: Budget, now: float) -> str | None:
    """Return which endpoint goes cold next; None while all fit, or where every other one is used, loads or has to stay."""
    if sum(one.memory for one in reports) <= budget.memory:
        return None
    idle = [(one.used, one.name) for one in reports if one.state == WARM and not one.stays and now - one.used >= budget.idle_s]
    return min(idle)[1] if idle else None


def standing_by(reports: Sequence[Report], budget: Budget) -> set[str]:
    """Return the endpoints that may have a process that stands by: those used last, as far as memory is left beside all models."""
    size = max((one.standby for one in reports), default=0)
    size = max(size, _IMPORTING_BYTES) if size else _STANDBY_BYTES
    left = budget.memory - sum(one.memory for one in reports)
    newest_first = sorted((one for one in reports if one.state != COLD), key=lambda one: (one.used, one.name), reverse=True)
    return {one.name for one in newest_first[: max(0, int(left // size))]}


class Warmth:
    """What one host knows and says."""

    def __init__(self, folder: EndpointFolder) -> None:
        self._folder = folder
        self._said: dict[str, Any] = {}
        self._measured_at = 0.0
        self._measured: tuple[Sequence[int], int | None] = ((), None)
        self._started_at: dict[str, float] = {}

    def look(self, serving: Sequence[int], standby: int | None, ready: bool, stays: bool) -> Advice:
        """Say what there is now, and return what to do about it.

        Args:
            serving, standby: the pids of the processes. `ready`: whether all that serve have loaded their models.
        """
        budget = allowed(self._folder.path.parent)
        if budget is None:
            return Advice(stands_by=True, goes_cold=False)
        self.say(WARM if ready else LOADING, serving, standby, stays)
        now = time.time()
        reports = heard(self._folder.path.parent, now)
        return Advice(self._folder.name in standing_by(reports, budget), self._folder.name == turn(reports, budget, now))

    def say(self, state: str, serving: Sequence[int] = (), standby: int | None = None, stays: bool = False) -> None:
        """Let the other hosts and whoever looks know."""
        told = {"state": state, "stays": stays, **self._sizes(serving, standby)}
        path = self._folder.path / "warmth.json"
        if told != self._said or not path.exists():
            _publish(path, told)
            self._said = told
        else:
            os.utime(path)

    def orphans(self) -> list[EndpointFolder]:
        """Return the cold endpoints whose hosts were killed, where this one is to start them again."""
        endpoints, now = self._folder.path.parent, time.time()
        found = [folder for folder in _orphans(endpoints, now) if now - self._started_at.get(folder.name, 0.0) > _AGAIN_S]
        gone = {folder.name for folder in found}
        if not found or self._folder.name != min((one.name for one in heard(endpoints, now) if one.name not in gone), default=None):
            return []
        self._started_at |= {folder.name: now for folder in found}
        return found

    def _sizes(self, serving: Sequence[int], standby: int | None) -> dict[str, int]:
        who, now = (tuple(serving), standby), time.monotonic()
        if who == self._measured and now < self._measured_at + _MEASURE_S:
            return {name: self._said[name] for name in ("memory", "standby")}
        self._measured, self._measured_at = who, now
        spare = max(int(self._said.get("standby", 0)), memory(standby) if standby else 0)  # it grows until it has imported all
        return {"memory": _held(os.getpid()) + sum(map(memory, serving)), "standby": spare}


def heard(endpoints: Path, now: float) -> list[Report]:
    """Return what the hosts that live say."""
    found = []
    for path in endpoints.glob("*/warmth.json"):
        with suppress(FileNotFoundError):
            if now - path.stat().st_mtime < _SILENT_S and (said := _read(path)):
                used = _touched(path.with_name("used"))
                found.append(Report(path.parent.name, said["state"], said["memory"], said["standby"], said["stays"], used))
    return found


def _orphans(endpoints: Path, now: float) -> Iterator[EndpointFolder]:
    for path in endpoints.glob("*/warmth.json"):
        if _MISSED_S < now - _touched(path) < _LONG_AGO_S and _read(path).get("state") == COLD:
            folder = EndpointFolder(path.parent)
            if not folder.is_over() and not folder.running:
                yield folder


def memory(pid: int) -> int:
    """Return the bytes that a process and all that it started hold: what they share with others by their part."""
    try:
        return _held(pid) + sum(map(memory, _started_by(pid)))
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _held(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, PermissionError):
        return _held_elsewhere(pid)
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def _started_by(pid: int) -> Iterable[int]:
    # psutil would look through all processes of the machine, and takes 3 MB of each host.
    tasks = Path(f"/proc/{pid}/task")
    return [int(one) for path in tasks.glob("*/children") for one in path.read_text(encoding="ascii").split()]


def _held_elsewhere(pid: int) -> int:
    """The same where the system does not tell it in /proc."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _touched(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return found


def _publish(path: Path, said: Mapping[str, Any]) -> None:
    """Write all at once. It need not outlive a machine that loses power, so the disk is not waited for."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(said), encoding="ascii")
    os.replace(temporary, path)
