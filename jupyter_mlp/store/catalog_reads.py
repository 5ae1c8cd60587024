"""What a table's metadata say, straight from Iceberg's SQL catalog: a known answer must not wait for pyiceberg's import.

The catalog's table and the metadata file are what pyiceberg's `SqlCatalog` and the Iceberg specification say they are;
a metadata file never changes, so what it says is kept.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlparse

IN_PLACE = "mlp.files-in-place"  # in a version's summary: some of its files lie outside the lake
_LOCATION = "SELECT metadata_location FROM iceberg_tables WHERE catalog_name = 'mlp' AND table_namespace = :space AND table_name = :table"
_LOOKS = 20


@dataclass(frozen=True)
class Facts:
    """Of a table: its newest version, all it has, and those with files in place."""

    current: str | None = None
    snapshots: frozenset[str] = frozenset()
    in_place: frozenset[str] = frozenset()


def pointer(place: Path | str, space: str, table: str) -> str | None:
    """Return where the metadata of a table are now; None when there is no such table.

    Args:
        place: the lake's folder, or the URL of the Postgres that holds the catalog.
    """
    wanted = {"space": space, "table": table}
    if isinstance(place, str):
        from jupyter_mlp.store import servers

        rows = servers.rows_if_made(place, "iceberg_tables", _LOCATION, wanted)
        return str(rows[0][0]) if rows else None
    if not (place / "catalog.db").exists():
        return None
    try:
        with closing(sqlite3.connect(f"{(place / 'catalog.db').as_uri()}?mode=ro", timeout=30, uri=True)) as catalog:
            found = catalog.execute(_LOCATION, wanted).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        raise
    return str(found[0][0]) if found else None


def facts(place: Path | str, space: str, table: str) -> Facts:
    """Return what the metadata of a table say now."""
    for attempt in range(_LOOKS):
        location = pointer(place, space, table)
        try:
            return _facts(location) if location else Facts()
        except FileNotFoundError:  # between the pointer and its file a slow reader may be overtaken by many commits
            if attempt == _LOOKS - 1:
                raise
    return Facts()


@lru_cache(256)
def _facts(location: str) -> Facts:
    metadata = json.loads(Path(unquote(urlparse(location).path)).read_text(encoding="utf-8"))
    found = metadata.get("current-snapshot-id")
    snapshots = metadata.get("snapshots", [])
    return Facts(
        None if found in (None, -1) else str(found),
        frozenset(str(one["snapshot-id"]) for one in snapshots),
        frozenset(str(one["snapshot-id"]) for one in snapshots if one.get("summary", {}).get(IN_PLACE) == "true"),
    )
