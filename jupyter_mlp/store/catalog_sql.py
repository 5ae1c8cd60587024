"""Plain SQL to the tables of Iceberg's SQL catalog, in the file of a lake or in the team's Postgres.

pyiceberg's own catalog object imports SQLAlchemy's mapper, a third of a second that every new notebook's first query would wait for.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from jupyter_mlp.store import sqlite_errors

NAME = "mlp"  # what our catalog is called in its own tables
FILE = "catalog.db"
WHAT = "The lake's catalog"  # what its file is called in what is said to users

Place = Path | str  # the lake's folder, or the server's URL
Execute = Callable[[str, Mapping[str, Any]], Any]  # returns what has .rowcount


def rows(place: Place, table: str, sql: str, values: Mapping[str, Any]) -> Sequence[Any]:
    """Return what a query gives; nothing where there is no catalog, or not the table it asks."""
    if isinstance(place, str):
        from jupyter_mlp.store import servers

        return servers.rows_if_made(place, table, sql, values)
    path = place / FILE
    if not path.exists():
        return []
    try:
        # Not mode=ro: where a writer was killed, whoever comes next takes back its half change, a reader too.
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", timeout=sqlite_errors.BUSY_S, uri=True)) as connection:
            return connection.execute(sql, values).fetchall()
    except sqlite3.Error as error:
        if "no such table" in str(error):
            return []
        raise sqlite_errors.plain(error, WHAT, path) from error


def has(place: Place, table: str) -> bool:
    """Whether a table of the catalog was made."""
    return bool(rows(place, table, f"SELECT count(*) FROM {table}", {}))


@contextmanager
def transaction(place: Place) -> Iterator[Execute]:
    """Give a function that executes statements; all of them hold, or none.

    Raises:
        StorageError: the server cannot be reached, or the file cannot be written.
    """
    if isinstance(place, str):
        from sqlalchemy import text

        from jupyter_mlp.store import servers

        with servers.plain_errors(), servers.engine(place).begin() as connection:
            yield lambda sql, values: connection.execute(text(sql), values)
        return
    path = place / FILE
    with sqlite_errors.plain_errors(WHAT, path), closing(sqlite3.connect(path, timeout=sqlite_errors.BUSY_S)) as connection, connection:
        yield connection.execute
