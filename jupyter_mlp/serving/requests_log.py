"""The log of requests: one JSON line each, buffered, written within half a second, rotated by size.

Serving appends and never reads; monitoring reads and never writes. Killing the process at any moment costs at most the
last half second and leaves at most one broken line, which readers skip. Where several processes serve an endpoint each
has a file of its own: on a file system that machines share, appends of two of them would overwrite each other.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    import pyarrow as pa

_log = logging.getLogger(__name__)
ROWS_KEPT = 1000  # of one request; a million-row request must not fill the log
_FILE_BYTES = 32 * 2**20
_FILES = 8


class Entry(msgspec.Struct, omit_defaults=True):
    """One request as it is remembered.

    Attributes:
        time: seconds since 1970, UTC. `ms`: from the last byte of the request to the answer.
        model: UUID of the one variant that answered; empty when none did.
        shadow: a copy that was answered for the log only.
        rows: how many instances were asked; `instances` and `predictions` hold at most the first thousand.
        key: what kept the caller on this variant, if anything. `generation`: of the variants that shared the requests then; 0 for
            what was answered from the store, which no variant had a share in.
        asked: of an answer from the store, in place of the instances: the column that is the key, and its value.
    """

    time: float
    id: str
    status: int
    ms: float
    model: str = ""
    shadow: bool = False
    rows: int = 0
    instances: list[dict[str, Any]] = []
    predictions: list[Any] = []
    error: str = ""
    key: str = ""
    generation: int = 0
    asked: list[dict[str, Any]] = []


class Outcome(msgspec.Struct, omit_defaults=True):
    """What really happened to something that was predicted; the last word on an id counts."""

    time: float
    id: str
    value: float | str


Line = TypeVar("Line", Entry, Outcome)


class RequestLog:
    """Appends entries; call `flush` often, from one thread at a time.

    Args:
        folder: where the files are.
        file_bytes, files: size at which a file is closed, and how many closed ones are kept.
        writer: names this process where it is one of several.
    """

    def __init__(self, folder: Path, file_bytes: int = _FILE_BYTES, files: int = _FILES, writer: str = "") -> None:
        self._folder = folder
        self._ending = f".{writer}.jsonl" if writer else ".jsonl"
        self._limit = file_bytes
        self._files = files
        self._waiting: list[Entry | Outcome] = []
        self._encoder = msgspec.json.Encoder()
        self._broken = b"\n"  # ends the half line that a killed process may have left
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def add(self, entry: Entry | Outcome) -> None:
        """Remember an entry until the next flush."""
        self._waiting.append(entry)

    def flush(self) -> None:
        """Write what is waiting; a full disk loses log lines, never requests."""
        if not self._waiting:
            return
        entries, self._waiting = self._waiting, []
        data = self._broken + self._encoder.encode_lines(entries)
        self._broken = b""
        path = self._folder / f"current{self._ending}"
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(handle, data)
                full = os.fstat(handle).st_size >= self._limit
            finally:
                os.close(handle)
            if full:
                self._rotate(path)
        except OSError as error:
            _log.warning("requests log: %s", error)

    def _rotate(self, path: Path) -> None:
        os.replace(path, self._folder / f"{time.time_ns():020d}{self._ending}")
        # What another process wrote last long ago counts as closed: it has ended, or begins a new file.
        for old in sorted(self._folder.glob("*.jsonl"), key=lambda one: one.stat().st_mtime_ns)[: -self._files]:
            old.unlink(missing_ok=True)


def entries(folder: Path, limit: int = 200_000) -> list[Entry]:
    """Return the newest entries, oldest first; broken lines are skipped."""
    return lines(folder, Entry, limit)


def lines(folder: Path, kind: type[Line], limit: int = 100_000_000, since: float = 0.0) -> list[Line]:
    """Return the newest lines of a log, oldest first; broken ones are skipped.

    Args:
        since: seconds since 1970; what is older is passed over without being read whole.
    """
    taken = [line for path in currents(folder) for line in _decoded(path, kind, since)]
    for path in sorted(folder.glob("[0-9]*.jsonl"), reverse=True):
        if len(taken) >= limit:
            break
        taken = list(_decoded(path, kind, since)) + taken
    taken.sort(key=lambda one: one.time)  # of several processes; of one they are
    return taken[-limit:]


def currents(folder: Path) -> list[Path]:
    """Return the files that are written now, or were when their process ended."""
    return sorted(folder.glob("current*.jsonl"))


def newest(folder: Path, most: int = 2**20) -> list[Entry]:
    """Return the entries of the last `most` bytes of each process, oldest first: enough to try a model on, read at once."""
    decoder = msgspec.json.Decoder(Entry)
    found: list[Entry] = []
    for line in (line for path in currents(folder) for line in _tail(path, most).split(b"\n")):
        with contextlib.suppress(msgspec.MsgspecError):
            found.append(decoder.decode(line))
    found.sort(key=lambda one: one.time)
    return found


def _tail(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - most))
            return file.read()
    except FileNotFoundError:  # rotated away between listing and reading
        return b""


def table(folder: Path, limit: int = 200_000) -> pa.Table:
    """Return the newest requests as an Arrow table, one row per request, without features."""
    import pyarrow as pa

    found = entries(folder, limit)
    return pa.table(
        {
            "time": pa.array([int(e.time * 1e6) for e in found], pa.timestamp("us", tz="UTC")),
            "id": pa.array([e.id for e in found], pa.string()),
            "model": pa.array([e.model or None for e in found], pa.string()),
            "shadow": pa.array([e.shadow for e in found], pa.bool_()),
            "status": pa.array([e.status for e in found], pa.int16()),
            "ms": pa.array([e.ms for e in found], pa.float64()),
            "rows": pa.array([e.rows for e in found], pa.int64()),
            "error": pa.array([e.error or None for e in found], pa.string()),
        }
    )


class _Stamp(msgspec.Struct):
    time: float = 0.0


def _decoded(path: Path, kind: type[Line], since: float) -> Iterator[Line]:
    decoder, stamp = msgspec.json.Decoder(kind), msgspec.json.Decoder(_Stamp)
    try:
        found = path.read_bytes().split(b"\n")
    except FileNotFoundError:  # rotated away between listing and reading
        return
    for line in found:
        if line:
            try:
                if not since or stamp.decode(line).time >= since:
                    yield decoder.decode(line)
            except msgspec.MsgspecError:
                continue
