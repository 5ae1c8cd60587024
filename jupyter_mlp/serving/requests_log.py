"""The log of requests: one JSON line each, buffered, written within half a second, rotated by size.

Serving appends and never reads; monitoring reads and never writes. Killing the process at any moment costs at most the
last half second and leaves at most one broken line, which readers skip. Where several processes serve an endpoint each
has a file of its own: on a file system that machines share, appends of two of them would overwrite each other.

Files stay until the lake has them (`experiment_tables.fold`, which the endpoint's own processes see to); what is beyond 2 GiB
goes, and is counted.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from jupyter_mlp.serving import segments
from jupyter_mlp.serving.segments import currents

if TYPE_CHECKING:
    import pyarrow as pa

_log = logging.getLogger(__name__)
ROWS_KEPT = 1000  # of one request; a million-row request must not fill the log
_FILE_BYTES = 32 * 2**20
_FILES = 64


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


class Brief(msgspec.Struct):
    """What is read of a request where only counts and times are wanted: the rest of its line is skipped."""

    time: float
    status: int
    ms: float
    model: str = ""
    shadow: bool = False
    generation: int = 0


Line = TypeVar("Line", Entry, Outcome, Brief)


class RequestLog:
    """Appends entries; call `flush` often, from one thread at a time.

    Args:
        folder: where the files are.
        file_bytes, files: size at which a file is closed, and how many are kept at most where the lake does not take them.
        writer: names this process where it is one of several.
    """

    def __init__(self, folder: Path, file_bytes: int = _FILE_BYTES, files: int = _FILES, writer: str = "") -> None:
        self._folder = folder
        self._ending = f".{writer}.jsonl" if writer else ".jsonl"
        self._limit = file_bytes
        self._files = files
        self._waiting: list[Entry | Outcome] = []
        self._lost = 0  # lines that no disk took, not written down yet
        self._encoder = msgspec.json.Encoder()
        self._broken = b"\n"  # ends the half line that a killed process may have left
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def add(self, entry: Entry | Outcome) -> None:
        """Remember an entry until the next flush."""
        self._waiting.append(entry)

    def flush(self) -> bool:
        """Write what is waiting, and say whether it is on the disk; a full one loses log lines, never requests."""
        if not self._waiting:
            return True
        entries, self._waiting = self._waiting, []
        data = self._broken + self._encoder.encode_lines(entries)
        path = self._folder / f"current{self._ending}"
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                _write(handle, data)
                full = os.fstat(handle).st_size >= self._limit
            finally:
                os.close(handle)
            self._broken = b""
        except OSError as error:
            self._broken = b"\n"  # some of it may be there
            self._lost += len(entries)
            _log.warning("requests log: %s", error)
            return False
        try:
            if full:
                os.replace(path, self._folder / segments.closed_name(self._ending))
                segments.bound(self._folder, self._files, self._ending)
            segments.lose(self._folder, self._lost, self._ending)
            self._lost = 0
        except OSError as error:
            _log.warning("requests log: %s", error)
        return True


def _write(handle: int, data: bytes) -> None:
    """Write all of it: a disk that is nearly full takes a part."""
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]


def entries(folder: Path, limit: int = 200_000) -> list[Entry]:
    """Return the newest entries, oldest first; broken lines are skipped."""
    taken = [line for path in currents(folder) for line in _decoded(_read(path), Entry)]
    for path in reversed(segments.closed(folder)):
        if len(taken) >= limit:
            break
        taken = list(_decoded(_read(path), Entry)) + taken
    taken.sort(key=lambda one: one.time)  # of several processes; of one they are
    return taken[-limit:]


def decoded(data: bytes, kind: type[Line]) -> list[Line]:
    """Return the lines that are whole, oldest first: of several processes they come mixed."""
    return sorted(_decoded(data, kind), key=lambda one: one.time)


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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # rotated away between listing and reading
        return b""


def _decoded(data: bytes, kind: type[Line]) -> Iterator[Line]:
    decoder = msgspec.json.Decoder(kind)
    for line in data.split(b"\n"):
        if line:
            with contextlib.suppress(msgspec.MsgspecError):
                yield decoder.decode(line)
