"""One database, two drivers: SQL text with `:name` parameters runs on both.

SQLite goes straight to the standard library: importing SQLAlchemy takes 1.4 times as long as `import pyspark.sql`,
and the first magic of a kernel must not wait for it. Any other URL (Postgres for teams) goes through SQLAlchemy,
and so do all migrations (alembic), on both.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from jupyter_mlp.core.errors import StorageError
from jupyter_mlp.store import sqlite_errors

HEAD = "0005"  # the newest migration; a test holds it equal to alembic's own idea of the head
_WHAT = "The records database"
_migrating = threading.Lock()  # alembic keeps what it works on in its module: one thread at a time

Row = Mapping[str, Any]


class Connection(Protocol):
    """An open transaction."""

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Run one statement and return its rows."""
        ...

    def execute_many(self, sql: str, parameters: Sequence[Mapping[str, Any]]) -> None:
        """Run one statement once per set of parameters."""
        ...


class Database:
    """Transactions on the records database at `url`, migrated to the newest schema before first use."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._ready = False
        self._here = threading.local()  # .moment: the read transaction that this thread has open

    @property
    def path(self) -> Path | None:
        """The file of an SQLite database; None for servers."""
        return Path(self.url.removeprefix("sqlite:///")) if self.url.startswith("sqlite:///") else None

    @contextmanager
    def transaction(self, write: bool = False) -> Iterator[Connection]:
        """Open a transaction, committed at the end and rolled back on any exception."""
        moment = getattr(self._here, "moment", None)
        if moment is not None and not write:
            yield moment
            return
        if not self._ready:
            with _migrating:
                self._migrate_if_old()
            self._ready = True
        with self._sqlite(write) if self.path else self._server(write) as connection:
            yield connection

    @contextmanager
    def moment(self) -> Iterator[None]:
        """Let all that this thread reads in the block be of one moment, through one connection: what it writes there it does not see."""
        if getattr(self._here, "moment", None) is not None:
            yield
            return
        with self.transaction() as connection:
            self._here.moment = connection
            try:
                yield
            finally:
                self._here.moment = None

    def _migrate_if_old(self) -> None:
        if self._version() == HEAD:
            return
        from jupyter_mlp.store.migrations import upgrade

        if self.path:
            _writable_folder(self.path.parent)
        upgrade(f"sqlite:///{quote(str(self.path))}" if self.path else self.url)

    def _version(self) -> str | None:
        if self.path:
            if not self.path.exists():
                return None
            try:
                with self._sqlite(False) as connection:
                    rows = connection.execute("SELECT version_num FROM alembic_version")
                    return str(rows[0]["version_num"]) if rows else None
            except StorageError as error:
                if "no such table" in str(error):
                    return None
                raise
        with self._server(False) as connection:
            if connection.execute("SELECT to_regclass('alembic_version') AS found")[0]["found"] is None:
                return None
            rows = connection.execute("SELECT version_num FROM alembic_version")
            return str(rows[0]["version_num"]) if rows else None

    @contextmanager
    def _sqlite(self, write: bool) -> Iterator[Connection]:
        assert self.path is not None
        # On a read-only disk SQLite may not make the files beside the database that it wants even for reading.
        frozen = not write and not os.access(self.path.parent, os.W_OK) and not _has_log(self.path)
        where = f"{self.path.absolute().as_uri()}?immutable=1" if frozen else str(self.path)
        try:
            raw = sqlite3.connect(where, timeout=sqlite_errors.BUSY_S, isolation_level=None, uri=frozen)
        except sqlite3.OperationalError as error:
            raise sqlite_errors.plain(error, _WHAT, self.path) from error
        raw.row_factory = sqlite3.Row
        try:
            raw.execute("PRAGMA foreign_keys = ON")
            raw.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            yield _SqliteConnection(raw)
            raw.execute("COMMIT")
        except sqlite3.Error as error:
            _rollback(raw)
            raise sqlite_errors.plain(error, _WHAT, self.path) from error
        except BaseException:
            _rollback(raw)
            raise
        finally:
            raw.close()

    @contextmanager
    def _server(self, write: bool) -> Iterator[Connection]:
        from jupyter_mlp.store import servers

        engine = servers.engine(self.url)
        if not write:  # all that is read together is of one moment, as it is in SQLite
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        with servers.plain_errors(), engine.begin() as raw:
            yield _ServerConnection(raw)


class _SqliteConnection:
    def __init__(self, raw: sqlite3.Connection) -> None:
        self._raw = raw

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        return [dict(row) for row in self._raw.execute(sql, dict(parameters or {}))]

    def execute_many(self, sql: str, parameters: Sequence[Mapping[str, Any]]) -> None:
        self._raw.executemany(sql, [dict(p) for p in parameters])


class _ServerConnection:
    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        from sqlalchemy import text

        result = self._raw.execute(text(sql), dict(parameters or {}))
        return [dict(row) for row in result.mappings()] if result.returns_rows else []

    def execute_many(self, sql: str, parameters: Sequence[Mapping[str, Any]]) -> None:
        from sqlalchemy import text

        if parameters:
            self._raw.execute(text(sql), [dict(p) for p in parameters])


def _has_log(path: Path) -> bool:
    """Whether there are changes that stand in the write-ahead log only."""
    log = path.with_name(path.name + "-wal")
    return log.exists() and log.stat().st_size > 0


def _rollback(raw: sqlite3.Connection) -> None:
    if raw.in_transaction:
        raw.execute("ROLLBACK")


def _writable_folder(folder: Path) -> None:
    from jupyter_mlp.core.errors import storage_error

    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise storage_error(error, "making the workspace") from error
