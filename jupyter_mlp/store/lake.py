"""The lake: Iceberg tables through pyiceberg, every version a snapshot, every version referred to a tag.

The tables of users live in their own namespaces (`lake.flights`); dataset versions live in the namespace `datasets`.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.errors import ConflictError, InvalidInputError, MLPError, NotFoundError, nearest, storage_error
from jupyter_mlp.store import catalog_guard, catalog_reads, writers
from jupyter_mlp.store.catalog import Catalog
from jupyter_mlp.store.catalog_reads import local_path, local_uri
from jupyter_mlp.store.storable import storable

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.table import Table

    from jupyter_mlp.store.commits import Commit, Elsewhere

DATASETS = "datasets"
_ROWS_PER_GROUP = 131_072  # small enough to shuffle by row group, large enough to decode fast
_ATTEMPTS = 20
_PROPERTIES = {
    # Every commit writes the list of all versions anew (2 MB at 3,200 of them): without this all these lists would stay.
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "50",
}


class Lake:
    """Tables under one folder.

    Args:
        parent: a lake whose tables can be read from here but are never written.
        url: of the Postgres that holds the catalog; empty for a file of the lake.
    """

    def __init__(self, root: Path, parent: Lake | None = None, url: str = "") -> None:
        self.root = root
        self._book = Catalog(root, url)
        self._parent = parent
        self._leases: dict[str, ExitStack] = {}  # the first staged file of each write -> what keeps a clean-up away

    @property
    def catalog(self) -> Any:
        """The catalog as pyiceberg sees it."""
        return self._book.iceberg

    @property
    def place(self) -> Path | str:
        """Where the catalog is: the folder of its file, or the URL of its server."""
        return self._book.place

    def queue(self, name: str) -> AbstractContextManager[None]:
        """Wait for the turn to write a table; whoever commits by other ways than `add` takes it too."""
        return self._book.queue(name)

    def names(self) -> list[str]:
        """Return the names of the users' tables, sorted, each with its namespace."""
        if not self._book.made:
            return self._parent.names() if self._parent else []
        mine = {f"{space}.{table}" for space, table in catalog_reads.names(self._book.place) if space != DATASETS}
        return sorted(mine | set(self._parent.names() if self._parent else ()))

    def all_names(self) -> list[str]:
        """Return the names of all tables of this lake alone, those of dataset versions too."""
        if not self._book.made:
            return []
        return sorted(f"{space}.{table}" for space, table in catalog_reads.names(self._book.place))

    def open(self, name: str) -> Table | None:
        """Return a table of this lake alone, None where it has none of that name."""
        return self._own(name)

    def current(self, name: str) -> str | None:
        """Return the newest snapshot of a table; None when there is no such table."""
        found = catalog_reads.facts(self._book.place, *split(name)).current
        return found or (self._parent.current(name) if self._parent else None)

    def version(self, name: str, version: str | None, timestamp: str | None) -> str:
        """Return the snapshot that `VERSION AS OF version` (a snapshot, tag or branch) or `TIMESTAMP AS OF timestamp` means.

        Raises:
            NotFoundError: there is none.
            InvalidInputError: the timestamp cannot be read.
        """
        if version in catalog_reads.facts(self._book.place, *split(name)).snapshots:
            return str(version)
        table = self._find(name)
        if table is None:
            raise NotFoundError(f"No table {name} in the lake.", nearest(name, self.names()))
        if version is not None:
            named = table.snapshot_by_name(version)
            return str(named.snapshot_id) if named else version
        try:
            when = datetime.datetime.fromisoformat(timestamp or "").astimezone()
        except ValueError:
            raise InvalidInputError(f"{timestamp!r} is no time.", "Write TIMESTAMP AS OF '2026-11-25 18:00:00'.") from None
        found = table.snapshot_as_of_timestamp(int(when.timestamp() * 1000))
        if found is None:
            first = snapshot_time(min(s.timestamp_ms for s in table.snapshots()))
            raise NotFoundError(f"The table {name} has no version as old as {timestamp}.", f"Its first is of {first} UTC.")
        return str(found.snapshot_id)

    def files(self, name: str, snapshot: str) -> list[str]:
        """Return the paths of the Parquet files of exactly one snapshot.

        Raises:
            NotFoundError: the table or the snapshot is gone.
            InvalidInputError: the snapshot has delete files, so its data files alone are not its rows.
        """
        tasks = list(self._snapshot(name, snapshot).plan_files())
        if any(task.delete_files for task in tasks):
            raise InvalidInputError(
                f"{name}@{snapshot} was written merge-on-read: its files alone are not its rows.",
                "Compact the table, then read the new version.",
            )
        return sorted(local_path(task.file.file_path) for task in tasks)

    def outside(self, name: str, snapshot: str) -> list[str]:
        """Return the files of a snapshot that were taken in place: they are not ours, and may change."""
        known = catalog_reads.facts(self._book.place, *split(name))
        if snapshot not in known.in_place:
            return self._parent.outside(name, snapshot) if self._parent and snapshot not in known.snapshots else []
        return [path for path in self.files(name, snapshot) if not path.startswith(f"{self.root}/")]

    def ancestors(self, name: str, snapshot: str) -> Iterator[str]:
        """Yield a snapshot and those it came after, newest first."""
        scan = self._snapshot(name, snapshot)
        known = {one.snapshot_id: one.parent_snapshot_id for one in scan.table_metadata.snapshots}
        at: int | None = int(snapshot)
        while at in known:
            yield str(at)
            at = known[at]

    def made_at_ms(self, name: str, snapshot: str) -> int:
        """Return when a snapshot was committed, in milliseconds since 1970."""
        return int(self._snapshot(name, snapshot).snapshot().timestamp_ms)

    def schema(self, name: str, snapshot: str) -> pa.Schema:
        """Return the columns of a snapshot as an Arrow schema."""
        from pyiceberg.io.pyarrow import schema_to_pyarrow

        found: pa.Schema = schema_to_pyarrow(self._snapshot(name, snapshot).projection(), include_field_ids=False)
        return found

    def is_whole(self, name: str, snapshot: str) -> bool:
        """Whether nobody took files of a snapshot away; what lies on another machine is not looked for."""
        try:
            return all(Path(path).exists() for path in self.files(name, snapshot) if Path(path).is_absolute())
        except OSError:  # the lists of its files are gone
            return False

    def newest_files(self, name: str, snapshot: str) -> list[str]:
        """Return the files that were added last, enough to show some rows; how many there are does not matter."""
        scan = self._snapshot(name, snapshot)
        for manifest in scan.snapshot().manifests(scan.io):
            files = [entry.data_file for entry in manifest.fetch_manifest_entry(scan.io, discard_deleted=True)]
            paths = sorted(local_path(file.file_path) for file in files if file.content == 0)
            if paths:
                return paths
        return []

    def rows(self, name: str, snapshot: str) -> int:
        """Return the number of rows of a snapshot."""
        told = self._snapshot(name, snapshot).snapshot().summary
        if told and told.get("total-delete-files", "0") == "0" and told.get("total-records"):
            return int(told["total-records"])  # counting its files takes the longer the more there are
        return sum(task.file.record_count for task in self._snapshot(name, snapshot).plan_files())

    def stage(self, name: str, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> list[str]:
        """Write rows as Parquet files in the table's place and return their paths; no version has them before `add`.

        Raises:
            InvalidInputError: the name is not `namespace.table`.
            StorageError: the workspace cannot be written; the table stays as it was.
        """
        space, table_name = split(name)
        with ExitStack() as lease:
            lease.enter_context(writers.at_work(self.root.parent))
            staged = self._write_files(self.root / space / table_name / "data", batches, schema)
            if staged:
                self._leases[staged[0]] = lease.pop_all()  # until a version has them, or they are discarded
        return staged

    def discard(self, paths: Iterable[str]) -> None:
        """Remove staged files that no version needs."""
        for path in paths:
            Path(path).unlink(missing_ok=True)
            self._end_lease(path)

    @contextmanager
    def leased(self, paths: Sequence[str]) -> Iterator[None]:
        """Keep a clean-up away from staged files until the block ends, however it ends.

        An error leaves the files: whether a version has them may not be known. If none has, a clean-up takes them later.
        """
        try:
            yield
        finally:
            self._end_lease(*paths)

    def _end_lease(self, *paths: str) -> None:
        for path in paths:
            self._leases.pop(path, ExitStack()).close()

    def add(self, name: str, schema: pa.Schema, paths: list[str], append: bool = False, base: str | None = None) -> str:
        """Commit Parquet files that lie in place already as the table's new version; return its snapshot, tagged.

        See `commit`.
        """
        return self.commit(name, schema, paths, append=append, base=base).snapshot

    def commit(
        self,
        name: str,
        schema: pa.Schema,
        paths: Sequence[str],
        *,
        append: bool = False,
        base: str | None = None,
        replaces: str | None = None,
        lying: bool = False,
        known: Elsewhere | None = None,
        noted: Mapping[str, str] | None = None,
    ) -> Commit:
        """Commit Parquet files as the table's new version, behind whoever came first; return what became of it.

        Args:
            paths: of files in the table's place (`stage`), or of files that stay where they are.
            append: add them to what is there then. `base`: the version to add to where only the parent's lake has the table.
            replaces: the only version that these files may replace ("" for none); None replaces whatever is there.
            lying: the files stay where they are, outside the lake.
            known: the version's name and time, where it comes from another lake.
            noted: properties of the table that change with this version or not at all.

        Raises:
            InvalidInputError: the columns do not fit the table's.
            MovedError: another version than `replaces` is there.
            ConflictError: other writers were faster every time.
        """
        from pyiceberg.exceptions import CommitFailedException

        from jupyter_mlp.store import commits

        if append and base and self._parent and self._own(name) is None:
            self.add(name, self._parent.schema(name, base), self._parent.files(name, base))
        uris = [local_uri(path) for path in paths]
        with self._book.queue(name):
            for _ in range(_ATTEMPTS):
                table = self._create_or_load(name, schema)
                try:
                    with _plain_errors(name):
                        catalog_guard.hold(self._book.place, *split(name))
                        made = commits.commit(
                            self._book, table, schema, uris, append=append, replaces=replaces, lying=lying, known=known, noted=noted
                        )
                    self._end_lease(*paths)
                    return made
                except CommitFailedException:
                    continue  # a writer that does not queue was faster: start again from what it left
        raise ConflictError(f"{name} is being written by others: {_ATTEMPTS} attempts lost the race.", "Run it again when they are done.")

    def replace_files(self, name: str, base: str, paths: list[str]) -> str | None:
        """Commit files that hold the rows of version `base` anew; None, and no change, where somebody has written since.

        Raises:
            NotFoundError: there is no such table here.
        """
        from jupyter_mlp.store.commits import MovedError

        table = self._own(name)
        if table is None:
            raise NotFoundError(f"No table {name} in the lake.", nearest(name, self.names()))
        try:
            return self.commit(name, self.schema(name, base), paths, replaces=base).snapshot
        except MovedError:
            return None

    def tag(self, table: Table, snapshot_id: int) -> None:
        """Protect a version that another tool committed and a record now refers to."""
        from pyiceberg.exceptions import CommitFailedException

        from jupyter_mlp.store.commits import FOR_EVER_MS

        with self._book.queue(".".join(table.name())):
            for _ in range(_ATTEMPTS):
                try:
                    table.manage_snapshots().create_tag(snapshot_id, f"mlp-{snapshot_id}", FOR_EVER_MS).commit()
                    return
                except CommitFailedException:
                    table.refresh()
        raise ConflictError("The version could not be tagged: others write the table all the time.", "Run it again.")

    def _create_or_load(self, name: str, schema: pa.Schema) -> Table:
        space, table_name = split(name)
        found = self._book.load(space, table_name)
        if found is not None:
            return found
        with _plain_errors(name):
            return self._book.create(space, table_name, storable(schema), _PROPERTIES)

    def _write_files(self, folder: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> list[str]:
        import pyarrow.dataset as ds

        name = os.urandom(16).hex()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            ds.write_dataset(
                batches,
                folder,
                schema=schema,
                format="parquet",
                file_options=ds.ParquetFileFormat().make_write_options(compression="zstd"),
                basename_template=f"{name}-{{i}}.parquet",
                max_rows_per_group=_ROWS_PER_GROUP,
                max_rows_per_file=_ROWS_PER_GROUP * 64,
                existing_data_behavior="overwrite_or_ignore",
            )
            written = sorted(map(str, folder.glob(f"{name}-*.parquet")))
            for path in written:
                with open(path, "rb") as handle:
                    os.fsync(handle.fileno())
        except BaseException as error:
            self.discard(map(str, folder.glob(f"{name}-*.parquet")))  # half a file only fills the disk
            if isinstance(error, OSError) and not isinstance(error, MLPError):
                raise storage_error(error, "writing the table") from error
            raise
        return written

    def _snapshot(self, name: str, snapshot: str) -> Any:
        table = self._find(name)
        if table is None:
            raise NotFoundError(f"No table {name} in the lake.", nearest(name, self.names()))
        if not snapshot.isdigit() or table.snapshot_by_id(int(snapshot)) is None:
            if self._parent and self._own(name) is not None:
                return self._parent._snapshot(name, snapshot)
            known = [str(s.snapshot_id) for s in table.snapshots()][-3:]
            raise NotFoundError(f"The table {name} has no version {snapshot} (any more).", f"Newest versions: {', '.join(known)}.")
        return table.scan(snapshot_id=int(snapshot))

    def _find(self, name: str) -> Table | None:
        return self._own(name) or (self._parent._find(name) if self._parent else None)

    def _own(self, name: str) -> Table | None:
        if not self._book.made:
            return None
        try:
            space, table = split(name)
        except InvalidInputError:
            return None
        return self._book.load(space, table)


def split(name: str) -> tuple[str, str]:
    """Return (namespace, table) of a table's name; one part alone lives in the namespace `lake`.

    Raises:
        InvalidInputError: it has more than two parts or characters that a table's name cannot have.
    """
    parts = name.lower().split(".")
    parts = ["lake", *parts] if len(parts) == 1 else parts
    if len(parts) != 2 or not all(part.replace("_", "a").isalnum() for part in parts):
        raise InvalidInputError(
            f"{name!r} is not the name of a table.", "Write it like lake.flights: letters, digits and _ on both sides of one dot."
        )
    return parts[0], parts[1]


def is_name(name: str) -> bool:
    """Whether a table of the lake can have this name."""
    parts = name.split(".")
    return len(parts) == 2 and all(part.replace("_", "a").isalnum() for part in parts)


def snapshot_time(milliseconds: int) -> str:
    """Return a snapshot's time as people read it, UTC."""
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


@contextmanager
def _plain_errors(name: str) -> Iterator[None]:
    """Say what pyiceberg refuses in two lines."""
    from pyiceberg.exceptions import CommitFailedException, TableAlreadyExistsError

    try:
        yield
    except (MLPError, CommitFailedException, TableAlreadyExistsError):
        raise
    except OSError as error:
        raise storage_error(error, f"committing {name}") from error
    except (ValueError, TypeError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InvalidInputError(
            f"The columns do not fit {name}: {reason}.", "Write to another table name, or cast the columns first."
        ) from error
    except Exception as error:
        if "locked" in str(error) or "readonly" in str(error) or "disk" in str(error):
            first = str(error).splitlines()[0]
            raise storage_error(OSError(28 if "full" in first else 30, first, name), f"committing {name}") from error
        raise
