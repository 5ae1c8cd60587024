"""Many small files of a table become few large ones: the same rows in the same order as a new version."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.errors import ConflictError, NotFoundError, nearest
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import table_versions
from jupyter_mlp.store.sources import ContentHash
from jupyter_mlp.store.storable import storable
from jupyter_mlp.store.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

_ATTEMPTS = 5
_ENOUGH = 128 * 2**20  # bytes: files of this size are left as they are


@dataclass(frozen=True)
class Compaction:
    """A table before and after: its version, number of files, bytes; `changed` is False where there was nothing to do."""

    ref: Ref
    files: tuple[int, int]
    bytes: tuple[int, int]
    rows: int
    changed: bool


def compact(workspace: Workspace, name: str) -> Compaction:
    """Write a table's newest version into as few files as are reasonable, and return what it came to.

    Rows that another tool marked as deleted (merge-on-read) are left out for good, so that any reader can read the files.

    Raises:
        NotFoundError: there is no such table here. ConflictError: others wrote it all the time.
    """
    for _ in range(_ATTEMPTS):
        table = workspace.lake.open(name)
        snapshot = table.current_snapshot() if table is not None else None
        if table is None or snapshot is None:
            hint = nearest(name, workspace.lake.names()) or "The lake is empty; make a table first: %mlp_table lake.NAME FILE_OR_FRAME"
            raise NotFoundError(f"No table {name} in the lake.", hint)
        base = Ref("table", name, str(snapshot.snapshot_id))
        tasks = list(table.scan().plan_files())
        small = [task for task in tasks if task.file.file_size_in_bytes < _ENOUGH]
        before = (len(tasks), sum(task.file.file_size_in_bytes for task in tasks), sum(task.file.record_count for task in tasks))
        if len(small) < 2 and not any(task.delete_files for task in tasks):
            return Compaction(base, (before[0], before[0]), (before[1], before[1]), before[2], False)
        done = _rewritten(workspace, table, base)
        if done is not None:
            after = list(table.refresh().scan(snapshot_id=int(str(done.version))).plan_files())
            sizes = (before[1], sum(task.file.file_size_in_bytes for task in after))
            return Compaction(done, (before[0], len(after)), sizes, sum(task.file.record_count for task in after), True)
    raise ConflictError(f"{name} is being written by others: {_ATTEMPTS} attempts lost the race.", "Run it again when they are done.")


def _rewritten(workspace: Workspace, table: Any, base: Ref) -> Ref | None:
    """The new version with the rows of `base`; None where somebody wrote the table meanwhile."""
    name, version = base.name, str(base.version)
    schema = storable(workspace.lake.schema(name, version))
    content = ContentHash(schema)
    staged = workspace.lake.stage(name, content.over(_rows(table, schema)), schema)
    with workspace.lake.leased(staged):
        with workspace.activities.recording("compact", name=name, used=[base]) as draft:
            table_versions.protect(workspace.lake, base)
            snapshot = workspace.lake.replace_files(name, version, staged)
            if snapshot is not None:
                draft.made.append(Ref("table", name, snapshot))
                columns = [[column.name, str(column.type)] for column in schema]
                draft.facts.update(rows=workspace.lake.rows(name, snapshot), columns=columns, content=content.hexdigest())
        if snapshot is None:
            workspace.lake.discard(staged)
            return None
    workspace.seen[name] = snapshot
    return draft.made[0]


def _rows(table: Any, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    for batch in table.scan().to_arrow_batch_reader():
        yield from pa.Table.from_batches([batch]).cast(schema).to_batches()
