"""What a table's metadata say, straight from Iceberg's SQL catalog: a known answer must not wait for pyiceberg's import.

The catalog's table and the metadata file are what pyiceberg's `SqlCatalog` and the Iceberg specification say they are;
a metadata file never changes, so what it says is kept.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from jupyter_mlp.store import catalog_sql
from jupyter_mlp.store.catalog_sql import NAME, Place

IN_PLACE = "mlp.files-in-place"  # in a version's summary: some of its files lie outside the lake
_LOCATION = (
    "SELECT metadata_location FROM iceberg_tables WHERE catalog_name = :catalog AND table_namespace = :space AND table_name = :table"
)
_NAMES = "SELECT table_namespace, table_name FROM iceberg_tables WHERE catalog_name = :catalog"
_LOOKS = 20


class Facts(NamedTuple):
    """Of a table: its newest version, all it has, and those with files in place."""

    current: str | None = None
    snapshots: frozenset[str] = frozenset()
    in_place: frozenset[str] = frozenset()


def pointer(place: Place, space: str, table: str) -> str | None:
    """Return where the metadata of a table are now; None when there is no such table."""
    found = catalog_sql.rows(place, "iceberg_tables", _LOCATION, {"catalog": NAME, "space": space, "table": table})
    return str(found[0][0]) if found else None


def names(place: Place) -> list[tuple[str, str]]:
    """Return (namespace, name) of every table."""
    return [(str(space), str(table)) for space, table in catalog_sql.rows(place, "iceberg_tables", _NAMES, {"catalog": NAME})]


def facts(place: Place, space: str, table: str) -> Facts:
    """Return what the metadata of a table say now."""
    for attempt in range(_LOOKS):
        location = pointer(place, space, table)
        try:
            return _facts(location) if location else Facts()
        except FileNotFoundError:  # between the pointer and its file a slow reader may be overtaken by many commits
            if attempt == _LOOKS - 1:
                raise
    return Facts()


def local_path(uri: str) -> str:
    """Return the path that a file's URI names; as pyiceberg does it, nothing in it is an escape (`a%20b` has a percent sign)."""
    return "/" + uri.removeprefix("file:").lstrip("/") if uri.startswith("file:") else uri


def local_uri(path: Path | str) -> str:
    """Return the URI of a path."""
    return f"file://{path}"


@lru_cache(256)
def _facts(location: str) -> Facts:
    metadata = json.loads(Path(local_path(location)).read_text(encoding="utf-8"))
    found = metadata.get("current-snapshot-id")
    snapshots = metadata.get("snapshots", [])
    return Facts(
        None if found in (None, -1) else str(found),
        frozenset(str(one["snapshot-id"]) for one in snapshots),
        frozenset(str(one["snapshot-id"]) for one in snapshots if one.get("summary", {}).get(IN_PLACE) == "true"),
    )
