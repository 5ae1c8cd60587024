"""Files that we do not own: what identifies them, and whether one that a table took in place is still what it was."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote

from jupyter_mlp.core.errors import StorageError
from jupyter_mlp.core.identity import digest
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store.workspace import Workspace

_TIMES = (
    *("mtime", "LastModified", "last_modified", "updated", "etag", "ETag", "created", "date_time", "CRC", "md5Hash"),
    *("Last-Modified", "Content-MD5", "content_md5", "modify"),  # of HTTP, Azure and FTP; new ones stand behind those of known files
)


def public(text: str) -> str:
    """A URL, or a text with URLs in it, without users, passwords and queries: what records and messages may say."""
    links = re.sub(r"(?<=://)[^/?#\s'\"]*@", "", text)
    return re.sub(r"(\w+://[^?\s'\"]*)\?[^\s'\"]*", r"\1", links)


def fingerprint(system: Any, path: str, footer: bool | None = False, info: Mapping[str, Any] | None = None) -> Ref:
    """Return the exact reference of a file on an fsspec filesystem: its size and time, or what the filesystem has instead.

    Args:
        footer: look at the file's Parquet footer too. It holds place, size and bounds of every column's pieces, so that
            other rows of the same length, written with the old time, are noticed. None: only where the filesystem has nothing
            but the size.
        info: what the filesystem says of the file, where it was asked already.
    """
    info = system.info(path) if info is None else info
    times = [str(info[name]) for name in _TIMES if name in info]
    told = [info.get("size"), times, _footer(system, path) if footer or (footer is None and not times) else ""]
    protocol = system.protocol if isinstance(system.protocol, str) else system.protocol[0]
    if protocol not in ("file", "local"):
        path = path if "://" in path else f"{protocol}://{path.lstrip('/')}"
        _, asked, query = path.partition("?")
        told += [query] if asked else []  # it may hold a key, and may choose the rows too: only its digest is kept
        path = public(path)
    return Ref("file", quote(path, safe="/:._-"), digest(*told))


def check(workspace: Workspace, name: str, version: str) -> None:
    """See that the files that a table's version has in place are what they were when they were taken.

    Raises:
        StorageError: one changed, is gone, or no record says any more what it was; the message names it.
    """
    outside = workspace.lake.outside(name, version)
    if outside:
        import fsspec

        system = fsspec.filesystem("file")
        known = _taken(workspace, name, version, outside)
        for path in outside:
            if path not in known:
                raise StorageError(
                    f"{path}, which {name}@{version} has in place, may have changed: no record says what it was.",
                    _AGAIN.format(name=name, path=path),
                )
            if not os.path.exists(path):
                raise StorageError(f"{path} is gone, which {name}@{version} has in place.", _AGAIN.format(name=name, path=path))
            if fingerprint(system, path, footer=True) != known[path]:
                taken = _first_with(workspace, name, version, known[path])
                at = datetime.datetime.fromtimestamp(os.path.getmtime(path)).astimezone()
                file = os.path.basename(path)
                raise StorageError(
                    f"{file} changed since version {taken} of {name} took it in place: it was last written {at:%Y-%m-%d %H:%M:%S}.",
                    _AGAIN.format(name=name, path=path),
                )


def carried(workspace: Workspace, name: str, version: str) -> list[Ref]:
    """Return the files in place that what is added to a version keeps, as they were taken: that version may be forgotten."""
    outside = workspace.lake.outside(name, version)
    return list(_taken(workspace, name, version, outside).values()) if outside else []


_AGAIN = "%mlp_table {name} {path} --in-place takes it as it is now; without --in-place it is copied, and nothing can change it."


def _taken(workspace: Workspace, name: str, version: str, paths: Iterable[str]) -> dict[str, Ref]:
    """As what each file was taken: from the record of this version, and of those it was added to where that one is older."""
    found: dict[str, Ref] = {}
    wanted = set(paths)
    for ancestor in workspace.lake.ancestors(name, version):
        for ref in _used(workspace, name, ancestor):
            path = unquote(ref.name)
            if ref.kind == "file" and path in wanted:
                found.setdefault(path, ref)
        if len(found) == len(wanted):
            break
    return found


def _first_with(workspace: Workspace, name: str, version: str, ref: Ref) -> str:
    """The oldest version with this file as it was then: the one that took it, as far as records know."""
    return [ancestor for ancestor in workspace.lake.ancestors(name, version) if ref in _used(workspace, name, ancestor)][-1]


def _used(workspace: Workspace, name: str, version: str) -> tuple[Ref, ...]:
    maker = workspace.activities.maker(Ref("table", name, version))
    return maker.used if maker else ()


def _footer(system: Any, path: str) -> str:
    with system.open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 8))
        length = int.from_bytes(file.read(8)[:4], "little")
        file.seek(max(0, size - 8 - length))
        return digest(file.read(length + 8).hex())
