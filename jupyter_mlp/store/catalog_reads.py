"""The newest snapshot of a table, straight from pyiceberg's SQL catalog: a known answer must not wait for its import.

The catalog's table and the metadata file are what pyiceberg's `SqlCatalog` and the Iceberg specification say they are;
a metadata file never changes, so what it says is kept.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlparse

_LOCATION = "SELECT metadata_location FROM iceberg_tables WHERE catalog_name = 'mlp' AND table_namespace = ? AND table_name = ?"


def current_snapshot(root: Path, space: str, table: str) -> str | None:
    """Return the newest snapshot of a table in the lake at `root`; None when there is no such table or it has none."""
    try:
        with closing(sqlite3.connect(f"{(root / 'catalog.db').as_uri()}?mode=ro", timeout=30, uri=True)) as catalog:
            rows = catalog.execute(_LOCATION, (space, table)).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        raise
    return _snapshot_of(rows[0][0]) if rows else None


@lru_cache(4096)
def _snapshot_of(location: str) -> str | None:
    metadata = json.loads(Path(unquote(urlparse(location).path)).read_text(encoding="utf-8"))
    found = metadata.get("current-snapshot-id")
    return None if found in (None, -1) else str(found)
