"""The counters of all processes that serve one endpoint on this machine, so that a scrape of any of them shows the sum.

Each process writes what it has counted into a file of its own, about twice a second and before it answers a scrape: no number that was
shown is ever taken back, also where its process is killed a moment later. What ended processes have counted is moved into one file when
the next process begins.

    metrics/SLOT-PID-TIME.json   what one process has counted
    metrics/ended.json           what those have that ended, and the names of their files, which do not count any more
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from jupyter_mlp.store.deployments import EndpointFolder
from jupyter_mlp.store.processes import Process, this_process

_log = logging.getLogger(__name__)
_REMEMBERED = 100  # names of files that were moved: a scrape that began before reads them still

Key = tuple[str, bool]  # model, shadow


class Series(msgspec.Struct):
    """The numbers of one variant; `buckets` has one more than there are edges, for what took longer."""

    buckets: list[int]
    statuses: dict[int, int] = {}
    seconds: float = 0.0
    rows: int = 0

    def add(self, other: Series) -> None:
        """Count what another has counted."""
        self.buckets = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]
        for status, count in other.statuses.items():
            self.statuses[status] = self.statuses.get(status, 0) + count
        self.seconds += other.seconds
        self.rows += other.rows


class Counted(msgspec.Struct):
    """What one process has counted, or all that ended.

    Attributes:
        gauges: what its process takes, by the names of Prometheus's client.
        moved: names of the files that are added up here.
    """

    series: list[tuple[str, bool, Series]] = []
    pid: int = 0
    started_at: float = 0.0
    gauges: dict[str, float] = {}
    moved: list[str] = []

    @property
    def is_alive(self) -> bool:
        """Whether its process is."""
        return bool(self.pid) and Process(self.pid, self.started_at).alive


class Sums:
    """What this process and its siblings have counted."""

    def __init__(self, folder: EndpointFolder, slot: int) -> None:
        self._folder = folder
        self._process = process = this_process()
        self._path = folder.metrics / f"{slot}-{process.pid}-{process.started_at:.0f}.json"
        folder.metrics.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._move_ended()

    def write(self, mine: Mapping[Key, Series], gauges: Mapping[str, float]) -> None:
        """Let the others see what this process has counted."""
        series = [(model, shadow, one) for (model, shadow), one in mine.items()]
        try:
            _replace(self._path, msgspec.json.encode(Counted(series, *self._process, dict(gauges))))
        except OSError as error:
            _log.warning("metrics: %s", error)

    def all(self) -> list[Counted]:
        """Return what each process has written; what was moved is one of them, without a process."""
        found = dict(self._read())
        ended = _decoded(self._folder.metrics / "ended.json") or Counted()  # read last: what was moved meanwhile counts once
        return [ended, *(one for name, one in found.items() if name not in ended.moved)]

    def _read(self) -> Iterable[tuple[str, Counted]]:
        for path in self._folder.metrics.glob("[0-9]*.json"):
            counted = _decoded(path)
            if counted is not None:
                yield path.name, counted

    def _move_ended(self) -> None:
        """Add up what ended processes have counted, in one step for those who read, and for whoever goes on where this one is killed."""
        with self._folder.locked("metrics") as mine:
            if not mine:
                return  # another does
            path = self._folder.metrics / "ended.json"
            ended = _decoded(path) or Counted()
            gone = {name: one for name, one in self._read() if name not in ended.moved and not one.is_alive}
            series = total(one for one in (ended, *gone.values()))
            moved = [*ended.moved, *gone][-_REMEMBERED:]
            _replace(path, msgspec.json.encode(Counted([(*key, one) for key, one in series.items()], moved=moved)))
            for name in moved:
                (self._folder.metrics / name).unlink(missing_ok=True)
                (self._folder.metrics / name).with_suffix(".tmp").unlink(missing_ok=True)


def total(counted: Iterable[Counted]) -> dict[Key, Series]:
    """Return the sums by variant."""
    found: dict[Key, Series] = {}
    for one in counted:
        for model, shadow, series in one.series:
            if (model, shadow) in found:
                found[model, shadow].add(series)
            else:
                found[model, shadow] = series
    return found


def _replace(path: Path, data: bytes) -> None:
    """Write all or nothing; not synced, because a machine that goes down takes Prometheus's counters with it, too."""
    beside = path.with_suffix(".tmp")
    beside.write_bytes(data)
    beside.replace(path)


def _decoded(path: Path) -> Counted | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Counted)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
