"""The versions of one Iceberg table as the housekeeping sees them: which must stay, which may go, and their files.

A version that a record refers to carries the tag `mlp-<snapshot>`, so that no expiry takes it, ours or another tool's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import catalog_guard
from jupyter_mlp.store.catalog_reads import local_path
from jupyter_mlp.store.commits import FOR_EVER_MS
from jupyter_mlp.store.lake import DATASETS, Lake, split

if TYPE_CHECKING:
    from pyiceberg.table import Table

_TAG = "mlp-"
_MAIN = "main"


@dataclass(frozen=True)
class Change:
    """What the housekeeping does to one table, in one commit.

    Attributes:
        drop: the whole table goes. `head`: the version that the name means from now on, where that changes.
        missing: versions that records refer to and that are gone: taken by somebody past our tags.
    """

    drop: bool = False
    head: int | None = None
    tag: tuple[int, ...] = ()
    untag: tuple[str, ...] = ()
    expire: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.drop or self.head or self.tag or self.untag or self.expire)


@dataclass
class TableVersions:
    """One table at one moment."""

    name: str
    table: Table
    _manifests: dict[str, frozenset[str]] = field(default_factory=dict, repr=False)

    @property
    def head(self) -> int | None:
        """The version that the table's name means."""
        found: int | None = self.table.metadata.current_snapshot_id
        return found

    @cached_property
    def all(self) -> dict[int, int]:
        """Every snapshot and since when it is not the newest: milliseconds since 1970; its own time where it never was."""
        found = {snapshot.snapshot_id: snapshot.timestamp_ms for snapshot in self.table.metadata.snapshots}
        log = self.table.metadata.snapshot_log
        for entry, after in pairwise(log):
            if entry.snapshot_id in found:
                found[entry.snapshot_id] = max(found[entry.snapshot_id], after.timestamp_ms)
        return found

    def change(self, held: set[int], released: set[int], cutoff_s: float) -> Change:
        """Return what to do to the table.

        Args:
            held: versions that records refer to. `released`: versions that records have let go.
            cutoff_s: what is younger may belong to a writer whose record is not closed yet; seconds since 1970.
        """
        refs = self.table.metadata.refs
        ours = {name: ref.snapshot_id for name, ref in refs.items() if name.startswith(_TAG)}
        others = {ref.snapshot_id for name, ref in refs.items() if name != _MAIN and name not in ours}
        released = released - held
        young = {one for one, since in self.all.items() if one not in released and since >= cutoff_s * 1000}
        kept = (held | others | young) & set(self.all)
        private = self.name.startswith(f"{DATASETS}.")
        if self.head is not None and self.head not in released and not private:
            kept.add(self.head)  # what a user's table means now stays, recorded or not
        missing = tuple(sorted(held - set(self.all)))
        if not kept:
            unused = private and self.table.metadata.last_updated_ms < cutoff_s * 1000
            return Change(drop=bool(self.all and (private or released)) or unused, missing=missing)
        head = None if self.head in kept else max(kept & held or kept, key=lambda one: (self._order[one], one))
        return Change(
            head=head,
            tag=tuple(sorted((held & set(self.all)) - set(ours.values()))),
            untag=tuple(sorted(name for name, one in ours.items() if one not in kept)),
            expire=tuple(sorted(set(self.all) - kept)),
            missing=missing,
        )

    def apply(self, lake: Lake, change: Change) -> bool:
        """Commit a change; False where somebody else was faster, and nothing was done."""
        from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
        from pyiceberg.table.update import AssertRefSnapshotId
        from pyiceberg.table.update.snapshot import ExpireSnapshots, ManageSnapshots

        space, table_name = split(self.name)
        if change.drop:
            return catalog_guard.drop(lake.place, space, table_name, self.table.metadata_location)
        if change.tag:
            catalog_guard.hold(lake.place, space, table_name)
        if not change.changes:
            return True
        try:
            with lake.queue(self.name), self.table.transaction() as work:
                work._requirements += (AssertRefSnapshotId.model_validate({"ref": _MAIN, "snapshot-id": self.head}),)
                refs = ManageSnapshots(work)
                for one in change.tag:
                    refs = refs.create_tag(one, tag_of(one), FOR_EVER_MS)
                for name in change.untag:
                    refs = refs.remove_tag(name)
                if change.head is not None:
                    refs = refs.set_current_snapshot(change.head)
                refs.commit()
                if change.expire:
                    ExpireSnapshots(work).by_ids(list(change.expire)).commit()
        except (CommitFailedException, NoSuchTableError):
            return False
        return True

    def files(self, snapshots: Iterable[int], data_only: bool = False) -> set[str]:
        """Return the local paths of everything that some versions are made of."""
        found: set[str] = set()
        metadata = self.table.metadata
        for one in snapshots:
            snapshot = metadata.snapshot_by_id(one)
            if snapshot is None:
                continue
            manifests = snapshot.manifests(self.table.io)
            if not data_only:
                found.add(local_path(snapshot.manifest_list))
                found |= {local_path(manifest.manifest_path) for manifest in manifests}
            for manifest in manifests:
                found |= self._listed(manifest)
        statistics = [*metadata.statistics, *metadata.partition_statistics]
        wanted = set(snapshots)
        return found | {local_path(one.statistics_path) for one in statistics if one.snapshot_id in wanted and not data_only}

    def own_files(self) -> set[str]:
        """Return the table's own description and those before it that it still names."""
        log = self.table.metadata.metadata_log
        return {local_path(self.table.metadata_location), *(local_path(entry.metadata_file) for entry in log)}

    def _listed(self, manifest: Any) -> frozenset[str]:
        if manifest.manifest_path not in self._manifests:
            entries = manifest.fetch_manifest_entry(self.table.io, discard_deleted=True)
            self._manifests[manifest.manifest_path] = frozenset(local_path(entry.data_file.file_path) for entry in entries)
        return self._manifests[manifest.manifest_path]

    @cached_property
    def _order(self) -> dict[int, int]:
        return {snapshot.snapshot_id: snapshot.sequence_number or 0 for snapshot in self.table.metadata.snapshots}


def tag_of(snapshot: int) -> str:
    """Return the name of the tag that protects a version."""
    return f"{_TAG}{snapshot}"


def every(lake: Lake) -> list[TableVersions]:
    """Return all tables of a lake, those of dataset versions too."""
    found = ((name, lake.open(name)) for name in lake.all_names())
    return [TableVersions(name, table) for name, table in found if table is not None]


def protect(lake: Lake, ref: Ref) -> None:
    """Tag a version that a record refers to, where its writer has not; only this lake's own tables need it."""
    table = lake.open(ref.name) if ref.kind == "table" and ref.version and ref.version.isdigit() else None
    if table is None or table.snapshot_by_id(int(str(ref.version))) is None:
        return
    if tag_of(int(str(ref.version))) not in table.metadata.refs:
        lake.tag(table, int(str(ref.version)))
    catalog_guard.hold(lake.place, *split(ref.name))
