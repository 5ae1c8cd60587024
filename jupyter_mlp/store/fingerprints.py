"""Files that we do not own: what identifies them, and whether one that a table took in place is still what it was."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, unquote

from jupyter_mlp.core.errors import StorageError
from jupyter_mlp.core.identity import digest
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store.workspace import Workspace

_TIMES = ("mtime", "LastModified", "last_modified", "updated", "etag", "ETag", "created", "date_time", "CRC", "md5Hash")


def public(text: str) -> str:
    """A URL, or a text with URLs in it, without users, passwords and queries: what records and messages may say."""
    links = re.sub(r"(?<=://)[^/?#\s'\"]*@", "", text)
    return re.sub(r"(\w+://[^?\s'\"]*)\?[^\s'\"]*", r"\1", links)


def fingerprint(system: Any, path: str, footer: bool = False) -> Ref:
    """Return the exact reference of a file on an fsspec filesystem: its size and time, or what the filesystem has instead.

    Args:
        footer: look at the file's Parquet footer too. It holds place, size and bounds of every column's pieces, so that
            other rows of the same length, written with the old time, are noticed.
    """
    info = system.info(path)
    told = [info.get("size"), [str(info[name]) for name in _TIMES if name in info], _footer(system, path) if footer else ""]
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
        StorageError: one changed or is gone; the message names it.
    """
    outside = workspace.lake.outside(name, version)
    if outside:
        import fsspec

        system = fsspec.filesystem("file")
        for path, (taken, ref) in _taken(workspace, name, version, outside).items():
            if not os.path.exists(path):
                raise StorageError(f"{path} is gone, which {name}@{version} has in place.", _AGAIN.format(name=name, path=path))
            if fingerprint(system, path, footer=True) != ref:
                at = datetime.datetime.fromtimestamp(os.path.getmtime(path)).astimezone()
                file = os.path.basename(path)
                raise StorageError(
                    f"{file} changed since version {taken} of {name} took it in place: it was last written {at:%Y-%m-%d %H:%M:%S}.",
                    _AGAIN.format(name=name, path=path),
                )


_AGAIN = "%mlp_table {name} {path} --in-place takes it as it is now; without --in-place it is copied, and nothing can change it."


def _taken(workspace: Workspace, name: str, version: str, paths: Iterable[str]) -> dict[str, tuple[str, Ref]]:
    """Which version took each file, and as what: from the records of this version and of those it was added to."""
    found: dict[str, tuple[str, Ref]] = {}
    wanted = set(paths)
    for ancestor in workspace.lake.ancestors(name, version):
        maker = workspace.activities.maker(Ref("table", name, ancestor))
        for ref in maker.used if maker else ():
            path = unquote(ref.name)
            if ref.kind == "file" and path in wanted and path not in found:
                found[path] = (ancestor, ref)
        if len(found) == len(wanted):
            break
    return found


def _footer(system: Any, path: str) -> str:
    with system.open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 8))
        length = int.from_bytes(file.read(8)[:4], "little")
        file.seek(max(0, size - 8 - length))
        return digest(file.read(length + 8).hex())
