"""Row groups of Parquet files wherever they lie, only the columns that are wanted, read ahead, and of no file but the one that was pinned.

    a file here          is decoded where it lies
    a file elsewhere     its footer is read once, and of each row group the pieces of the columns, several at a time; then it is
                         compared with what was pinned, and only then decoded

A connection that breaks is tried again for a while; then the training process ends with a sentence, and the next one goes on
from the last checkpoint.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import unquote

from jupyter_mlp.core.errors import Again, InvalidInputError, StorageError
from jupyter_mlp.store import filesystems
from jupyter_mlp.store.fingerprints import public

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

T = TypeVar("T")
Place = tuple[str, int]  # a file and the number of one of its row groups
_TRIES, _WAIT_S = 5, 0.5  # twice as long before each next one: 7.5 s in all
_FOOTER = 2**16  # bytes that are read of a file's end at first; footers are seldom larger
_PIECE = 2**22  # bytes that are asked for at once: aiohttp gathers longer answers the slower
_GAP = 2**17  # bytes that are rather read for nothing than asked around
_NULL = "__HIVE_DEFAULT_PARTITION__"  # how Spark and Hive call a folder of rows without a value
_AT_ONCE, _BUDGET = 8, 2**26  # row groups on their way at once: so many at most, and two or so many bytes


class _Fetched(NamedTuple):
    """A row group on its way to be decoded: what pyarrow opens, and its footer where that was read."""

    source: Any
    footer: pq.FileMetaData | None
    bytes: int


class RowGroups:
    """One reader, of one thread at a time.

    Args:
        pins: what some files were when they were taken: other ones are not read.
        folders: the columns that names of folders say (`year=2013/`), and their types; the files do not have them.
        wait_s: before the first further try, where a connection broke.
        system: the filesystem of these files, where it is open already.
    """

    def __init__(
        self, pins: Mapping[str, str], folders: Mapping[str, str] | None = None, *, wait_s: float = _WAIT_S, system: Any = None
    ) -> None:
        self._pins = pins
        self._folders = folders or {}
        self._wait_s = wait_s
        self._systems: dict[str, Any] = {_server(next(iter(pins))): system} if system else {}  # one a server
        self._footers: dict[str, Future[pq.FileMetaData]] = {}
        self._lock = threading.Lock()

    def footers(self, files: Sequence[str]) -> Iterator[pq.FileMetaData]:
        """Yield the footer of each file."""
        return self._several(files, self.footer, _at_once(files))

    def footer(self, path: str) -> pq.FileMetaData:
        """Return the footer of a file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not filesystems.is_remote(path):
            self._check(path)
            with self._decoding(path):
                return pq.read_metadata(path)
        with self._lock:  # several row groups of a file may be wanted at once: one of them asks
            known = self._footers.get(path)
            if known is None:
                mine = self._footers[path] = Future()
        if known is None:
            try:
                tail = self._asked(path, lambda system, inside: self._tail(system, inside, path))
                with self._decoding(path):
                    mine.set_result(pq.read_metadata(pa.BufferReader(tail)))
            except BaseException as error:
                mine.set_exception(error)
                raise
        return (known or mine).result()

    def tables(self, wanted: Sequence[Place], columns: Sequence[str] | None) -> Iterator[pa.Table]:
        """Yield the rows of row groups, in this order."""
        import pyarrow.parquet as pq

        names = [name for name in columns if name not in self._folders] if columns else None
        if not any(filesystems.is_remote(path) for path, _ in wanted):
            fetched: Iterable[_Fetched] = map(self._local, (path for path, _ in wanted))
        else:
            fetched = self._several(wanted, lambda place: self._fetched(place, names), _at_once([path for path, _ in wanted]))
        for (path, index), (source, footer, _) in zip(wanted, fetched, strict=True):
            with self._decoding(path):
                table = pq.ParquetFile(source, metadata=footer).read_row_group(index, columns=names)
            yield self._with_folders(table, path, columns)

    def _with_folders(self, table: pa.Table, path: str, columns: Sequence[str] | None) -> pa.Table:
        import pyarrow as pa

        for name, kind in self._folders.items():
            if columns is None or name in columns:
                value = pa.scalar(said_by_folder(path, name)).cast(kind)
                table = table.append_column(name, pa.repeat(value, table.num_rows))
        return table

    def _local(self, path: str) -> _Fetched:
        self._check(path)
        return _Fetched(path, None, 0)

    def _fetched(self, place: Place, columns: Sequence[str] | None) -> _Fetched:
        path, index = place
        if not filesystems.is_remote(path):
            return self._local(path)
        footer = self.footer(path)
        spans = _spans(footer, index, columns)

        def read(system: Any, inside: str) -> _Pieces:
            long = _PIECE if system.async_impl else 2**62  # what is asked one after the other is asked for whole
            pieces = [(at, min(at + long, end)) for start, end in spans for at in range(start, end, long)]
            try:
                found = system.cat_ranges([inside] * len(pieces), [a for a, _ in pieces], [b for _, b in pieces], on_error="raise")
            finally:  # also after an error: it may be another file by now
                self._compare(system, inside, path)
            if [len(one) for one in found] != [b - a for a, b in pieces]:
                raise _NotTheseBytesError
            return _Pieces(pieces, found)

        source = self._asked(path, read)
        return _Fetched(source, footer, sum(end - start for start, end in spans))

    def _asked(self, path: str, ask: Callable[[Any, str], T]) -> T:
        """Ask a file's server, a few times where the connection breaks."""
        lost: Exception | None = None
        for turn in range(_TRIES):
            if turn:
                time.sleep(self._wait_s * 2 ** (turn - 1))
            try:
                system, inside = self._system(path)
                return ask(system, inside)
            except Exception as error:
                if isinstance(error, _NotTheseBytesError):
                    raise StorageError(
                        f"The server of {public(path)} gives other parts of the file than it is asked for.",
                        "Copy it into the lake: %mlp_table NAME URL; then --data lake.NAME",
                    ) from error
                if not filesystems.is_lost(error):
                    raise filesystems.sentence(error, path) from error
                lost = error
                self._systems.pop(_server(path), None)  # where one connection was all there was, it is another's turn
        assert lost is not None
        said = filesystems.sentence(lost, path)
        raise Again(f"{said.message} It was tried {_TRIES} times.", said.hint) from lost

    def _system(self, path: str) -> tuple[Any, str]:
        server = _server(path)
        with self._lock:
            system = self._systems.get(server)
            if system is None:
                system = self._systems[server] = filesystems.opened(path)[0]
        return system, system._strip_protocol(path)

    def _check(self, path: str) -> None:
        if path in self._pins:
            import fsspec

            try:
                self._compare(fsspec.filesystem("file"), path, path)
            except FileNotFoundError as error:
                raise InvalidInputError(
                    f"{path} is gone, which was there when the data was taken.", "Put it back, or train again."
                ) from error

    @contextmanager
    def _decoding(self, path: str) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except FileNotFoundError as error:
            raise InvalidInputError(f"{path} is gone.", "Run the query of the dataset again with --fresh.") from error
        except (pa.ArrowInvalid, OSError) as error:
            if filesystems.is_remote(path):  # what makes no sense may be half of another file by now
                self._asked(path, lambda system, inside: self._compare(system, inside, path))
            else:
                self._check(path)
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise InvalidInputError(f"{public(path)} cannot be read as Parquet: {why}", "Check the file.") from error

    def _tail(self, system: Any, inside: str, path: str) -> bytes:
        told = filesystems.info(system, inside)
        self._compare(system, inside, path, told)
        try:
            return _tail_of(system, inside, None if told.get("size") is None else int(told["size"]))
        except Exception:
            self._compare(system, inside, path)  # as everywhere: it may be another file by now
            raise

    def _compare(self, system: Any, inside: str, path: str, told: dict[str, Any] | None = None) -> None:
        pinned = self._pins.get(path)
        if pinned is not None and filesystems.stamp(system, inside, told) != pinned:
            raise StorageError(
                f"{public(path)} changed since it was taken as data: what was learned from would be nobody's version.",
                "Train again: that takes the files as they are now. %mlp_table NAME URL copies them, and nothing can change those.",
            )

    def _several(self, items: Sequence[Any], work: Callable[[Any], Any], most: int) -> Iterator[Any]:
        """Yield the results in order, while threads work on the next ones."""
        if most == 0:
            yield from map(work, items)
            return
        pool, ready, allowed = ThreadPoolExecutor(most, "mlp-fetch"), deque[Future[Any]](), min(2, most)
        try:
            for item in items:
                while len(ready) >= allowed:
                    found = ready.popleft().result()
                    yield found
                    allowed = max(min(2, most), min(most, _BUDGET // max(1, getattr(found, "bytes", 1))))
                ready.append(pool.submit(work, item))
            while ready:
                yield ready.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def said_by_folder(path: str, name: str) -> str | None:
    """Return what the folder nearest to a file says of a column: 2013 of `.../year=2013/part-0.parquet`."""
    found = [unquote(part[len(name) + 1 :]) for part in path.split("/")[:-1] if part.startswith(f"{name}=")]
    return None if not found or found[-1] == _NULL else found[-1]


class _NotTheseBytesError(Exception):
    """A server gave more or less than it was asked for."""


class _Pieces:
    """A file of which only some stretches are there, as pyarrow reads files."""

    closed = False

    def __init__(self, spans: Sequence[tuple[int, int]], pieces: Sequence[bytes]) -> None:
        self._spans, self._pieces = spans, pieces
        self._at, self._size = 0, max(end for _, end in spans) + 8 if spans else 8

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def size(self) -> int:
        return self._size

    def read(self, count: int = -1) -> bytes | memoryview:
        start = self._at
        end = self._at = self._size if count < 0 else min(start + count, self._size)
        parts = [
            memoryview(piece)[max(start - low, 0) : end - low]
            for (low, high), piece in zip(self._spans, self._pieces, strict=True)
            if low < end and start < high
        ]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        return


def _tail_of(system: Any, inside: str, size: int | None) -> bytes:
    """The end of a file with its footer."""
    if size is None:
        raise StorageError(
            f"{public(inside)} has no size that its server tells.", "Copy it into the lake: %mlp_table NAME URL; then --data lake.NAME"
        )
    have = min(_FOOTER, size)
    end = system.cat_file(inside, start=size - have, end=size)
    if len(end) != have:
        raise _NotTheseBytesError
    need = int.from_bytes(end[-8:-4], "little") + 8
    if have < need <= size:
        end = system.cat_file(inside, start=size - need, end=size)
    return bytes(end)


def _spans(footer: pq.FileMetaData, index: int, columns: Sequence[str] | None) -> list[tuple[int, int]]:
    """Where the pieces of some columns lie in a file: beginning and end of each stretch, neighbours in one."""
    group = footer.row_group(index)
    found: list[tuple[int, int]] = []
    for chunk in map(group.column, range(group.num_columns)):
        if columns is None or any(chunk.path_in_schema == name or chunk.path_in_schema.startswith(f"{name}.") for name in columns):
            start = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
            found.append((start, start + chunk.total_compressed_size))
    joined: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if joined and start - joined[-1][1] <= _GAP:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def _at_once(paths: Sequence[str]) -> int:
    """How many threads may ask at once: one where a server's connection is one, none for files that lie here."""
    remote = {_server(path): path for path in paths if filesystems.is_remote(path)}
    if not remote:
        return 0
    return _AT_ONCE if all(map(filesystems.bears_threads, remote.values())) else 1


def _server(path: str) -> str:
    return "/".join(path.split("/")[:3])
