"""What a lake table can be made from: files anywhere fsspec reaches, and data frames of any kind."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.errors import InvalidInputError, MLPError, NotFoundError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store.fingerprints import fingerprint, public
from jupyter_mlp.store.storable import storable

if TYPE_CHECKING:
    import pyarrow as pa

_FORMATS = {"parquet": "parquet", "pq": "parquet", "csv": "csv", "tsv": "csv", "json": "json", "jsonl": "json", "ndjson": "json"}
# What pyarrow says before it says what is wrong: the path again, and that it could not.
_AROUND = re.compile(r"^Error creating dataset\. .*? input source '.*?': (?:Invalid: )?")


@dataclass(frozen=True)
class Source:
    """Rows to write: a label for people, the exact files used, the schema as stored, and the rows.

    Attributes:
        given: the schema as it came.
        lying: paths of the Parquet files themselves, where they are to stay where they are.
    """

    label: str
    used: tuple[Ref, ...]
    schema: pa.Schema
    given: pa.Schema
    batches: Callable[[], Iterable[pa.RecordBatch]]
    lying: tuple[str, ...] = ()


class ContentHash:
    """Identity of rows that stream by: the same rows in the same order under the same columns have the same one."""

    def __init__(self, schema: pa.Schema) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._schema = schema
        self._empty = True

    def over(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the batches unchanged."""
        for batch in batches:
            if self._empty:
                self._hash.update(batch.schema.serialize())
                self._empty = False
            self._hash.update(batch.serialize())
            yield batch

    def hexdigest(self) -> str:
        """Return the identity of what passed."""
        if self._empty:  # no rows have columns too
            return hashlib.blake2b(self._schema.serialize(), digest_size=16).hexdigest()
        return self._hash.hexdigest()


def open_source(source: Any, in_place: bool = False) -> Source:
    """Return the rows of a path, glob, folder, URL or data frame.

    Args:
        in_place: the files are to stay where they are.

    Raises:
        NotFoundError: no file matches.
        InvalidInputError: the format or type is none we read, or the files cannot serve as they lie.
    """
    if isinstance(source, str) or hasattr(source, "__fspath__"):
        return _files(str(source), in_place)
    if in_place:
        raise InvalidInputError("A frame lies nowhere: only files can stay in place.", "Leave out --in-place.")
    table = _arrow(source)
    if not table.schema.names:
        raise InvalidInputError("The frame has no columns.", "Give one with a column at least; it may have no rows.")
    schema = storable(table.schema)
    kind = type(source).__module__.split(".")[0]
    return Source(f"a {kind} {type(source).__name__} of this notebook", (), schema, table.schema, lambda: _cast(table, schema).to_batches())


def _arrow(source: Any) -> pa.Table:
    import pyarrow as pa

    if isinstance(source, pa.Table):
        return source
    kind = type(source)  # a Spark frame answers any attribute with a column
    if hasattr(kind, "to_arrow") and hasattr(kind, "ref"):
        ours: pa.Table = source.to_arrow()
        return ours
    if hasattr(kind, "toArrow"):
        theirs: pa.Table = source.toArrow()
        return theirs
    if kind.__module__.startswith("pandas") and hasattr(source, "columns"):
        return _of_pandas(source.rename(columns=str))
    if hasattr(source, "__arrow_c_stream__"):
        return pa.table(source)
    raise InvalidInputError(
        f"A {type(source).__name__} cannot become a table.", "Give a path or URL, a pandas, polars or Spark DataFrame, or an Arrow table."
    )


def _of_pandas(frame: Any) -> pa.Table:
    import pyarrow as pa

    try:
        return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    except (pa.ArrowException, ValueError, TypeError) as error:  # columns of several types, of Python objects, of one name
        reason = ": ".join(str(one).rstrip(".") for one in reversed(error.args))
        raise InvalidInputError(
            f"The frame cannot become a table: {reason}.",
            "Give every column a name of its own and one type: frame.astype({'column': str}).",
        ) from error


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    try:
        return table.cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidInputError(f"The rows cannot be stored: {str(error).splitlines()[0]}.", "Cast that column first.") from error


def _files(url: str, in_place: bool) -> Source:
    import fsspec
    import pyarrow as pa

    if not url.strip():
        raise InvalidInputError("No file was named.", "Give a path, a folder, a glob such as data/*.csv, or a URL.")
    try:
        system, path = fsspec.core.url_to_fs(url)
        paths = _matching(system, path, url)
    except (ValueError, ImportError, OSError) as error:
        if isinstance(error, MLPError):
            raise
        raise InvalidInputError(
            f"{public(url)} cannot be opened: {public(str(error))}", "Give a path, or a URL such as s3://bucket/folder/*.parquet."
        ) from error
    kinds = sorted({_format(one) for one in paths})
    if len(kinds) > 1:
        raise InvalidInputError(
            f"{public(url)} holds files of several formats: {', '.join(kinds)}.",
            f"Name one kind, like {public(url).rstrip('/')}/*.{kinds[0]}.",
        )
    with _unreadable(url, kinds[0]):
        dataset = _dataset(system, paths, kinds[0], _above(system, path))
    unread = [column.name for column in dataset.schema if kinds[0] == "csv" and pa.types.is_binary(column.type)]
    if unread:  # texts are binary to pyarrow where they are not UTF-8
        raise InvalidInputError(
            f"{public(url)} is not UTF-8 in the column {unread[0]}.",
            "Save it as UTF-8, or read it with pandas and give the frame: pd.read_csv(PATH, encoding='latin-1').",
        )
    schema = storable(dataset.schema)
    used = tuple(fingerprint(system, one, footer=in_place) for one in paths)
    label = public(url) + (f" ({len(paths)} files)" if len(paths) > 1 else "")
    if in_place:
        in_files = dataset.schema.names == next(dataset.get_fragments()).physical_schema.names
        return Source(label, used, schema, dataset.schema, tuple, _lying(system, paths, kinds[0], dataset.schema, in_files))

    def batches() -> Iterable[pa.RecordBatch]:
        with _unreadable(url, kinds[0]):
            for batch in dataset.to_batches():
                yield from _cast(pa.Table.from_batches([batch]), schema).to_batches()

    return Source(label, used, schema, dataset.schema, batches)


def _dataset(system: Any, paths: list[str], kind: str, above: str) -> Any:
    """The rows of all files, under the columns of all of them; `year=2013/` below `above` is a column."""
    import pyarrow.dataset as ds

    if kind == "json" and _is_array(system, paths[0]):
        return ds.dataset([_array(system, path) for path in paths])
    options = {"format": _reader(kind, paths[0]), "partitioning": ds.partitioning(flavor="hive"), "partition_base_dir": above}
    first = ds.dataset(paths, filesystem=system, **options)
    if len(paths) == 1:
        return first
    files = ds.FileSystemDatasetFactory(
        first.filesystem,
        paths,
        first.format,
        ds.FileSystemFactoryOptions(partition_base_dir=above, partitioning=ds.HivePartitioning.discover()),
    )
    # Without this the first file's columns would be everyone's: what the others have more would be lost without a word.
    return files.finish(files.inspect(promote_options="permissive", fragments=None))


def _is_array(system: Any, path: str) -> bool:
    """Whether a JSON file is one array of objects and not an object a line."""
    with system.open(path, "rb", compression="infer") as file:
        return bool(file.read(4096).lstrip()[:1] == b"[")


def _array(system: Any, path: str) -> Any:
    import json

    import pyarrow as pa
    import pyarrow.dataset as ds

    with system.open(path, "rb", compression="infer") as file:
        found = json.load(file)
    if not all(isinstance(one, dict) for one in found):
        raise ValueError("its array holds something else than objects")
    return ds.dataset(pa.Table.from_pylist(found))


@contextmanager
def _unreadable(url: str, kind: str) -> Iterator[None]:
    """Say in one sentence why files cannot be read."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        if isinstance(error, MLPError):
            raise
        reason = _AROUND.sub("", str(error).strip().splitlines()[0]).rstrip(".")
        raise InvalidInputError(f"{public(url)} cannot be read as {kind}: {public(reason)}.", "Check the file, or name another.") from error


def _lying(system: Any, paths: list[str], kind: str, schema: pa.Schema, in_files: bool) -> tuple[str, ...]:
    """The paths themselves, if Iceberg and Spark can read these files as they are."""
    import pyarrow.types as is_

    copied = "Leave out --in-place: then they are copied into the lake."
    if system.protocol not in ("file", ("file", "local")):
        raise InvalidInputError("Only files of this machine's own folders can stay in place.", copied)
    if kind != "parquet":
        raise InvalidInputError(f"Only Parquet files can stay in place, these are {kind}.", copied)
    if not in_files:
        raise InvalidInputError("Columns that only the folders' names say cannot stay in place.", copied)
    if any(mark in path for path in paths for mark in "?#"):
        raise InvalidInputError("A file whose path has ? or # in it cannot stay in place: Iceberg could not name it.", copied)
    for column in schema:
        type_ = column.type
        if (
            is_.is_unsigned_integer(type_)
            or is_.is_duration(type_)
            or is_.is_null(type_)
            or (is_.is_timestamp(type_) and type_.unit == "ns")
        ):
            raise InvalidInputError(f"The column {column.name} is {type_}, which a lake table cannot read in place.", copied)
    return tuple(paths)


def _above(system: Any, path: str) -> str:
    """The folder that was named: what lies below it is told apart by the names of folders."""
    fixed = path.split("*")[0].split("?")[0].split("[")[0]
    return fixed.rstrip("/") if fixed == path and system.isdir(path) else fixed.rpartition("/")[0]


def _matching(system: Any, path: str, url: str) -> list[str]:
    if any(mark in path for mark in "*?["):
        found = system.glob(path)
    elif system.isdir(path):
        found = system.find(path)
    else:
        found = [path] if system.exists(path) else []
    found = sorted(one for one in found if _format_or_none(one))
    if not found:
        raise NotFoundError(
            f"No Parquet, CSV or JSON file at {public(url)}.", "Check the path; a folder or a glob such as data/*.csv works too."
        )
    return found


def _format_or_none(path: str) -> str | None:
    name = path.rsplit("/", 1)[-1].lower().removesuffix(".gz").removesuffix(".zst")
    return None if name.startswith(("_", ".")) else _FORMATS.get(name.rsplit(".", 1)[-1])


def _format(path: str) -> str:
    found = _format_or_none(path)
    assert found is not None
    return found


def _reader(kind: str, path: str) -> Any:
    import pyarrow.csv as pc
    import pyarrow.dataset as ds

    if kind != "csv":
        return kind
    delimiter = "\t" if ".tsv" in path.lower() else ","
    # A large first block, because the types of all rows are taken from it.
    return ds.CsvFileFormat(
        parse_options=pc.ParseOptions(delimiter=delimiter, newlines_in_values=True), read_options=pc.ReadOptions(block_size=64 * 2**20)
    )
