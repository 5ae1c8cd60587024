"""What a lake table can be made from: files anywhere fsspec reaches, and data frames of any kind."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from jupyter_mlp.core.errors import InvalidInputError, NotFoundError
from jupyter_mlp.core.identity import digest
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store.lake import storable

if TYPE_CHECKING:
    import pyarrow as pa

_FORMATS = {"parquet": "parquet", "pq": "parquet", "csv": "csv", "tsv": "csv", "json": "json", "jsonl": "json", "ndjson": "json"}


@dataclass(frozen=True)
class Source:
    """Rows to write: a label for people, the exact files used, the schema as stored, and the rows."""

    label: str
    used: tuple[Ref, ...]
    schema: pa.Schema
    batches: Callable[[], Iterable[pa.RecordBatch]]


class ContentHash:
    """Identity of rows that stream by: the same rows in the same order have the same one."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def over(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the batches unchanged."""
        for number, batch in enumerate(batches):
            if number == 0:
                self._hash.update(batch.schema.serialize())
            self._hash.update(batch.serialize())
            yield batch

    def hexdigest(self) -> str:
        """Return the identity of what passed."""
        return self._hash.hexdigest()


def open_source(source: Any) -> Source:
    """Return the rows of a path, glob, URL or data frame.

    Raises:
        NotFoundError: no file matches.
        InvalidInputError: the format or type is none we read.
    """
    if isinstance(source, str) or hasattr(source, "__fspath__"):
        return _files(str(source))
    table = _arrow(source)
    schema = storable(table.schema)
    kind = type(source).__module__.split(".")[0]
    return Source(f"a {kind} {type(source).__name__} of this notebook", (), schema, lambda: _cast(table, schema).to_batches())


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
        source = source.rename(columns=str)
        return pa.Table.from_pandas(source, preserve_index=False).replace_schema_metadata(None)
    if hasattr(source, "__arrow_c_stream__"):
        return pa.table(source)
    raise InvalidInputError(
        f"A {type(source).__name__} cannot become a table.", "Give a path or URL, a pandas, polars or Spark DataFrame, or an Arrow table."
    )


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    try:
        return table.cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidInputError(f"The rows cannot be stored: {str(error).splitlines()[0]}.", "Cast that column first.") from error


def _files(url: str) -> Source:
    import fsspec
    import pyarrow as pa
    import pyarrow.dataset as ds

    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise InvalidInputError(
            f"{_public(url)} cannot be opened: {error}", "Give a path, or a URL such as s3://bucket/folder/*.parquet."
        ) from error
    paths = _matching(system, path, url)
    kind = _format(paths[0])
    try:
        dataset = ds.dataset(paths, filesystem=system, format=_reader(kind, paths[0]))
        schema = storable(dataset.schema)
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidInputError(
            f"{_public(url)} cannot be read as {kind}: {str(error).splitlines()[0]}", "Check the file, or name another."
        ) from error
    used = tuple(_fingerprint(system, one) for one in paths)
    label = _public(url) + (f" ({len(paths)} files)" if len(paths) > 1 else "")

    def batches() -> Iterable[pa.RecordBatch]:
        for batch in dataset.to_batches():
            yield from _cast(pa.Table.from_batches([batch]), schema).to_batches()

    return Source(label, used, schema, batches)


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
            f"No Parquet, CSV or JSON file at {_public(url)}.", "Check the path; a folder or a glob such as data/*.csv works too."
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


def _fingerprint(system: Any, path: str) -> Ref:
    info = system.info(path)
    version = digest(info.get("size"), str(info.get("mtime") or info.get("LastModified") or info.get("etag") or ""))
    return Ref("file", quote(path, safe="/:._-"), version)


def _public(url: str) -> str:
    """The URL without user and password."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return parts._replace(netloc=parts.netloc.rsplit("@", 1)[1]).geturl()
