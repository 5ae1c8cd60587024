"""An exported snapshot: one zip that another machine can verify.

manifest.json   the snapshot's own: its hash is the snapshot's name
data.json       what the data files make up (store/carried.py); only where the data was asked for
<sha256>        each file of the snapshot, compressed; each data file as it is (Parquet is compressed already)
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError, NotFoundError
from jupyter_mlp.store import carried, snapshots
from jupyter_mlp.store.artifacts import publish_file
from jupyter_mlp.store.carried import NOTHING, Carried
from jupyter_mlp.store.gauges import Gauge, Progress
from jupyter_mlp.store.snapshots import Stored, hash_of
from jupyter_mlp.store.workspace import Workspace

_MANIFEST, _DATA = "manifest.json", "data.json"
_LARGEST = 512 * 2**20  # bytes of a snapshot's own files, unpacked
_LARGEST_MANIFEST = 16 * 2**20
_MOST_RATIO, _SMALL = 200, 64 * 2**20  # what packs better than to a two-hundredth is no notebook, where it is large
_MOST_FILES = 2_000
_NO_SNAPSHOT = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, RecursionError),
    *(KeyError, ValueError, TypeError, AttributeError, IndexError),
)


@dataclass(frozen=True)
class Archive:
    """An exported snapshot that was found sound.

    Attributes:
        carried: the data inside; none in a file that was exported without.
    """

    path: Path
    snapshot: Stored
    carried: Carried = NOTHING

    def unpack(self, workspace: Workspace, folder: Path, progress: Progress | None = None) -> None:
        """Put the tables and datasets inside into a workspace that has none of them, and the plain files into a folder.

        Raises:
            InvalidInputError: what is inside is not what it is called.
        """
        with zipfile.ZipFile(self.path) as archive:
            gauge = Gauge("unpacking", sum(archive.getinfo(one).file_size for one in self.carried.members), progress)

            def extract(digest: str, target: Path) -> None:
                with archive.open(digest) as member:
                    carried.write_member(gauge.read(member), target, digest)

            carried.unpack(self.carried, extract, workspace, folder)


def export(
    snapshot: Stored, path: Path, data: Carried = NOTHING, sources: Mapping[str, Path] | None = None, progress: Progress | None = None
) -> Path:
    """Write a snapshot as one file and return its path.

    Args:
        data, sources: the data to put inside, and where the file of each hash lies.

    Raises:
        InvalidInputError: it has too many files for a snapshot.
    """
    if len(data.hashes) + len(snapshot.files) + 2 > _MOST_FILES:
        raise InvalidInputError(
            f"Its data is in {len(data.hashes):,} files; an export holds at most {_MOST_FILES:,}.",
            "Compact the tables (mlp.compact), take the snapshot again, then export that one.",
        )

    places = {name: (sources or {})[name] for name in sorted(data.hashes - snapshot.files.keys())}
    gauge = Gauge("writing", sum(place.stat().st_size for place in places.values()), progress)

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_MANIFEST, snapshot.manifest)
            for name, held in sorted(snapshot.files.items()):
                archive.writestr(name, held)
            if data != NOTHING:
                archive.writestr(_DATA, data.to_json())
            for name, place in places.items():
                member = zipfile.ZipInfo.from_file(place, name)  # stored as it is
                with place.open("rb") as source, archive.open(member, "w") as target:
                    for piece in gauge.read(source):
                        target.write(piece)

    publish_file(path, write)
    return path


def open_file(path: Path) -> Archive:
    """Return what an exported file holds; nothing is unpacked to disk, and the snapshot's bytes are checked against their hashes.

    Raises:
        NotFoundError: there is no such file. InvalidInputError: it is no snapshot, or was changed.
    """
    try:
        with path.open("rb") as handle:
            _bounded(handle, path)
            with zipfile.ZipFile(handle) as archive:
                return _checked(archive, path)
    except FileNotFoundError:
        raise NotFoundError(f"There is no file {path}.", "Give snapshot:ID, or the path of an exported snapshot.") from None
    except (InvalidInputError, MemoryError):
        raise
    except _NO_SNAPSHOT as error:
        raise InvalidInputError(f"{path} is not a snapshot: {str(error)[:80]}", "Give a file that Snapshot.export() wrote.") from error


def _checked(archive: zipfile.ZipFile, path: Path) -> Archive:
    members = _members(archive, path)
    left = _LARGEST

    def get(digest: str) -> bytes:
        nonlocal left
        left -= members[digest].file_size
        if left < 0:
            raise _too_large(path)
        data = archive.read(members[digest])
        if hash_of(data) != digest:
            raise InvalidInputError(f"{path} was changed: {digest[:12]} does not hold what its name says.", "Ask for it again.")
        return data

    read = snapshots.read(archive.read(members[_MANIFEST]), get)
    data = carried.of_json(archive.read(members[_DATA])) if _DATA in members else NOTHING
    named = {_MANIFEST, *read.files, *data.hashes} | ({_DATA} if _DATA in members else set())
    if named != members.keys():
        raise InvalidInputError(f"{path} holds files that its manifest does not name.", "Do not use this file; ask for it again.")
    return Archive(path, read, data)


def _bounded(handle: Any, path: Path) -> None:
    """Refuse a file whose list of members alone would take long to read: the list's size stands at the file's end."""
    size = handle.seek(0, 2)
    handle.seek(max(0, size - 65_557))
    tail = handle.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise InvalidInputError(f"{path} is not a snapshot: it has no list of members.", "Give a file that Snapshot.export() wrote.")
    count, listed = int.from_bytes(tail[at + 10 : at + 12], "little"), int.from_bytes(tail[at + 12 : at + 16], "little")
    if count > _MOST_FILES or listed > _MOST_FILES * 256:
        raise _too_large(path)
    handle.seek(0)


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The members by name: plain files named by their hash, each once, of a size that somebody meant."""
    found: dict[str, zipfile.ZipInfo] = {}
    for one in archive.infolist():
        kind = one.external_attr >> 28
        plain = kind in (0, 0o10) and not one.is_dir() and not one.flag_bits & 1
        if not plain or one.filename in found or not (one.filename in (_MANIFEST, _DATA) or snapshots.is_hash(one.filename)):
            hint = "Do not use this file; a snapshot has plain files that are named by their hashes."
            raise InvalidInputError(f"{path} is not a snapshot: it has a member {one.filename[:60]!r}.", hint)
        if one.file_size > _MOST_RATIO * max(one.compress_size, _SMALL):
            raise _too_large(path)
        found[one.filename] = one
    packed = sum(one.file_size for one in found.values() if one.compress_type != zipfile.ZIP_STORED)
    as_it_is = sum(one.file_size for one in found.values() if one.compress_type == zipfile.ZIP_STORED)
    told = max((found[name].file_size for name in (_MANIFEST, _DATA) if name in found), default=0)
    if packed > _LARGEST or as_it_is > path.stat().st_size or told > _LARGEST_MANIFEST:
        raise _too_large(path)
    return found


def _too_large(path: Path) -> InvalidInputError:
    return InvalidInputError(f"{path} is too large for a snapshot.", "Ask for it to be exported again.")
