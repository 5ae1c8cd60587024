"""The files of a log, how far each was brought into the lake, and which of them are kept.

A file is told by its writer and its first line: these stay as they are when it is closed and renamed, and another file never has
them again. How far each was read (the cursor) is committed with the rows, in the table's properties; `folded.json` beside the files
is a copy, for who must not open the lake. It may be older than the truth, never newer.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from jupyter_mlp.store.artifacts import publish_bytes

KEPT = 8  # files that stay when they are in the lake: what was answered lately is asked for often
_NOTE = "folded.json"
_LOST = "lost*.log"

Cursor = Mapping[str, int]  # identity of a file -> bytes of it that the lake has


@dataclass(frozen=True)
class Piece:
    """Whole lines that were not read before, and where that leaves the reader.

    Attributes:
        more: whether there is more than was asked for.
    """

    data: bytes
    cursor: dict[str, int]
    more: bool


def currents(folder: Path) -> list[Path]:
    """Return the files that are written now, or were when their process ended."""
    return sorted(folder.glob("current*.jsonl"))


def closed(folder: Path) -> list[Path]:
    """Return the files that nobody writes any more, oldest first."""
    return sorted(folder.glob("[0-9]*.jsonl"))


def closed_name(ending: str) -> str:
    """Return the name that a file gets when it is closed now."""
    return f"{time.time_ns():020d}{ending}"


def unread(folder: Path, cursor: Cursor, most: int) -> Piece:
    """Return at least one line behind the cursor, where there is one, and about `most` bytes at most."""
    before = _names(folder)
    found: list[bytes] = []
    size, now, left = 0, dict(cursor), False
    seen: set[str] = set()
    for path in [*closed(folder), *currents(folder)]:
        with suppress(FileNotFoundError), path.open("rb") as file:  # closed or removed meanwhile: the next look finds it
            name = _identity(path, file)
            if name is None:
                continue
            seen.add(name)
            data = _whole_lines(file, now.get(name, 0), most - size) if size < most else b""
            found.append(data)
            size += len(data)
            now[name] = now.get(name, 0) + len(data)
            left = left or _ends_at(file) > now[name]
    if _names(folder) == before:  # else one that was renamed under us would be forgotten, and read again from its beginning
        now = {name: at for name, at in now.items() if name in seen}
    return Piece(b"".join(found), now, left and bool(size))


def near_end(folder: Path, back: int) -> dict[str, int]:
    """Return a cursor before the last `back` bytes of each file that is written, and behind all that are closed."""
    found = {}
    for path in [*closed(folder), *currents(folder)]:
        with suppress(FileNotFoundError), path.open("rb") as file:
            name = _identity(path, file)
            if name is not None:
                found[name] = max(0, _ends_at(file) - (back if path.name.startswith("current") else 0))
    return found


def note(folder: Path, cursor: Cursor, files: list[str]) -> None:
    """Write beside the files how far the lake has them, and which closed ones it has whole."""
    if folder.is_dir():
        publish_bytes(folder / _NOTE, json.dumps({"cursor": dict(cursor), "closed": files}).encode())


def whole(folder: Path, cursor: Cursor) -> list[str]:
    """Return the names of the closed files that a cursor has gone through to their end."""
    return [path.name for path in closed(folder) if _is_whole(path, cursor)]


def is_due(folder: Path) -> bool:
    """Whether a closed file is not in the lake yet."""
    waiting = {path.name for path in closed(folder)}
    return bool(waiting and waiting - set(_noted(folder).get("closed", [])))


def tidy(folder: Path, cursor: Cursor, kept: int = KEPT) -> None:
    """Remove the oldest files that the lake has, but for some; what it has not stays.

    A file that its process may still write, but has not for long, is closed first and goes the next time: nothing is written
    between the last look at it and its end.
    """
    for path in _oldest_first(folder)[:-kept]:
        if not _is_whole(path, cursor):
            continue
        if path.name.startswith("current"):
            os.replace(path, folder / closed_name(path.name.removeprefix("current")))
        else:
            path.unlink(missing_ok=True)


def bound(folder: Path, most: int, ending: str) -> None:
    """Remove the oldest files beyond `most`, and write down how many lines no lake has."""
    for path in _oldest_first(folder)[:-most]:
        missing = _missing(path, _noted(folder).get("cursor", {}))
        path.unlink(missing_ok=True)
        lose(folder, missing, ending)


def lose(folder: Path, lines: int, ending: str) -> None:
    """Write down that so many lines are gone for ever."""
    if lines:
        with (folder / f"lost{ending.removesuffix('.jsonl')}.log").open("a", encoding="ascii") as file:
            file.write(f"{time.time():.3f} {lines}\n")


def lost(folder: Path) -> int:
    """Return how many lines were lost before they reached the lake, ever."""
    return sum(int(line.split()[1]) for path in folder.glob(_LOST) for line in path.read_text(encoding="ascii").splitlines())


def _noted(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / _NOTE).read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return found


def _names(folder: Path) -> list[tuple[str, int]]:
    """What is there now, so that one renamed meanwhile shows."""
    found = []
    for path in folder.glob("*.jsonl"):
        with suppress(FileNotFoundError):
            found.append((path.name, path.stat().st_ino))
    return sorted(found)


def _oldest_first(folder: Path) -> list[Path]:
    # What another process wrote last long ago counts as closed: it has ended, or begins a new file.
    found = []
    for path in folder.glob("*.jsonl"):
        with suppress(FileNotFoundError):
            found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found)]


def _identity(path: Path, file: BinaryIO) -> str | None:
    """A file's name for ever; None while it has no whole line."""
    for line in file:
        if not line.endswith(b"\n"):
            return None
        if line != b"\n":
            writer = path.name.split(".", 1)[1].removesuffix("jsonl")
            return writer + hashlib.blake2b(line, digest_size=12).hexdigest()
    return None


def _whole_lines(file: BinaryIO, position: int, most: int) -> bytes:
    file.seek(position)
    data = file.read(min(most, _ends_at(file)))
    if len(data) >= most and not data.endswith(b"\n"):
        data += file.readline()
    return data[: data.rfind(b"\n") + 1]


def _ends_at(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _is_whole(path: Path, cursor: Cursor) -> bool:
    try:
        with path.open("rb") as file:
            name = _identity(path, file)
            return name is not None and not _whole_lines(file, cursor.get(name, 0), 2**20)
    except FileNotFoundError:
        return False


def _missing(path: Path, cursor: Cursor) -> int:
    """How many lines of a file are behind the cursor."""
    try:
        with path.open("rb") as file:
            name = _identity(path, file)
            file.seek(cursor.get(name or "", 0))
            return sum(1 for line in file if line != b"\n")
    except FileNotFoundError:
        return 0
