"""Where the lake's tables are looked up: Iceberg's SQL catalog, in a file of the lake or in the team's Postgres.

The catalog swaps one pointer a commit (compare-and-swap), so a history is linear whoever writes. But a loser of that race has
read and written the table's metadata for nothing, and with many writers some lose every time. So our own writers queue up
before they begin: for a file of this machine with a lock file, for Postgres with an advisory lock, which the server hands on
in order of arrival. Both are let go by the system when their holder dies. Writers that do not know of the queue (another
tool on the same catalog) still meet the compare-and-swap.
"""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jupyter_mlp.core.errors import ConflictError, StorageError, storage_error
from jupyter_mlp.core.identity import digest
from jupyter_mlp.core.imports import importing
from jupyter_mlp.store import catalog_reads, catalog_sql, servers, sqlite_errors

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata

_SWAP = (
    "UPDATE iceberg_tables SET metadata_location = :new, previous_metadata_location = :old WHERE catalog_name = :catalog"
    " AND table_namespace = :space AND table_name = :name AND metadata_location = :old"
)
_NEW_SPACE = (
    "INSERT INTO iceberg_namespace_properties (catalog_name, namespace, property_key, property_value)"
    " VALUES (:catalog, :space, 'exists', 'true') ON CONFLICT DO NOTHING"
)
_NEW_TABLE = (
    "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location)"
    " VALUES (:catalog, :space, :name, :location) ON CONFLICT DO NOTHING"
)
_LOOKS = 20
_PATIENCE_S = 300.0  # 16 writers that each commit in a second wait 15 s; whoever waits this long waits for a stuck one


class Catalog:
    """The catalog of the lake at `root`.

    Args:
        url: of the Postgres that holds it; empty for the file `catalog.db` of the lake.
    """

    def __init__(self, root: Path, url: str = "") -> None:
        self._root = root
        self._url = url
        self._tables: dict[tuple[str, str], Table] = {}

    @property
    def place(self) -> Path | str:
        """The lake's folder, or the server's URL."""
        return self._url or self._root

    @property
    def made(self) -> bool:
        """Whether there is one; a server's is made when it is first looked at."""
        return bool(self._url) or (self._root / catalog_sql.FILE).exists()

    @property
    def _properties(self) -> dict[str, str]:
        return {"warehouse": catalog_reads.local_uri(self._root)}

    @cached_property
    def iceberg(self) -> Any:
        """Pyiceberg's own object, for what it does beside reading and swapping pointers."""
        from pyiceberg.catalog.sql import SqlCatalog
        from sqlalchemy.exc import DBAPIError

        try:
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise storage_error(error, "making the lake") from error
        options = {**self._properties, "pool_pre_ping": "true"}
        if self._url:
            with self.queue("the catalog itself"), servers.plain_errors():
                return SqlCatalog(catalog_sql.NAME, uri=servers.normal(self._url), **options)
        uri = f"sqlite:///{quote(str(self._root))}/{catalog_sql.FILE}?timeout={sqlite_errors.BUSY_S}"
        # Two kernels may open a new lake at once: the loser's CREATE TABLE fails, and its next look finds the tables.
        for attempt in range(3):
            try:
                return SqlCatalog(catalog_sql.NAME, uri=uri, **options)
            except DBAPIError as error:
                if attempt == 2 or "already exists" not in str(error):
                    raise sqlite_errors.plain(error.orig, catalog_sql.WHAT, self._root / catalog_sql.FILE) from error
        raise ConflictError("The lake's catalog could not be opened.", "Run it again.")

    def load(self, space: str, name: str) -> Table | None:
        """Return a table as it is now; None when there is none. Its list of versions is read again only when it changed."""
        for attempt in range(_LOOKS):
            location = catalog_reads.pointer(self.place, space, name)
            if location is None:
                self._tables.pop((space, name), None)
                return None
            known = self._tables.get((space, name))
            if known is not None and known.metadata_location == location:
                return known
            try:
                self._tables[space, name] = self._read(space, name, location)
            except FileNotFoundError:  # between the pointer and its file a slow reader may be overtaken by many commits
                if attempt == _LOOKS - 1:
                    raise
        return self._tables.get((space, name))

    def _read(self, space: str, name: str, location: str) -> Table:
        with importing():
            from pyiceberg.io import load_file_io
            from pyiceberg.serializers import FromInputFile
            from pyiceberg.table import Table

        metadata = FromInputFile.table_metadata(load_file_io(self._properties, location).new_input(location))
        io = load_file_io({**self._properties, **metadata.properties}, location)
        return Table((space, name), metadata, location, io, _Later(self))  # type: ignore[arg-type]

    def create(self, space: str, name: str, schema: pa.Schema, properties: Mapping[str, str]) -> Table:
        """Make a table without a version, or return the one that another made first."""
        with importing():
            from pyiceberg.io import load_file_io
            from pyiceberg.io.pyarrow import _pyarrow_to_schema_without_ids
            from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
            from pyiceberg.serializers import ToOutputFile
            from pyiceberg.table.locations import load_location_provider
            from pyiceberg.table.metadata import new_table_metadata
            from pyiceberg.table.sorting import UNSORTED_SORT_ORDER

        self._make()
        place = f"{catalog_reads.local_uri(self._root)}/{space}/{name}"
        columns = _pyarrow_to_schema_without_ids(schema)  # they get their ids with the table
        metadata = new_table_metadata(columns, UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER, place, dict(properties))
        location = load_location_provider(place, dict(properties)).new_table_metadata_file_location()
        output = load_file_io(self._properties, location).new_output(location)
        ToOutputFile.table_metadata(metadata, output)
        row = {"catalog": catalog_sql.NAME, "space": space, "name": name, "location": location}
        with catalog_sql.transaction(self.place) as execute:
            execute(_NEW_SPACE, row)
            is_ours = execute(_NEW_TABLE, row).rowcount == 1
        if not is_ours:
            Path(catalog_reads.local_path(location)).unlink(missing_ok=True)
        found = self.load(space, name)
        if found is None:
            raise ConflictError(f"{space}.{name} was dropped while it was made.", "Run it again.")
        return found

    def _make(self) -> None:
        """Let pyiceberg make its tables where there are none."""
        if not catalog_sql.has(self.place, "iceberg_tables"):  # the last one that it makes
            self.iceberg  # noqa: B018  # opening makes them

    def swap(self, table: Table, metadata: TableMetadata) -> None:
        """Let the catalog point to new metadata, if it still points to those that `table` was loaded with.

        Raises:
            CommitFailedException: it does not.
        """
        from pyiceberg.exceptions import CommitFailedException
        from pyiceberg.serializers import ToOutputFile

        old = table.metadata_location
        version = int(old.rsplit("/", 1)[-1].split("-", 1)[0]) + 1
        new = table.location_provider().new_table_metadata_file_location(version)
        ToOutputFile.table_metadata(metadata, table.io.new_output(new))
        space, name = table.name()
        try:
            with catalog_sql.transaction(self.place) as execute:
                row = {"catalog": catalog_sql.NAME, "space": space, "name": name, "old": old, "new": new}
                moved = execute(_SWAP, row).rowcount == 1
        except StorageError:
            # A server may have swapped although its answer was lost; a file that is busy would only be waited for once more.
            if not self._url or catalog_reads.pointer(self.place, space, name) != new:
                raise
            moved = True
        if not moved:
            table.io.delete(new)
            raise CommitFailedException(f"{space}.{name} has been updated by another process")
        if metadata.properties.get("write.metadata.delete-after-commit.enabled") == "true":
            kept = {entry.metadata_file for entry in metadata.metadata_log}
            for entry in table.metadata.metadata_log:
                if entry.metadata_file not in kept:
                    with suppress(OSError):
                        table.io.delete(entry.metadata_file)

    @contextmanager
    def queue(self, name: str) -> Iterator[None]:
        """Wait for the turn to write the table `name`; one holder at a time, over all processes.

        Raises:
            ConflictError: another writer did not let go for five minutes.
        """
        with self._server_lock(name) if self._url else self._file_lock(name):
            yield

    @contextmanager
    def _file_lock(self, name: str) -> Iterator[None]:
        folder = self._root / ".queues"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(folder / digest(name)[:32], os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise storage_error(error, f"writing {name}") from error
        try:
            _take(handle, name)
            os.pwrite(handle, f"{os.getpid():<20}".encode(), 0)
            yield
        finally:
            os.close(handle)  # which lets go

    @contextmanager
    def _server_lock(self, name: str) -> Iterator[None]:
        from sqlalchemy import text

        number = int(digest("mlp queue", name)[:15], 16)
        with servers.plain_errors():
            connection = servers.engine(self._url).connect()
        try:
            with servers.plain_errors():
                connection.execute(text(f"SET LOCAL lock_timeout = {int(_PATIENCE_S * 1000)}"))
                try:
                    connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": number})
                except Exception as error:
                    if "lock timeout" in str(error):
                        raise _stuck(name, "") from error
                    raise
            yield
        finally:
            with suppress(Exception):  # a connection that broke has let go already, and what was committed is committed
                connection.close()


class _Later:
    """Pyiceberg's catalog for a table that was loaded without it: opened when something of it is asked for."""

    def __init__(self, book: Catalog) -> None:
        self._book = book

    def __getattr__(self, name: str) -> Any:
        return getattr(self._book.iceberg, name)


def _take(handle: int, name: str) -> None:
    """Poll instead of waiting in the kernel: Ctrl-C works, and whoever waits too long is told for whom."""
    deadline, pause = time.monotonic() + _PATIENCE_S, 0.001
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise _stuck(name, f" (process {os.pread(handle, 20, 0).decode().strip()})") from None
            time.sleep(pause * random.uniform(0.5, 1.5))  # nobody is to guess it, only to differ
            pause = min(pause * 1.5, 0.02)


def _stuck(name: str, who: str) -> ConflictError:
    return ConflictError(
        f"{name} has been held by another writer{who} for {_PATIENCE_S / 60:.0f} minutes.", "End that one, then run the cell again."
    )
