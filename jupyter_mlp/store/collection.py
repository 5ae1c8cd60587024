"""One run of the garbage collection, and what it tells: what goes, what went, and who keeps how much."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import expiry, garbage, holders, writers
from jupyter_mlp.store.garbage import Item
from jupyter_mlp.store.holders import Record, Records
from jupyter_mlp.store.table_versions import Change, TableVersions
from jupyter_mlp.store.workspace import Workspace

_MOST_HOLDERS = 5_000  # the newest ones, whose bytes are added up


@dataclass(frozen=True)
class Holder:
    """A thing that nobody else needs, and the bytes that are kept for its sake.

    Attributes:
        bytes: of itself and of everything that it was made from. `alone`: those that would be free without it.
    """

    ref: Ref
    bytes: int
    alone: int


@dataclass(frozen=True)
class Collection:
    """What a run found and did.

    Attributes:
        expired: versions that the workspace's rules let go.
        items: the files that go. `freed`: bytes deleted; 0 in a dry run.
        missing: versions that records refer to and that somebody took past us.
    """

    dry: bool
    expired: tuple[Ref, ...]
    items: tuple[Item, ...]
    freed: int
    holders: tuple[Holder, ...]
    kept: int
    missing: tuple[str, ...] = ()
    seconds: float = 0.0


def collect(workspace: Workspace, dry: bool = True) -> Collection:
    """Find what nothing reaches and, unless `dry`, remove it.

    Raises:
        ConflictError: another clean-up is at work here.
    """
    begun = time.perf_counter()
    workspace.activities.recent(limit=1)  # makes a new workspace, and says it in two lines where it cannot be made
    with writers.alone(workspace.root):
        since = garbage.since(workspace)
        records = holders.read(workspace)
        gone = _expired(workspace, records)
        left = _without(records, gone)
        # What was given again since stands by that younger record: only the old one goes.
        expired = tuple(sorted({ref for record in gone for ref in record.made} - set(left.makers)))
        if not dry:
            _release(workspace, gone)
        records = left if dry else holders.read(workspace)
        planned = garbage.changes(workspace, records, since)
        reached = garbage.reach(workspace, records, planned)
        if not dry:
            garbage.commit(workspace, planned, records)
            # What stays is read again from the tables as they are now; what may go at once is what was planned.
            again = garbage.reach(workspace, records, [(table, Change()) for table, _ in garbage.changes(workspace, records, since)])
            reached = replace(reached, files=again.files)
        items = tuple(garbage.walk(workspace, reached, since))
        freed = 0 if dry else garbage.delete(workspace, items, since)
        missing = tuple(f"table:{table.name}@{one}" for table, change in planned for one in change.missing)
        told, kept = _holders(workspace, records, planned)
    return Collection(dry, expired, items, freed, told, kept, missing, time.perf_counter() - begun)


def _expired(workspace: Workspace, records: Records) -> list[Record]:
    settings = workspace.settings
    if not settings.keep_days and not settings.keep_gb:
        return []
    files = _Files(workspace, records, garbage.changes(workspace, records, writers.Since(0.0, 0.0)))
    newest = {Ref("table", name, version) for name in workspace.lake.names() if (version := workspace.lake.current(name))}
    newest |= {ref for name in workspace.activities.names("dataset") if (ref := workspace.activities.newest("dataset", name))}
    rules = {"keep_days": settings.keep_days, "keep_bytes": settings.keep_gb * 1e9}
    going = expiry.expired(records, time.time(), **rules, newest=newest, files=files.of, size=files.size)
    return going + expiry.ended_badly(records, time.time(), settings.keep_days)


def _release(workspace: Workspace, gone: list[Record]) -> None:
    """Release what the rules let go, and nothing else: a record that the rules keep stands, whatever it has in common with these."""
    ids = {record.id for record in gone}
    with workspace.database.transaction(write=True) as connection:
        for record in gone:
            closed, _, needed = holders.closure(connection, record.made)
            if not needed:  # somebody may have begun to use it since the records were read
                holders.forget(connection, closed if closed and ids.issuperset(closed) else [record.id])


def _without(records: Records, gone: list[Record]) -> Records:
    """The records as they would be without what the rules let go."""
    from jupyter_mlp.core.entities import FORGOTTEN

    ids = {record.id for record in gone}

    def let_go(record: Record) -> Record:
        row = {**record.row, "state": FORGOTTEN}
        return Record(row, record.used, [], [*record.released, *record.made])

    return Records([let_go(record) if record.id in ids else record for record in records.records])


class _Files:
    """The files behind references, and their sizes, each looked up once."""

    def __init__(self, workspace: Workspace, records: Records, tables: list[tuple[TableVersions, Change]]) -> None:
        self._workspace = workspace
        self._records = records
        self._tables = {table.name: table for table, _ in tables}
        self._known: dict[Ref, frozenset[str]] = {}
        self._sizes: dict[str, int] = {}

    def of(self, ref: Ref) -> frozenset[str]:
        """Return the paths of a thing's own files."""
        if ref not in self._known:
            self._known[ref] = frozenset(self._found(ref))
        return self._known[ref]

    def size(self, path: str) -> int:
        """Return a file's bytes; 0 for one that is not there."""
        if path not in self._sizes:
            self._sizes[path] = os.path.getsize(path) if os.path.exists(path) else 0
        return self._sizes[path]

    def _found(self, ref: Ref) -> Iterator[str]:
        if ref.kind == "dataset":
            yield from garbage.dataset_files(self._workspace, self._records.describers(ref))
        elif ref.kind == "table" and ref.name in self._tables and ref.version:
            yield from self._tables[ref.name].files({int(ref.version)}, data_only=True)
        elif ref.kind in ("run", "model", "pipeline"):
            for folder, _, names in os.walk(self._workspace.root / f"{ref.kind}s" / ref.name):
                yield from (os.path.join(folder, name) for name in names)


def _holders(workspace: Workspace, records: Records, tables: list[tuple[TableVersions, Change]]) -> tuple[tuple[Holder, ...], int]:
    """Who keeps how much, the largest first, and all bytes that are kept for anybody."""
    files = _Files(workspace, records, tables)
    kept: dict[str, frozenset[str]] = {}
    for record in list(holders.sinks(records))[-_MOST_HOLDERS:]:
        kept[record.id] = frozenset(path for ref in _upstream(records, record) for path in files.of(ref))
    shared = Counter(path for paths in kept.values() for path in paths)
    found = []
    for record in records.records:
        if record.id in kept:
            paths = kept[record.id]
            alone = sum(files.size(path) for path in paths if shared[path] == 1)
            found.append(Holder(record.made[-1], sum(map(files.size, paths)), alone))
    found = [one for one in found if one.bytes]
    return tuple(sorted(found, key=lambda one: (-one.alone, -one.bytes, one.ref))), sum(map(files.size, shared))


def _upstream(records: Records, record: Record) -> set[Ref]:
    found: set[Ref] = set(record.made)
    waiting = list(record.holds)
    while waiting:
        ref = waiting.pop()
        if ref not in found:
            found.add(ref)
            waiting += [used for maker in records.makers.get(ref, ()) for used in maker.holds]
    return found
