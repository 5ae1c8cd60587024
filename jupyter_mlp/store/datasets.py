"""Dataset versions: immutable Parquet files of the lake, and the object that hands them over."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.cards import Card, Shown, count_text, size_text
from jupyter_mlp.core.entities import Activity
from jupyter_mlp.core.errors import InvalidInputError, StorageError
from jupyter_mlp.core.identity import digest, plain
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import arrow_files, previews
from jupyter_mlp.store.activities import Draft
from jupyter_mlp.store.ahead import ahead
from jupyter_mlp.store.filesystems import is_place
from jupyter_mlp.store.fingerprints import public
from jupyter_mlp.store.lake import DATASETS
from jupyter_mlp.store.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from jupyter_mlp.store.row_groups import RowGroups

_HASHED_CELLS = 100_000_000  # a second or two; the identity of larger results is not looked at
_MEMORY_SHARE = 0.8


@dataclass(frozen=True, repr=False)
class DatasetVersion(Shown):
    """An immutable result: its rows, the query that made it, and the exact versions that the query read.

    Attributes:
        inputs: exact references of everything it was computed from.
        sql: the query as the user wrote it; empty for datasets made otherwise.
        rows: number of rows. `bytes`: size of the files.
        reused: whether it was answered without running anything.
        seconds: how long this answer took.
        pins: what files that are not ours were when they were taken: what has changed since is not read.
        folders: columns that only the names of their folders say, and their types.
        elsewhere: whether the files are others': those of a table, or of a URL.
    """

    reference: Ref
    inputs: tuple[Ref, ...]
    sql: str
    parameters: Mapping[str, Any]
    rows: int
    bytes: int
    files: list[str]
    content: str
    preview: Mapping[str, Any] = field(default_factory=dict, compare=False)
    notes: tuple[str, ...] = ()
    reused: bool = False
    seconds: float = 0.0
    engine: Callable[[], Any] | None = None
    cache: Path | None = None
    pins: Mapping[str, str] = field(default_factory=dict, compare=False)
    folders: Mapping[str, str] = field(default_factory=dict, compare=False)
    elsewhere: bool = False

    @property
    def ref(self) -> str:
        """The exact reference, as text."""
        return str(self.reference)

    @property
    def stem(self) -> str:
        """What is named after it is called so: a dataset's name, a table's or a folder's last word."""
        if not self.elsewhere:
            return self.reference.name
        if self.reference.kind == "table":
            return self.reference.name.split(".")[-1]
        plain = re.split(r"[*\[]", self.reference.name)[0]
        parts = [part.removesuffix(".parquet") for part in plain.removesuffix("/").partition("://")[2].split("/")[1:] or plain.split("/")]
        return re.sub(r"\W+", "_", parts[-1]).strip("_") or "files"

    def to_spec(self) -> dict[str, Any]:
        """Return what a job needs to read it, as JSON types."""
        return {"ref": self.ref, "files": self.files, "pins": dict(self.pins), "folders": dict(self.folders)}

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        import pyarrow as pa

        in_files = self._reader.footer(self.files[0]).schema.to_arrow_schema().remove_metadata()
        return pa.schema([*in_files, *(pa.field(name, kind) for name, kind in self.folders.items())])

    def to_arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows as an Arrow table, in the order of the query."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._known(columns)
        mapped = self._mapped()
        if mapped is not None:
            return mapped.select(list(columns)) if columns is not None else mapped
        self._fits_in_memory(columns)
        if self.elsewhere:
            return pa.concat_tables(self._row_groups(columns)).replace_schema_metadata(None)
        tables = [pq.read_table(path, columns=columns, partitioning=None) for path in self.files]
        return pa.concat_tables(tables).replace_schema_metadata(None)

    def to_pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the rows as a pandas DataFrame."""
        self._known(columns)
        self._fits_in_memory(columns)
        return self.to_arrow(columns).to_pandas()

    def to_polars(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the rows as a polars DataFrame."""
        import polars as pl

        frame = pl.from_arrow(self.to_arrow(columns))
        assert isinstance(frame, pl.DataFrame)
        return frame

    def batches(self, columns: Sequence[str] | None = None, batch_size: int = 65_536) -> Iterator[pa.RecordBatch]:
        """Yield the rows as Arrow batches of at most `batch_size` rows; memory stays flat."""
        import pyarrow.parquet as pq

        self._known(columns)
        if self.elsewhere:
            for table in ahead(self._row_groups(columns), "mlp-decode"):
                yield from table.to_batches(max_chunksize=batch_size)
            return
        for path in self.files:
            yield from pq.ParquetFile(path).iter_batches(batch_size=batch_size, columns=list(columns) if columns else None)

    def spark(self) -> Any:
        """Return the rows as a Spark DataFrame over the same files."""
        if self.elsewhere:
            raise InvalidInputError(
                f"{self.reference.short} is read where it lies, and Spark reads tables.", "%mlp_table NAME URL makes one of it."
            )
        if self.engine is None:
            raise InvalidInputError("This dataset was loaded without Spark.", f"mlp.dataset('{self.ref}').spark()")
        return self.engine().frame(self.files, self.schema)

    def loader(self, batch_size: int = 1024, columns: Sequence[str] | None = None) -> Any:
        """Return a torch DataLoader of dicts {column: tensor [batch]}, numbers and booleans only.

        Raises:
            InvalidInputError: a column holds no numbers.
        """
        from jupyter_mlp.store.tensors import batch_loader

        return batch_loader(self, batch_size, columns)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the rows, as JSON types."""
        return {
            "ref": self.ref,
            "kind": "dataset",
            "rows": self.rows,
            "bytes": self.bytes,
            "columns": list(self.preview["columns"]),
            "inputs": [str(ref) for ref in self.inputs],
            "sql": self.sql,
            "parameters": dict(self.parameters),
            "content": self.content,
            "reused": self.reused,
            "seconds": round(self.seconds, 4),
            "notes": list(self.notes),
        }

    def card(self) -> Card:
        """Return a preview: first rows, types, count, versions read, time taken."""
        how = f"reused, {self.seconds * 1000:,.0f} ms" if self.reused else f"{self.seconds:,.2f} s"
        return Card(
            title=f"{self.reference.short}  {count_text(self.rows, 'row')} x {count_text(len(self.preview['columns']), 'column')}",
            facts=[("read", ", ".join(ref.short for ref in self.inputs) or "no tables"), ("took", how), ("size", size_text(self.bytes))],
            tables=[previews.table(self.preview)],
            notes=self.notes,
        )

    def head(self, rows: int = 20, sort: str | None = None) -> Rows:
        """Return the first rows; `sort="delay"` the lowest of that column first, `sort="-delay"` the highest.

        Raises:
            NotFoundError: there is no such column; the hint names the nearest.
        """
        if sort is None:
            return Rows(self.reference, previews.first_rows(self.files, self.schema, rows), self.rows)
        column = sort.removeprefix("-")
        self._known([column])
        order = "descending" if sort.startswith("-") else "ascending"
        return Rows(self.reference, previews.sorted_rows(self.batches(), self.schema, column, order, rows), self.rows, sort)

    def profile(self) -> Profile:
        """Return one line a column: type, nulls, lowest and highest value."""
        return Profile(self.reference, self.preview)

    def _row_groups(self, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        """Yield the rows of files that are not ours: only of those that are what they were when they were taken."""
        footers = zip(self.files, self._reader.footers(self.files), strict=True)
        places = [(path, at) for path, footer in footers for at in range(footer.num_row_groups)]
        names = list(columns) if columns is not None else self.schema.names
        return (table.select(names) for table in self._reader.tables(places, names))

    @cached_property
    def _reader(self) -> RowGroups:
        from jupyter_mlp.store.row_groups import RowGroups  # only files that are not ours are read by it

        return RowGroups(self.pins, self.folders)

    def _mapped(self) -> pa.Table | None:
        if self.cache is None or self.bytes < arrow_files.SMALLEST:
            return None
        return arrow_files.mapped(self.cache, str(self.reference.version), self.files)

    def _known(self, columns: Sequence[str] | None) -> None:
        from jupyter_mlp.core.errors import NotFoundError, nearest

        for name in columns or ():
            if name not in self.schema.names:
                raise NotFoundError(f"{self.reference.short} has no column {name}.", nearest(name, self.schema.names))

    def _fits_in_memory(self, columns: Sequence[str] | None) -> None:
        import psutil

        from jupyter_mlp.store import memory

        free = psutil.virtual_memory().available
        needed = self.bytes if self.elsewhere else memory.needed(self.files, columns, free * _MEMORY_SHARE)
        if needed > free * _MEMORY_SHARE:
            raise InvalidInputError(
                f"{self.reference.short} needs about {size_text(needed)} in memory; {size_text(free)} are free.",
                "Take some columns (to_arrow(['a', 'b'])), stream it (batches(), loader()), or stay in Spark (spark()).",
            )


@dataclass(frozen=True, repr=False, eq=False)
class Rows(Shown):
    """Some rows of a dataset version."""

    reference: Ref
    table: pa.Table
    of: int
    sort: str | None = None

    @property
    def ref(self) -> str:
        """The dataset version, as text."""
        return str(self.reference)

    def to_dict(self) -> dict[str, Any]:
        """Return the rows as JSON types."""
        return {"ref": self.ref, "kind": "rows", "of": self.of, "sort": self.sort, "rows": plain(self.table.to_pylist())}

    def card(self) -> Card:
        """Return the rows as a table."""
        by = f", by {self.sort}" if self.sort else ""
        title = f"{self.reference.short}  {self.table.num_rows:,} of {self.of:,} rows{by}"
        return Card(title, tables=[previews.as_table(self.table)])


@dataclass(frozen=True, repr=False, eq=False)
class Profile(Shown):
    """What the columns of a dataset version look like, from the footers of its files."""

    reference: Ref
    preview: Mapping[str, Any]

    @property
    def ref(self) -> str:
        """The dataset version, as text."""
        return str(self.reference)

    def to_dict(self) -> dict[str, Any]:
        """Return the columns as JSON types."""
        return {"ref": self.ref, "kind": "profile", "rows": self.preview["rows"], "columns": list(self.preview["columns"])}

    def card(self) -> Card:
        """Return one line a column."""
        return Card(f"{self.reference.short}  {self.preview['rows']:,} rows", tables=[previews.profile(self.preview)])


def load(workspace: Workspace, ref: Ref | str, engine: Callable[[], Any] | None = None) -> DatasetVersion:
    """Return the dataset version that `ref` names, checking that its files are still there.

    Raises:
        NotFoundError: there is no such dataset or version.
        StorageError: its files were removed behind our back.
    """
    if isinstance(ref, str) and is_place(ref):
        raise InvalidInputError(
            f"{public(ref)} names files, not a dataset; only a training, an evaluation and an explanation read those where they lie.",
            f"%mlp_table NAME {public(ref)} copies them into the lake; then %%mlp_data DATASET with SELECT * FROM lake.NAME",
        )
    exact = workspace.activities.resolve(Ref.parse(ref, kind="dataset") if isinstance(ref, str) else ref)
    maker = workspace.activities.maker(exact)
    if maker is None:
        raise StorageError(f"{exact} has no record.", "Restore the records database from a backup.")
    return of_activity(workspace, maker, exact, engine)


def of_activity(workspace: Workspace, activity: Activity, ref: Ref, engine: Callable[[], Any] | None = None) -> DatasetVersion:
    """Return the dataset version that an activity made."""
    facts = activity.facts["dataset"]
    files = [str(workspace.find(name)) for name in facts["files"]]
    missing = [path for path in files if not os.path.exists(path)]
    if missing:
        raise StorageError(
            f"{ref.short} cannot be read: {len(missing)} of its {len(files)} files are gone, {missing[0]} first.",
            "Restore them from a backup, or run its query again with --fresh.",
        )
    return DatasetVersion(
        ref,
        tuple(r for r in activity.used if r.kind in ("table", "dataset", "file", "model")),
        activity.parameters.get("sql", ""),
        activity.parameters.get("params", {}),
        facts["rows"],
        facts["bytes"],
        files,
        facts["content"],
        facts["preview"],
        tuple(facts.get("notes", ())),
        engine=engine,
        cache=workspace.root / "cache" / "arrow",
    )


def publish(workspace: Workspace, draft: Draft, name: str, write: Callable[[Path], Sequence[str]], version: str | None = None) -> Ref:
    """Let `write` fill a folder with Parquet files, commit them to the lake and add the version to the draft.

    Args:
        write: gets a folder that does not exist yet, returns notes for the reader.
        version: hexadecimal; a fresh one when left out.
    """
    import pyarrow.parquet as pq

    from jupyter_mlp.store import content

    check_name(name)
    folder = workspace.root / "lake" / DATASETS / name / os.urandom(16).hex()
    notes = list(write(folder))
    paths = sorted(str(path) for path in folder.glob("*.parquet"))
    for path in paths:
        _sync(path)
    schema = pq.read_schema(paths[0]).remove_metadata()
    shape = digest([(column.name, str(column.type)) for column in schema])[:8]
    table = f"{DATASETS}.{name}__{shape}"
    # A table of its own for each shape of columns: old versions stay readable for every Iceberg reader.
    snapshot = workspace.lake.add(table, schema, paths)
    ref = Ref("dataset", name, version or os.urandom(16).hex())
    rows = sum(pq.read_metadata(path).num_rows for path in paths)
    draft.made.append(ref)
    draft.facts["dataset"] = {
        "table": table,
        "snapshot": snapshot,
        "files": [os.path.relpath(path, workspace.root) for path in paths],
        "rows": rows,
        "bytes": sum(os.path.getsize(path) for path in paths),
        "content": content.of_files(paths) if rows * len(schema) <= _HASHED_CELLS else "",
        "preview": previews.make(paths, schema, rows),
        "notes": notes,
    }
    return ref


def publish_table(workspace: Workspace, draft: Draft, name: str, table: pa.Table) -> Ref:
    """Publish an Arrow table as a new version of the dataset `name`; adds it to the draft and returns its reference."""
    import pyarrow.parquet as pq

    from jupyter_mlp.core.errors import storage_error
    from jupyter_mlp.store.storable import storable

    def write(folder: Path) -> list[str]:
        try:
            folder.mkdir(parents=True, mode=0o700)
            pq.write_table(table.cast(storable(table.schema)), folder / "part-0.parquet", compression="zstd", row_group_size=131_072)
        except OSError as error:
            raise storage_error(error, f"writing {name}") from error
        return []

    return publish(workspace, draft, name, write)


def check_name(name: str, what: str = "dataset") -> None:
    """Refuse a name that could not be a Python name in the notebook."""
    if not name.isidentifier() or not name.isascii() or name != name.lower():
        raise InvalidInputError(f"{name!r} cannot name a {what}.", "Use lower-case letters, digits and _, like trips_2013.")


def _sync(path: str) -> None:
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())
