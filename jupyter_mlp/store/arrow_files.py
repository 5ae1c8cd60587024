"""Datasets as Arrow files that a process maps instead of reading: the second look at a dataset costs nothing.

Parquet is the truth; the Arrow form is made beside it at the first whole read of a large dataset, lives in `cache/arrow`
and can be deleted at any time. The oldest go when all of them pass their share of the disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

SMALLEST = 8 * 2**20  # bytes of Parquet; below, reading takes as long as mapping
_DISK_SHARE = 0.2


def mapped(folder: Path, version: str, files: Sequence[str]) -> pa.Table | None:
    """Return the rows of Parquet `files` memory-mapped from `<folder>/<version>.arrow`, made first where it is missing.

    Returns:
        None when the disk has no room for it.
    """
    import pyarrow as pa

    path = folder / f"{version}.arrow"
    if not path.exists() and not _make(path, files):
        return None
    with suppress(OSError):  # a read-only disk, or somebody else's file
        os.utime(path)
    try:
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).read_all()
    except FileNotFoundError:  # removed this moment, to make room
        return None


def _make(path: Path, files: Sequence[str]) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    needed = sum(group.total_byte_size for file in files for group in _groups(file))
    if not _room(path.parent, needed):
        return False
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with pa.OSFile(str(beside), "wb") as sink:
            schema = pq.read_schema(files[0]).remove_metadata()
            with pa.ipc.new_file(sink, schema) as writer:
                for table in _decoded(files):
                    writer.write_table(table.replace_schema_metadata(None))
        beside.replace(path)
    except OSError:
        return False  # a full disk: the Parquet files are read as they are
    finally:
        beside.unlink(missing_ok=True)
    return True


def _decoded(files: Sequence[str]) -> Iterator[pa.Table]:
    """Row groups in order, one decoded ahead while the last is written."""
    from concurrent.futures import ThreadPoolExecutor

    import pyarrow.parquet as pq

    with ThreadPoolExecutor(1) as ahead:
        jobs = [(pq.ParquetFile(file), group) for file in files for group in range(pq.read_metadata(file).num_row_groups)]
        waiting = None
        for file, group in jobs:
            following = ahead.submit(file.read_row_group, group)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()


def _groups(file: str) -> Iterator[Any]:
    import pyarrow.parquet as pq

    meta = pq.read_metadata(file)
    return map(meta.row_group, range(meta.num_row_groups))


def _room(folder: Path, needed: int) -> bool:
    """Whether `needed` bytes fit, after the files used longest ago have made room."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        allowed = int((shutil.disk_usage(folder).free + _size(folder)) * _DISK_SHARE)
        for old in sorted(folder.glob("*.arrow"), key=lambda file: file.stat().st_mtime):
            if _size(folder) + needed <= allowed:
                break
            old.unlink(missing_ok=True)  # whoever has it mapped keeps it
        return needed <= allowed
    except OSError:
        return False


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.arrow*"))
